//! Streams against the simplest of models, a vector, under random publishing, reading, settling,
//! commits, crashes and time.

use std::rc::Rc;

use leveret_codec::AMQPValue;
use proptest::prelude::*;

use crate::harness::calls::{number, string};
use crate::harness::{Client, Properties, World};
use crate::streams::{delivered, read_from, stream};

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Commit,
    Crash,
    Pass(u32),
    Read { offset: Offset, prefetch: u16 },
    Settle { reader: u8, nack: bool },
    Leave(u8),
}

#[derive(Clone, Debug)]
enum Offset {
    First,
    Last,
    Next,
    Number(u8),
    Ago(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offset = prop_oneof![
        Just(Offset::First),
        Just(Offset::Last),
        Just(Offset::Next),
        any::<u8>().prop_map(Offset::Number),
        (1u8..60).prop_map(Offset::Ago),
    ];
    let step = prop_oneof![
        6 => (1u8..12).prop_map(Step::Publish),
        4 => Just(Step::Commit),
        1 => Just(Step::Crash),
        2 => (0u32..9000).prop_map(Step::Pass),
        3 => (offset, 1u16..20).prop_map(|(offset, prefetch)| Step::Read { offset, prefetch }),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(reader, nack)| Step::Settle { reader, nack }),
        1 => any::<u8>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1..120)
}

struct Reader {
    client: Client,
    /// The offset it must get next, unless retention has removed it.
    next: usize,
}

struct Model {
    world: Rc<World>,
    publisher: Client,
    /// Body and time of every message, by offset.
    log: Vec<(String, u64)>,
    durable: usize,
    published: u32,
    readers: Vec<Reader>,
    /// Nothing is ever removed.
    complete: bool,
}

impl Model {
    fn new(window: usize, limit: Option<u32>) -> Model {
        let world = World::paging(window);
        let publisher = world.client();
        let more: Vec<(&str, AMQPValue)> = limit
            .iter()
            .map(|bytes| ("x-max-length-bytes", number(i64::from(*bytes))))
            .collect();
        stream(&publisher, "s", &more);
        world.hold_commits();
        Model {
            world,
            publisher,
            log: Vec::new(),
            durable: 0,
            published: 0,
            readers: Vec::new(),
            complete: limit.is_none(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(count) => self.publish(*count),
            Step::Commit => self.commit(),
            Step::Crash => self.crash(),
            Step::Pass(milliseconds) => self.world.pass(u64::from(*milliseconds)),
            Step::Read { offset, prefetch } => self.read(offset, *prefetch),
            Step::Settle { reader, nack } => self.settle(*reader, *nack),
            Step::Leave(reader) => {
                if !self.readers.is_empty() {
                    let index = usize::from(*reader) % self.readers.len();
                    self.readers.remove(index).client.vanish();
                }
            }
        }
        self.check();
    }

    fn publish(&mut self, count: u8) {
        let mut bodies = String::new();
        for _ in 0..count {
            let body = format!("m{}", self.published);
            self.published += 1;
            bodies = format!("{bodies} {body}");
            self.log.push((body, self.world.now().0));
        }
        self.publisher
            .publish_all("s", &bodies, &Properties::default());
    }

    fn commit(&mut self) {
        self.world.commit();
        self.durable = self.log.len();
    }

    fn crash(&mut self) {
        self.readers.clear();
        self.world = self.world.restarted();
        self.world.hold_commits();
        self.publisher = self.world.client();
        self.log.truncate(self.durable);
    }

    fn read(&mut self, offset: &Offset, prefetch: u16) {
        let end = self.log.len();
        let (argument, next) = match offset {
            Offset::First => (string("first"), 0),
            Offset::Last => (string("last"), end.saturating_sub(1)),
            Offset::Next => (string("next"), end),
            Offset::Number(wanted) => (number(i64::from(*wanted)), usize::from(*wanted).min(end)),
            Offset::Ago(seconds) => {
                let since = self.world.now().0 - u64::from(*seconds) * 1000;
                let next = self.log.partition_point(|(_, time)| *time < since);
                (string(&format!("{seconds}s")), next)
            }
        };
        let client = self.world.client();
        client.qos_ok(prefetch, false);
        read_from(&client, "s", "c", argument);
        self.readers.push(Reader { client, next });
    }

    fn settle(&mut self, reader: u8, nack: bool) {
        if self.readers.is_empty() {
            return;
        }
        let index = usize::from(reader) % self.readers.len();
        let client = &self.readers[index].client;
        if nack {
            client.nack(0, true, true);
        } else {
            client.ack(0, true);
        }
    }

    /// Whatever was delivered is what the model has there, in order, without a gap, and durable.
    fn check(&mut self) {
        for reader in &mut self.readers {
            for (offset, body) in delivered(&reader.client) {
                assert!(offset < self.durable, "{offset} is not durable");
                assert_eq!(body, self.log[offset].0);
                assert!(
                    offset == reader.next || (!self.complete && offset > reader.next),
                    "got {offset} instead of {}",
                    reader.next
                );
                reader.next = offset + 1;
            }
        }
    }

    /// Everybody who goes on settling gets everything.
    fn finish(&mut self) {
        self.commit();
        self.check();
        for index in 0..self.readers.len() {
            for _ in 0..2 * self.log.len() + 2 {
                self.settle(u8::try_from(index).unwrap_or(0), false);
                self.check();
            }
        }
        for reader in &self.readers {
            assert!(reader.next >= self.log.len(), "stopped at {}", reader.next);
        }
        let count = self.publisher.counts("s").0 as usize;
        assert!(count == self.log.len() || !self.complete);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_is_a_vector(steps in steps(), window in 100usize..3000) {
        let mut model = Model::new(window, None);
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }

    #[test]
    fn with_retention_it_is_the_end_of_one(steps in steps(), window in 100usize..3000, limit in 100u32..4000) {
        let mut model = Model::new(window, Some(limit));
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }
}
