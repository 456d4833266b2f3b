//! How many lines of one kind are written: what many do again and again is told a few times, then counted.
//!
//! A kind is a place in the code, the address the line is about (without its port), and the reply code if it has one. Of
//! each kind so many lines are written in ten seconds, and fewer in those that follow; after each ten seconds one line
//! tells how many more there were. The table of kinds is bounded, and what finds no place in it is of one kind with
//! whatever else does not.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Debug, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leveret_message::Timestamp;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::output::Source;
use crate::clock::Clock;

/// Where the lines that tell of lines come from; they are not limited themselves.
const TARGET: &str = "crate::log";
/// Where lines come from of which each one counts.
const AUDIT: &str = "audit";
const WINDOW_MS: u64 = 10_000;
/// Lines of one kind about one address.
const LINES_MAX: u64 = 100;
/// Lines of one kind that are about no address: they come from the broker itself, which seldom repeats itself for long.
const OWN_LINES_MAX: u64 = 500;
/// Of that, this part is left where there were more in the ten seconds before.
const STEADY_PART: u64 = 10;
/// Kinds known at a time.
const KINDS_MAX: usize = 2048;

/// The fields that name an address.
const PEER_FIELDS: [&str; 3] = ["peer", "remote", "from"];
/// A kind keeps this much of its text.
const TEXT_MAX: usize = 200;

/// The limit, shared by the log's subscriber and the thread that writes.
#[derive(Clone)]
pub(super) struct Limit {
    clock: Clock,
    kinds: Arc<Mutex<Kinds>>,
}

#[derive(Default)]
struct Kinds {
    known: HashMap<Kind, Counted>,
    /// The kinds in the order in which their windows end.
    ends: VecDeque<(Timestamp, Kind)>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Kind {
    place: Identifier,
    about: About,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct About {
    peer: String,
    code: u64,
}

struct Counted {
    lines: u64,
    /// So many of them are written.
    lines_max: u64,
    level: Level,
    text: String,
}

/// Lines that were not written.
#[derive(Debug, Eq, PartialEq)]
struct LeftOut {
    lines: u64,
    level: Level,
    peer: String,
    text: String,
}

impl Limit {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            kinds: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kinds> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was left out until now, without waiting for windows to end: the process does.
    pub(super) fn end(&self) {
        self.tell(self.clock.now() + WINDOW_MS);
    }

    /// Tells what was left out in windows that end until then.
    fn tell(&self, until: Timestamp) {
        let over = self.lock().over(until);
        for it in over {
            let more = it.lines;
            let said = if it.peer.is_empty() {
                format!("{more} more like this: {}", it.text)
            } else {
                format!("{more} more like this from {}: {}", it.peer, it.text)
            };
            if it.level <= Level::WARN {
                tracing::warn!(target: TARGET, "{said}");
            } else {
                tracing::info!(target: TARGET, "{said}");
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if matches!(metadata.target(), TARGET | AUDIT) {
            return true;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let kind = Kind {
            place: metadata.callsite(),
            about: said.about,
        };
        self.lock()
            .admits(kind, *metadata.level(), said.text, self.clock.now())
    }
}

impl Source for Limit {
    fn due(&self) -> Option<Duration> {
        let first = self.lock().ends.front().map(|(end, _)| *end)?;
        Some(Duration::from_millis(first - self.clock.now()))
    }

    fn tick(&self) {
        self.tell(self.clock.now());
    }

    fn left_out(&self, lines: u64) {
        tracing::error!(target: TARGET, lines, "the log was not taken for a while; lines were left out");
    }
}

impl Kind {
    fn lines_max(&self) -> u64 {
        if self.about.peer.is_empty() {
            OWN_LINES_MAX
        } else {
            LINES_MAX
        }
    }
}

impl Kinds {
    /// Counts a line and says whether it is to be written.
    fn admits(&mut self, kind: Kind, level: Level, text: String, now: Timestamp) -> bool {
        let kind = if self.known.len() < KINDS_MAX || self.known.contains_key(&kind) {
            kind
        } else {
            Kind {
                about: About::default(),
                ..kind
            }
        };
        let counted = self.known.entry(kind.clone()).or_insert_with(|| {
            let lines_max = kind.lines_max();
            self.ends.push_back((now + WINDOW_MS, kind));
            Counted {
                lines: 0,
                lines_max,
                level,
                text,
            }
        });
        counted.lines += 1;
        counted.lines <= counted.lines_max
    }

    /// Ends the windows that are over and answers what was left out in them.
    fn over(&mut self, now: Timestamp) -> Vec<LeftOut> {
        let (mut left_out, mut again) = (Vec::new(), Vec::new());
        while let Some((_, kind)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            let Some(counted) = self.known.get_mut(&kind) else {
                continue;
            };
            if counted.lines <= counted.lines_max {
                self.known.remove(&kind);
                continue;
            }
            left_out.push(LeftOut {
                lines: counted.lines - counted.lines_max,
                level: counted.level,
                peer: kind.about.peer.clone(),
                text: counted.text.clone(),
            });
            counted.lines = 0;
            counted.lines_max = kind.lines_max() / STEADY_PART;
            again.push((now + WINDOW_MS, kind));
        }
        self.ends.extend(again);
        if self.known.is_empty() {
            self.known.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
        left_out
    }
}

/// What of an event makes its kind.
#[derive(Default)]
struct Said {
    about: About,
    text: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if PEER_FIELDS.contains(&field.name()) {
            self.about.peer = host(&format!("{value:?}"));
        } else if field.name() == "message" {
            // Writing to a String does not fail.
            let _ = write!(self.text, "{value:?}");
            let end = self.text.floor_char_boundary(TEXT_MAX);
            self.text.truncate(end);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "code" {
            self.about.code = value;
        }
    }
}

/// An address without its port.
fn host(address: &str) -> String {
    let ip = address
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| address.parse::<IpAddr>());
    ip.map_or_else(|_| address.to_owned(), |ip| ip.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    /// Keeps the messages that get through.
    #[derive(Clone, Default)]
    struct Heard(Arc<StdMutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut said = Said::default();
            event.record(&mut said);
            self.0
                .lock()
                .unwrap()
                .push(format!("{} {}", said.about.peer, said.text));
        }
    }

    fn refused(peer: &str, code: u64) {
        tracing::warn!(peer = %peer, code, "refused");
    }

    fn later(limit: &Limit, milliseconds: u64) -> Vec<LeftOut> {
        let now = limit.clock.now() + milliseconds;
        limit.lock().over(now)
    }

    #[test]
    fn what_one_address_does_again_and_again_is_counted() {
        let (limit, heard) = (Limit::new(Clock::start()), Heard::default());
        let subscriber = registry().with(heard.clone()).with(limit.clone());
        with_default(subscriber, || {
            for port in 1..=137 {
                refused(&format!("10.0.0.1:{port}"), 404);
            }
            refused("[::ffff:10.0.0.1]:9", 404);
            refused("10.0.0.1:3", 403);
            refused("10.0.0.2:3", 404);
            (0..300).for_each(|_| tracing::info!("of its own"));
        });
        let heard = heard.0.lock().unwrap().clone();
        let times = |text: &str| heard.iter().filter(|line| *line == text).count();
        assert_eq!(times("10.0.0.1 refused"), 101);
        assert_eq!(times("10.0.0.2 refused"), 1);
        assert_eq!(times(" of its own"), 300);
        assert!(later(&limit, WINDOW_MS / 2).is_empty());
        let expected = LeftOut {
            lines: 38,
            level: Level::WARN,
            peer: "10.0.0.1".to_owned(),
            text: "refused".to_owned(),
        };
        assert_eq!(later(&limit, WINDOW_MS), [expected]);

        // Who goes on gets less; who does not is forgotten.
        let written = Heard::default();
        let subscriber = registry().with(written.clone()).with(limit.clone());
        with_default(subscriber, || {
            (0..50).for_each(|_| refused("10.0.0.1:7", 404));
        });
        assert_eq!(written.0.lock().unwrap().len(), 10);
        assert_eq!(later(&limit, 2 * WINDOW_MS)[0].lines, 40);
        assert!(later(&limit, 3 * WINDOW_MS).is_empty());
        assert_eq!(limit.due(), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let limit = Limit::new(Clock::start());
        let subscriber = registry().with(limit.clone());
        with_default(subscriber, || {
            for number in 0..10 * KINDS_MAX {
                refused(&format!("10.{}.{}.1:5", number >> 8, number & 0xff), 404);
            }
        });
        assert!(limit.lock().known.len() <= KINDS_MAX + 1);
        assert_eq!(later(&limit, WINDOW_MS).len(), 1);
        assert!(later(&limit, 2 * WINDOW_MS).is_empty());
        assert!(limit.lock().known.is_empty());
    }
}
