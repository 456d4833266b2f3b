//! Keys and producers' numbers as the store keeps them: messages like all others, with nothing but a
//! body. Old records must stay readable.

use leveret_codec::{Properties, decode_header, write_names};
use leveret_message::{Body, Message, MessageScratch, Store, damaged};
use leveret_store_api::{LogId, Sequence, StoredMessage};

use super::key::{Key, Number};

/// Bytes read from the store at once.
const READ_BYTES: usize = 1 << 20;

/// A record with this body.
fn record(body: &[u8]) -> Message {
    let mut names = Vec::new();
    write_names(&mut names, b"", b"");
    let payload = Properties::default().encode_header(body.len() as u64);
    let header = decode_header(&payload).unwrap_or(leveret_codec::ContentHeader {
        payload: &payload,
        body_size: body.len() as u64,
        properties: Properties::default(),
    });
    Message::compose(
        &mut MessageScratch::default(),
        &names,
        &header,
        Body::Borrowed(body),
    )
}

/// The record of a key.
pub(crate) fn of_key(key: &Key) -> Message {
    record(&key.0)
}

/// The key of a record.
pub(crate) fn key(record: &Message) -> Option<Key> {
    record.body().try_into().ok().map(Key)
}

/// The record of a producer's latest number.
pub(crate) fn of_number(number: &Number) -> Message {
    let sequence = number.sequence.to_be_bytes();
    record(&[&sequence[..], &number.producer.0].concat())
}

/// A producer's latest number.
pub(crate) fn number(record: &Message) -> Option<Number> {
    let (sequence, producer) = record.body().split_first_chunk()?;
    Some(Number {
        producer: Key(producer.try_into().ok()?),
        sequence: u64::from_be_bytes(*sequence),
    })
}

/// What was read of a log of records.
pub(crate) struct Records {
    /// The next sequence.
    pub(crate) next: u64,
    /// So many could not be read.
    pub(crate) damaged: u64,
}

/// Reads all records of a log in their order. Blocks on files.
pub(crate) fn read_all(
    store: &Store,
    log: LogId,
    whose: &str,
    mut take: impl FnMut(&StoredMessage<Message>),
) -> Records {
    let (mut next, mut damaged_count) = (0, 0);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let read = store.read(log, Sequence(next), usize::MAX, READ_BYTES, &mut buffer);
        let damaged = match read {
            Ok(damaged) => damaged,
            Err(error) => {
                tracing::error!(whose, %error, "cannot read deduplication keys back from the store");
                break;
            }
        };
        let Some(last) = damaged::last_of(&buffer, &damaged) else {
            break;
        };
        next = last.0 + 1;
        damaged_count += damaged.len() as u64;
        damaged::forget(store, log, &damaged);
        buffer.iter().for_each(&mut take);
    }
    let state = store.log_state(log);
    Records {
        next: state.map_or(next, |state| state.next.0.max(next)),
        damaged: damaged_count,
    }
}

#[cfg(test)]
mod tests {
    use leveret_store_api::Payload;

    use super::*;

    #[test]
    fn records_are_read_back() {
        let stored = |message: &Message| Message::from_stored(&message.parts().concat()).unwrap();
        let one = Key::of(b'm', b"one");
        assert_eq!(key(&stored(&of_key(&one))), Some(one));
        let number = Number {
            producer: one,
            sequence: 7,
        };
        assert_eq!(super::number(&stored(&of_number(&number))), Some(number));
        assert_eq!(super::number(&stored(&of_key(&one))), None);
    }
}
