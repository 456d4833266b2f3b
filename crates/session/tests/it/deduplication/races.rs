//! Two publish the same at the same moment: the duplicate waits for the first although that is not even
//! staged yet.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use leveret_broker::{Broker, BrokerConfig};
use leveret_message::{Message, Timestamp};
use leveret_store_api::{MessageLog, SteppedStore};

use super::{WINDOW, from, id};
use crate::harness::calls::{Flag, number};
use crate::harness::held::Held;
use crate::harness::{Client, Properties, World};

const NOW: Timestamp = Timestamp(1_000_000);
const DEADLINE: Duration = Duration::from_secs(20);
/// How often a thread is looked at, until it is known whether it sleeps.
const LOOKS: u32 = 20_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// A publisher with a thread of its own: what it is told at once, and again whenever it is asked.
fn publisher(
    broker: &Arc<Broker>,
    first: impl FnOnce(&Client) + Send + 'static,
) -> (Receiver<Vec<String>>, Sender<()>) {
    let (hear, ask, _) = known_publisher(broker, first);
    (hear, ask)
}

/// The same, and where the system tells of its thread.
fn known_publisher(
    broker: &Arc<Broker>,
    first: impl FnOnce(&Client) + Send + 'static,
) -> (Receiver<Vec<String>>, Sender<()>, PathBuf) {
    let broker = Arc::clone(broker);
    let (told, hear) = mpsc::channel();
    let (ask, asked) = mpsc::channel();
    let (begins, begun) = mpsc::channel();
    std::thread::spawn(move || {
        let itself = std::fs::read_link("/proc/thread-self").unwrap();
        begins.send(Path::new("/proc").join(itself)).unwrap();
        let world = World::around(broker, None, NOW);
        let client = world.client();
        first(&client);
        told.send(client.lines()).unwrap();
        while asked.recv().is_ok() {
            world.run();
            told.send(client.lines()).unwrap();
        }
    });
    (hear, ask, begun.recv_timeout(DEADLINE).unwrap())
}

/// What a publisher is told, unless it stands still before: it sleeps, and still does after others had their turn.
fn told_or_stopped(hear: &Receiver<Vec<String>>, thread: &Path) -> Option<Vec<String>> {
    let sleeps = || {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.unwrap().to_owned()
        };
        let is_asleep = of("State:").contains("sleeping");
        is_asleep.then(|| of("voluntary_ctxt_switches:"))
    };
    let mut before = None;
    for _ in 0..LOOKS {
        match hear.recv_timeout(BETWEEN_LOOKS) {
            Ok(told) => return Some(told),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{error}"),
        }
        let now = sleeps();
        if now.is_some() && now == before {
            return None;
        }
        before = now;
    }
    panic!("it neither sleeps nor ends");
}

/// A broker with a queue `q` and an exchange `x` that look for duplicates, and a queue `plain` behind `x`,
/// in which the next that is staged is stopped.
struct Race {
    store: Arc<SteppedStore<Message>>,
    broker: Arc<Broker>,
    world: Rc<World>,
    client: Client,
    arrivals: Receiver<()>,
    release: Sender<()>,
}

impl Race {
    fn new() -> Race {
        let store = Arc::new(SteppedStore::new());
        let (held, arrivals, release) = Held::new(&store);
        let broker = Broker::open(BrokerConfig::default(), Arc::clone(&held) as _, NOW).unwrap();
        let world = World::around(Arc::clone(&broker), Some(Arc::clone(&store)), NOW);
        let client = world.client();
        let window = [(WINDOW, number(60_000))];
        client.declare_ok("q", &[Flag::Durable], &window);
        client.declare_ok("plain", &[Flag::Durable], &[]);
        client.declare_exchange("x", "direct", &[Flag::Durable], &window);
        client.bind("plain", "x", "k");
        client.seen();
        world.is_not_alone();
        held.stop_the_next();
        Race {
            store,
            broker,
            world,
            client,
            arrivals,
            release,
        }
    }
}

fn check(
    key: &'static str,
    transactional: bool,
    message: impl Fn() -> Properties + Send + Clone + 'static,
) {
    let Race {
        broker,
        world,
        client,
        arrivals,
        release,
        ..
    } = Race::new();
    world.hold_commits();
    let first = message.clone();
    let (hear_first, ask_first) = publisher(&broker, move |client| {
        if transactional {
            client.tx(10);
        }
        client.publish_with(key, "first", &first());
        if transactional {
            client.tx(20);
        }
    });
    arrivals.recv_timeout(DEADLINE).unwrap();
    let (hear, ask, thread) = known_publisher(&broker, move |client| {
        client.confirms();
        client.publish_with(key, "again", &message());
    });
    let early = told_or_stopped(&hear, &thread);
    // All but the first.
    world.commit();
    if early.is_some() {
        ask.send(()).unwrap();
        let told = hear.recv_timeout(DEADLINE).unwrap();
        assert_eq!((early.as_deref(), told), (Some(&[][..]), vec![]));
    }
    release.send(()).unwrap();
    hear_first.recv_timeout(DEADLINE).unwrap();
    if early.is_none() {
        let told = hear.recv_timeout(DEADLINE).unwrap();
        assert_eq!(told, [""; 0], "the first one is not durable");
    }
    world.commit();
    ask.send(()).unwrap();
    assert_eq!(hear.recv_timeout(DEADLINE).unwrap(), ["ack 1"]);
    // What a transaction hides shows when its session hears that it is durable.
    ask_first.send(()).unwrap();
    hear_first.recv_timeout(DEADLINE).unwrap();
    let queue = if key == "q" { "q" } else { "plain" };
    assert_eq!(client.counts(queue), (1, 0));
}

#[test]
fn a_duplicate_waits_for_what_is_not_staged_yet() {
    for transactional in [false, true] {
        check("q", transactional, || id("", "1"));
        check("k", transactional, || id("x", "1"));
        check("q", transactional, || from("", "me", 1));
        check("k", transactional, || from("x", "me", 1));
    }
}

#[test]
fn what_is_deleted_while_a_message_passes_leaves_nothing() {
    for (key, message) in [
        ("k", id("x", "1")),
        ("k", from("x", "me", 1)),
        ("q", from("", "me", 1)),
    ] {
        let race = Race::new();
        let (heard, _ask) = publisher(&race.broker, move |client| {
            client.publish_with(key, "a", &message);
        });
        race.arrivals.recv_timeout(DEADLINE).unwrap();
        race.client.delete_exchange("x", false);
        race.client.delete("q", false, false);
        race.client.delete("plain", false, false);
        race.release.send(()).unwrap();
        heard.recv_timeout(DEADLINE).unwrap();
        race.world.commit();
        assert_eq!(race.store.logs(), []);
    }
}
