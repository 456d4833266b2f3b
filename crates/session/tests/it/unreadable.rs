//! A store that cannot be read for a while, or that does not have what it was given.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use leveret_broker::{Broker, BrokerConfig};
use leveret_codec::{AMQPValue, FieldArray};
use leveret_message::{Message, Timestamp};
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, DefinitionStore, Definitions, Delivered, LogId, LogState,
    MessageLog, Numbered, Sequence, SteppedStore, StoreError, StoreStatus, StoredMessage,
};

use crate::harness::calls::{Flag, number};
use crate::harness::{Client, Properties, World};

/// As the store inside, but for reads.
#[derive(Default)]
struct Unreadable {
    inside: SteppedStore<Message>,
    fails: AtomicBool,
    /// It has no message any more, and says so.
    forgot: AtomicBool,
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
        if self.forgot.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        self.inside.read(log, from, count_max, bytes_max, out)
    }

    fn log_state(&self, log: LogId) -> Option<LogState> {
        self.inside.log_state(log)
    }

    fn numbered(&self, log: LogId, least: u32) -> Vec<Numbered> {
        self.inside.numbered(log, least)
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

    fn record_delivered(&self, log: LogId, below: Sequence) {
        self.inside.record_delivered(log, below);
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

/// A broker on such a store, with a queue `q` that keeps little in memory.
fn world(arguments: &[(&str, AMQPValue)]) -> (Arc<Unreadable>, Rc<World>, Client) {
    let store = Arc::new(Unreadable::default());
    let config = BrokerConfig {
        queue_memory_bytes: 600,
        ..BrokerConfig::default()
    };
    let now = Timestamp(1_000_000);
    let broker = Broker::open(config, Arc::clone(&store) as _, now).unwrap();
    let world = World::around(broker, None, now);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], arguments);
    (store, world, client)
}

/// With 30 messages, few of them in memory.
fn filled() -> (Arc<Unreadable>, Rc<World>, Client) {
    let (store, world, client) = world(&[]);
    for n in 0..30 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    (store, world, client)
}

#[test]
fn messages_that_cannot_be_read_are_not_forgotten() {
    let (store, _world, client) = filled();
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

/// What the store does not have is gone, and does not count as ready for ever.
#[test]
fn what_the_store_does_not_have_counts_no_longer() {
    let (store, _world, client) = filled();
    store.forgot.store(true, Ordering::SeqCst);
    client.consume_ok("q", "c");
    let first = client.bodies().len();
    assert!((1..30).contains(&first), "{first}");
    assert_eq!(client.counts("q").0, 0);
    client.get("q", true);
    client.expect(&["get-empty"]);
    // The queue goes on.
    store.forgot.store(false, Ordering::SeqCst);
    client.publish_with("q", "next", &Properties::persistent());
    client.expect_bodies("next");
}

/// It is kept as soon as that is possible, and publishers need not wait for it.
#[test]
fn a_limit_whose_messages_cannot_be_read_is_kept_later() {
    let (store, _world, client) = world(&[("x-max-length", number(20))]);
    for n in 0..30 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    assert_eq!(client.counts("q").0, 20);
    store.fails.store(true, Ordering::SeqCst);
    for n in 30..60 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    assert!(client.counts("q").0 > 20);
    store.fails.store(false, Ordering::SeqCst);
    client.publish_with("q", "60", &Properties::persistent());
    assert_eq!(client.counts("q").0, 20);
    client.consume_ok("q", "c");
    let expected: Vec<String> = (41..=60).map(|n| n.to_string()).collect();
    assert_eq!(client.bodies(), expected);
}

/// A queue that is purged or deleted while it cannot be read is as empty as any.
#[test]
fn a_queue_that_cannot_be_read_can_be_purged_and_deleted() {
    for delete in [false, true] {
        let (store, _world, client) = filled();
        store.fails.store(true, Ordering::SeqCst);
        client.consume_ok("q", "c");
        let first = client.bodies().len();
        let left = 30 - first;
        if delete {
            client.delete("q", false, false);
            client.expect_first(&format!("delete-ok {left}"));
        } else {
            client.purge("q");
            client.expect(&[format!("purge-ok {left}")]);
        }
        client.ack(first as u64, true);
        store.fails.store(false, Ordering::SeqCst);
        let logs = store.inside.logs().into_iter();
        let live: u64 = logs
            .filter_map(|log| store.inside.log_state(log))
            .map(|state| state.live)
            .sum();
        assert_eq!(live, 0, "deleted: {delete}");
    }
}

/// One failed read is not the last one.
#[test]
fn retries_whose_read_failed_are_read_later() {
    let delays = AMQPValue::FieldArray(FieldArray::from(vec![number(100)]));
    let (store, world, client) = world(&[("x-retry-delays", delays)]);
    for n in 0..30 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
        client.get("q", false);
    }
    assert_eq!(client.bodies().len(), 30);
    client.nack(30, true, true);
    store.fails.store(true, Ordering::SeqCst);
    world.pass(100);
    client.consume_ok("q", "c");
    let mut got = client.bodies();
    assert!(got.len() < 30, "{got:?}");
    store.fails.store(false, Ordering::SeqCst);
    client.publish_with("q", "30", &Properties::persistent());
    got.extend(client.bodies());
    let mut numbers: Vec<u32> = got
        .iter()
        .map(|body| body.trim_end_matches('!').parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..=30));
}
