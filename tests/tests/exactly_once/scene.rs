//! One broker, one ledger, and how the two are brought to an end again and again.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use leveret_tests::history::{Event, Finding, History, Ledger, Outcome, judge};
use leveret_tests::wire::Client;
use leveret_tests::{Leveret, PATIENCE, eventually};

use crate::workload::{self, Desk, Dice, Memory, Workload};

/// Little memory for each queue, so that messages leave it.
pub(crate) const OPTIONS: [&str; 2] = ["--queue-memory", "64KiB"];

pub(crate) struct Scene {
    pub(crate) broker: Leveret,
    pub(crate) ledger: Ledger,
    pub(crate) dice: Dice,
    seed: u64,
    rounds: u64,
    memory: Arc<Memory>,
}

/// The seed of this run: `LEVERET_SEED`, or another one each time. It is printed, to be had again.
fn seed() -> u64 {
    let given = std::env::var("LEVERET_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(0) >> 16,
        |seed| seed.parse().expect("LEVERET_SEED is a number"),
    );
    #[allow(clippy::print_stderr, reason = "read by whoever reads the failure")]
    {
        eprintln!("LEVERET_SEED={seed}");
    }
    seed
}

impl Scene {
    /// Declares everything in a broker that has just been started.
    pub(crate) fn new(broker: Leveret) -> Self {
        let mut client = Client::connect(broker.addr()).expect("a connection");
        workload::declare(&mut client).expect("the topology");
        client.close().expect("goodbye");
        let seed = seed();
        Self {
            ledger: Ledger::new(workload::facts()),
            broker,
            dice: Dice::new(seed),
            seed,
            rounds: 0,
            memory: Arc::default(),
        }
    }

    /// Clients at work.
    pub(crate) fn work(&mut self) -> Workload {
        self.rounds += 1;
        let seed = self.seed.wrapping_add(self.rounds * 1000);
        Workload::start(&self.desk(), seed)
    }

    fn desk(&self) -> Desk {
        Workload::desk(&self.ledger, self.broker.addr(), &self.memory)
    }

    /// Waits until so many more things have happened.
    pub(crate) fn happen(&self, events: usize) {
        let wanted = self.ledger.len() + events;
        let happened = eventually(PATIENCE, || (self.ledger.len() >= wanted).then_some(()));
        assert!(happened.is_some(), "nothing goes on\n{}", self.broker.log());
    }

    /// Kills the broker while clients work, and has them notice.
    pub(crate) fn kill(&mut self, workload: Workload) {
        self.broker.kill9();
        workload.gone();
        self.ledger.note(Event::Killed);
    }

    pub(crate) fn started(&self) {
        self.ledger.note(Event::Restarted);
    }

    /// Waits for the broker to end by itself; clients notice.
    pub(crate) fn dies(&mut self, workload: Workload, place: &str) {
        let status = eventually(PATIENCE, || self.broker.ended());
        assert!(status.is_some(), "{place} was never reached");
        workload.gone();
        self.ledger.note(Event::Killed);
    }

    /// A little work in peace, then everything is taken out, and the history judged. Answers what there was to judge.
    pub(crate) fn end(mut self) -> Tried {
        let workload = self.work();
        self.happen(500);
        workload.stop();
        // An orderly stop: all clients are gone, and what they had not settled is back.
        self.broker.restart();
        self.ledger.note(Event::Killed);
        self.started();
        let desk = self.desk();
        workload::drain(&self.ledger, &desk).expect("all queues are emptied");
        self.broker.restart();
        assert_eq!(workload::left(&desk).expect("the queues"), 0);
        self.broker.kill9();
        let history = self.ledger.history();
        let findings = judge(&history);
        assert!(
            findings.is_empty(),
            "LEVERET_SEED={}: {} breaches in {} events\n{}",
            self.seed,
            findings.len(),
            history.events.len(),
            told(&history, &findings)
        );
        Tried::of(&history)
    }
}

/// How often a history has put the broker to a test.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    pub(crate) kills: u64,
    /// Publishes of a key that was published before.
    pub(crate) sent_again: u64,
    /// Those of them that were confirmed: the broker had to know one.
    pub(crate) confirmed_again: u64,
    pub(crate) refused: u64,
    pub(crate) read: u64,
    pub(crate) rejected_in_transactions: u64,
    pub(crate) requeued_in_transactions: u64,
    /// Commits that nobody has heard the end of.
    pub(crate) unknown_commits: u64,
}

impl Tried {
    fn of(history: &History) -> Self {
        let mut tried = Self::default();
        let mut keys = HashSet::new();
        let mut again = HashSet::new();
        for event in &history.events {
            match event {
                Event::Killed => tried.kills += 1,
                Event::Published {
                    message,
                    key: Some(key),
                    ..
                } if !keys.insert(*key) => {
                    tried.sent_again += 1;
                    again.insert(*message);
                }
                Event::Confirmed { message } if again.contains(message) => {
                    tried.confirmed_again += 1;
                }
                Event::Refused { .. } => tried.refused += 1,
                Event::Read { .. } => tried.read += 1,
                Event::Settled {
                    outcome,
                    transaction: Some(_),
                    ..
                } => match outcome {
                    Outcome::Acked => {}
                    Outcome::Rejected => tried.rejected_in_transactions += 1,
                    Outcome::Requeued => tried.requeued_in_transactions += 1,
                },
                Event::CommitSent(_) => tried.unknown_commits += 1,
                Event::Committed(_) => tried.unknown_commits -= 1,
                _ => {}
            }
        }
        tried
    }
}

/// The first findings, with what happened around them.
fn told(history: &History, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings.iter().take(5) {
        text += &format!("{:?} at {}: {}\n", finding.rule, finding.at, finding.what);
        let around = finding.at.saturating_sub(3)..(finding.at + 2).min(history.events.len());
        for at in around {
            text += &format!("    {at}: {:?}\n", history.events[at]);
        }
    }
    text
}

/// How many kills: `LEVERET_KILLS`, or few.
pub(crate) fn kills() -> u64 {
    let asked = std::env::var("LEVERET_KILLS").ok();
    asked.map_or(10, |kills| {
        kills.parse().expect("LEVERET_KILLS is a number")
    })
}

/// A moment too short to start in.
pub(crate) fn moment(dice: &mut Dice) -> Duration {
    Duration::from_millis(dice.between(1, 40))
}
