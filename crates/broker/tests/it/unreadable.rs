//! A store that cannot be read for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use leveret_broker::message::Message;
use leveret_broker::{Broker, BrokerConfig, Timestamp};
use leveret_store::{
    Change, CommitPoint, DamagedMessage, DefinitionStore, Definitions, Delivered, LogId, LogState,
    MessageLog, Sequence, SteppedStore, StoreError, StoreStatus, StoredMessage,
};

use crate::harness::calls::Flag;
use crate::harness::{Properties, World};

/// As the store inside, but for reads.
#[derive(Default)]
struct Unreadable {
    inside: SteppedStore<Message>,
    fails: AtomicBool,
}

impl MessageLog<Message> for Unreadable {
    fn stage(&self, changes: &mut Vec<Change<Message>>) -> CommitPoint {
        let point = self.inside.stage(changes);
        self.inside.commit();
        point
    }

    fn durable_point(&self) -> CommitPoint {
        self.inside.durable_point()
    }

    fn wake_at(&self, point: CommitPoint, waker: &Waker) -> bool {
        self.inside.wake_at(point, waker)
    }

    fn allocate_log(&self) -> LogId {
        self.inside.allocate_log()
    }

    fn read(
        &self,
        log: LogId,
        from: Sequence,
        count_max: usize,
        bytes_max: usize,
        out: &mut Vec<StoredMessage<Message>>,
    ) -> Result<Vec<DamagedMessage<Message>>, StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Io {
                path: "journal".into(),
                offset: 0,
                source: std::io::Error::other("no"),
            });
        }
        self.inside.read(log, from, count_max, bytes_max, out)
    }

    fn log_state(&self, log: LogId) -> Option<LogState> {
        self.inside.log_state(log)
    }

    fn logs(&self) -> Vec<LogId> {
        self.inside.logs()
    }

    fn staged_bytes(&self) -> u64 {
        self.inside.staged_bytes()
    }

    fn delivered(&self, log: LogId) -> Delivered {
        self.inside.delivered(log)
    }

    fn note_delivered(&self, log: LogId, below: Sequence) {
        self.inside.note_delivered(log, below);
    }

    fn status(&self) -> StoreStatus {
        self.inside.status()
    }

    fn on_status(&self, waker: Waker) {
        self.inside.on_status(waker);
    }

    fn is_volatile(&self) -> bool {
        false
    }
}

impl DefinitionStore for Unreadable {
    fn definitions(&self) -> Result<Definitions, StoreError> {
        self.inside.definitions()
    }
}

#[test]
fn messages_that_cannot_be_read_are_not_forgotten() {
    let store = Arc::new(Unreadable::default());
    let config = BrokerConfig {
        queue_memory_bytes: 600,
        ..BrokerConfig::default()
    };
    let now = Timestamp(1_000_000);
    let broker = Broker::open(config, Arc::clone(&store) as _, now).unwrap();
    let world = World::around(broker, None, now);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for n in 0..30 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    store.fails.store(true, Ordering::SeqCst);
    client.consume_ok("q", "c");
    let first = client.bodies();
    assert!(!first.is_empty() && first.len() < 30, "{first:?}");
    let left = 30 - first.len();
    assert_eq!(client.counts("q").0 as usize, left);
    client.get("q", true);
    client.expect(&["get-empty"]);
    store.fails.store(false, Ordering::SeqCst);
    client.publish_with("q", "30", &Properties::persistent());
    let all: Vec<String> = first.into_iter().chain(client.bodies()).collect();
    let expected: Vec<String> = (0..=30).map(|n| n.to_string()).collect();
    assert_eq!(all, expected);
}
