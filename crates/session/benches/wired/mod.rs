//! Sessions of a broker in memory, and the bytes on both sides of them: no sockets, no disk.

use std::io::IoSlice;
use std::sync::Arc;
use std::task::Waker;

use bytes::BytesMut;
use leveret_broker::{Broker, BrokerConfig};
use leveret_codec::{FieldTable, PROTOCOL_HEADER, encode_table};
use leveret_message::{Message, Timestamp};
use leveret_session::{Peer, Session};
use leveret_store_api::MemoryStore;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn broker() -> Arc<Broker> {
    let store = Arc::new(MemoryStore::<Message>::new());
    Broker::open(BrokerConfig::default(), store, NOW).expect("a broker")
}

/// A session and the bytes on both sides of it.
pub(crate) struct Wired {
    session: Session,
    input: BytesMut,
    pub(crate) output: Vec<u8>,
}

/// A method frame.
pub(crate) fn method(channel: u16, class: u16, method: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let arguments = arguments.concat();
    let length = u32::try_from(arguments.len() + 4).expect("a length");
    let mut bytes = vec![1];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes.extend(method.to_be_bytes());
    bytes.extend(arguments);
    bytes.push(0xCE);
    bytes
}

impl Wired {
    /// An open connection with channel 1.
    pub(crate) fn open(broker: &Arc<Broker>) -> Wired {
        let peer = Peer {
            remote: ([127, 0, 0, 1], 40_000).into(),
            local: ([127, 0, 0, 1], 5672).into(),
            tls_identity: None,
            listed: true,
        };
        let mut wired = Wired {
            session: Session::new(broker, peer, Waker::noop().clone(), NOW),
            input: BytesMut::new(),
            output: Vec::new(),
        };
        let table = encode_table(&FieldTable::default());
        let table_length = u32::try_from(table.len()).expect("a length").to_be_bytes();
        wired.send(&PROTOCOL_HEADER);
        let login: &[u8] = b"\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
        wired.send(&method(0, 10, 11, &[&table_length, &table, login]));
        wired.send(&method(0, 10, 31, &[&[7, 255, 0, 2, 0, 0, 0, 0]]));
        wired.send(&method(0, 10, 40, &[b"\x01/\0\0"]));
        wired.send(&method(1, 20, 10, &[b"\0"]));
        wired
    }

    /// Has the session read these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.session.receive(&mut self.input, NOW);
        self.pump();
    }

    /// Takes out what the session has to say, as a socket would, and answers how many bytes it was.
    pub(crate) fn pump(&mut self) -> usize {
        self.session.handle_wake(NOW);
        self.session.transmit(NOW);
        self.output.clear();
        let output = self.session.output();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = output.fill_slices(&mut slices);
            for slice in slices.iter().take(filled) {
                self.output.extend_from_slice(slice);
            }
            let taken = slices.iter().take(filled).map(|slice| slice.len()).sum();
            output.advance(taken);
        }
        self.output.len()
    }
}
