//! The routes that a route cache holds, laid out for the caches of the processor. How long they hold and
//! how many there may be of them all is for `route_cache` to say.
//!
//! Very many names are looked up as fast as their memory can be reached, so entries are small and few lines
//! are touched: routes to the same queues are one, and names cost a slot and their bytes. Those lie one
//! behind the other in the order of their first use, which is that of many a publisher's next round.
//!
//! ```text
//!   places  [ .  place  .  place ... ]       by the hash of the names
//!                  |
//!   text    [ route, length, names | route, length, names | ... ]
//!                |
//!   routes  [ queues | queues | ... ]        each different list once
//! ```

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use leveret_broker::budget::{Budget, Share};
use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::Targets;
use leveret_routing::QueueId;
use smallvec::SmallVec;

use super::upcoming_routes::{NOWHERE, PUBLISHES_MAX, UpcomingRoutes, next_names};

/// Bytes that each connection may use; what it needs beyond them is taken from what all share.
pub(super) const OWN_BYTES: usize = 512 << 10;
/// Bytes that one connection may take from what all share.
const SHARED_BYTES_MAX: usize = 16 << 20;
/// Bytes taken at a time, at least.
const SHARE_BYTES: usize = 64 << 10;
/// Bytes before the names of an entry: its route, and their length.
const HEAD: usize = 6;
/// What a slot of a table costs, with a byte of the table's own and at a load of a half.
const SLOT_BYTES: usize = 2 * (size_of::<Listed>() + 1);

/// Where in the text an entry begins. With the hash of its names the table grows without a look at them.
#[derive(Clone, Copy)]
struct Listed {
    hash: u32,
    at: u32,
}

impl Listed {
    /// The hash as the table wants it, which takes a few bits at either end.
    fn spread(&self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Routes by names.
pub(super) struct KnownRoutes {
    places: HashTable<Listed>,
    text: Vec<u8>,
    routes: Vec<Targets>,
    /// How many queues they have together.
    queues: usize,
    /// The numbers of the routes.
    by_queues: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Bytes used, as [`KnownRoutes::cost`] has them.
    bytes: usize,
    share: Share,
    upcoming: UpcomingRoutes,
    /// There was no room for the latest.
    full: bool,
}

impl KnownRoutes {
    pub(super) fn new(budget: &Arc<Budget>) -> KnownRoutes {
        KnownRoutes {
            places: HashTable::new(),
            text: Vec::new(),
            routes: Vec::new(),
            queues: 0,
            by_queues: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            bytes: 0,
            share: Share::new(budget),
            upcoming: UpcomingRoutes::default(),
            full: false,
        }
    }

    /// As [`KnownRoutes::route`], of a publish that the bytes `behind` follow. Where there are very many
    /// routes, those of the publishes among them are looked up together with it.
    #[inline]
    pub(super) fn route_with_next(&mut self, names: &[u8], behind: &[u8]) -> Option<u32> {
        if !self.is_large() {
            return self.route(names);
        }
        let text = &self.text;
        let is_it = |at| entry(text, at).is_some_and(|entry| entry.has(names));
        if let Some(at) = self.upcoming.take(is_it) {
            return Some(entry(text, at)?.route);
        }
        if self.upcoming.is_due() {
            self.look_ahead(behind);
        }
        self.route(names)
    }

    /// Goes through the tables and the text once for all, and waits for nothing in between.
    fn look_ahead(&mut self, behind: &[u8]) {
        let next = next_names(behind);
        let sought: SmallVec<[Listed; PUBLISHES_MAX]> =
            next.iter().map(|names| self.place(names, 0)).collect();
        let places = sought.iter().map(|sought| {
            let is_it = |place: &Listed| place.hash == sought.hash;
            let found = self.places.find(sought.spread(), is_it);
            found.map_or(NOWHERE, |place| place.at)
        });
        let places: SmallVec<[u32; PUBLISHES_MAX]> = places.collect();
        let touched = places.iter().zip(&next).fold(0u8, |sum, (at, names)| {
            let first = *at as usize;
            let octet = |at: usize| self.text.get(at).copied().unwrap_or_default();
            sum ^ octet(first) ^ octet(first.saturating_add(HEAD + names.len() - 1))
        });
        std::hint::black_box(touched);
        self.upcoming.set(places.into_iter());
    }

    /// The number of the route of these names.
    #[inline]
    pub(super) fn route(&self, names: &[u8]) -> Option<u32> {
        let sought = self.place(names, 0);
        let is_it = |place: &Listed| {
            place.hash == sought.hash
                && entry(&self.text, place.at).is_some_and(|entry| entry.has(names))
        };
        let place = self.places.find(sought.spread(), is_it)?;
        Some(entry(&self.text, place.at)?.route)
    }

    fn place(&self, names: &[u8], at: u32) -> Listed {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of it will do")]
        let hash = self.hasher.hash_one(names) as u32;
        Listed { hash, at }
    }

    /// The queues of the route with this number.
    pub(super) fn targets(&self, number: u32) -> &[QueueHandle] {
        let targets = self.routes.get(number as usize);
        targets.map_or(&[], |targets| targets)
    }

    /// How many names are known.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// It has more than what is its own.
    pub(super) fn is_large(&self) -> bool {
        self.share.taken() > 0
    }

    /// Names that were not known have this route. False if there is no room; there is none then until it
    /// starts over.
    pub(super) fn insert(&mut self, names: &[u8], targets: &Targets) -> bool {
        self.full = self.full || self.enter(names, targets).is_none();
        !self.full
    }

    fn enter(&mut self, names: &[u8], targets: &Targets) -> Option<()> {
        let length = u16::try_from(names.len()).ok()?;
        let at = u32::try_from(self.text.len()).ok()?;
        let known = self.number_of(targets);
        let cost = Self::cost(names, targets, known.is_none());
        if !self.has_room(cost) {
            return None;
        }
        let route = known.or_else(|| self.number(targets))?;
        self.bytes += cost;
        self.text.extend_from_slice(&route.to_le_bytes());
        self.text.extend_from_slice(&length.to_le_bytes());
        self.text.extend_from_slice(names);
        let place = self.place(names, at);
        self.places
            .insert_unique(place.spread(), place, Listed::spread);
        Some(())
    }

    /// What an entry costs, and with it its route, if that is new.
    fn cost(names: &[u8], targets: &Targets, is_new: bool) -> usize {
        let entry = SLOT_BYTES + HEAD + names.len();
        if !is_new {
            return entry;
        }
        let beside = match targets.spilled() {
            true => size_of_val(targets.as_slice()),
            false => 0,
        };
        entry + SLOT_BYTES + size_of::<Targets>() + beside
    }

    fn has_room(&mut self, cost: usize) -> bool {
        let taken = self.share.taken();
        let Some(missing) = (self.bytes + cost).checked_sub(OWN_BYTES + taken + 1) else {
            return true;
        };
        let missing = (missing + 1).next_multiple_of(SHARE_BYTES);
        taken + missing <= SHARED_BYTES_MAX && self.share.take(missing)
    }

    /// The number of the route to these queues, if there is one.
    fn number_of(&self, targets: &Targets) -> Option<u32> {
        let is_it = |number: &u32| ids(self.targets(*number)).eq(ids(targets));
        let found = self
            .by_queues
            .find(hash_queues(&self.hasher, targets), is_it);
        found.copied()
    }

    /// Gives the route to these queues, which is new, a number.
    fn number(&mut self, targets: &Targets) -> Option<u32> {
        let KnownRoutes {
            routes,
            queues,
            by_queues,
            hasher,
            ..
        } = self;
        let number = u32::try_from(routes.len()).ok()?;
        *queues += targets.len();
        routes.push(targets.clone());
        let hash_of = |number: &u32| {
            let queues = routes.get(*number as usize);
            hash_queues(hasher, queues.map_or(&[], |queues| queues))
        };
        by_queues.insert_unique(hash_of(&number), number, hash_of);
        Some(number)
    }

    /// How many queues the routes have together.
    pub(super) fn queues(&self) -> usize {
        self.queues
    }

    /// Takes the routes out of what is forgotten.
    pub(super) fn take_routes(&mut self) -> Vec<Targets> {
        std::mem::take(&mut self.routes)
    }

    /// Forgets everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.text.clear();
        self.routes.clear();
        self.queues = 0;
        self.by_queues.clear();
        self.upcoming.clear();
        self.bytes = 0;
        self.full = false;
    }
}

/// An entry as it lies in the text.
struct Entry<'a> {
    route: u32,
    length: u16,
    /// Its names, and what lies behind them.
    rest: &'a [u8],
}

impl Entry<'_> {
    #[inline]
    fn has(&self, names: &[u8]) -> bool {
        usize::from(self.length) == names.len() && self.rest.starts_with(names)
    }
}

#[inline]
fn entry(text: &[u8], place: u32) -> Option<Entry<'_>> {
    let (head, rest) = text.get(place as usize..)?.split_first_chunk::<HEAD>()?;
    let [a, b, c, d, e, f] = *head;
    Some(Entry {
        route: u32::from_le_bytes([a, b, c, d]),
        length: u16::from_le_bytes([e, f]),
        rest,
    })
}

fn ids(queues: &[QueueHandle]) -> impl Iterator<Item = QueueId> {
    queues.iter().map(QueueHandle::id)
}

fn hash_queues(hasher: &DefaultHashBuilder, queues: &[QueueHandle]) -> u64 {
    let mut state = hasher.build_hasher();
    ids(queues).for_each(|id| id.hash(&mut state));
    state.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use leveret_broker::broker::{Broker, DEFAULT_VHOST};
    use leveret_broker::config::BrokerConfig;
    use leveret_broker::definitions_import::Plan;
    use leveret_message::{Message, Timestamp};
    use leveret_store_api::SteppedStore;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// So many queues of a broker that does nothing else.
    pub(crate) fn queues(count: usize) -> Vec<QueueHandle> {
        let store = Arc::new(SteppedStore::<Message>::new());
        let now = Timestamp(1_700_000_000_000);
        let broker = Broker::open(BrokerConfig::default(), store, now).unwrap();
        let names = (0..count).map(|number| format!("q{number}"));
        let queues: Vec<_> = names.clone().map(|name| json!({ "name": name })).collect();
        let definitions = json!({ "queues": queues }).to_string();
        let plan = Plan::parse(definitions.as_bytes()).unwrap();
        broker.import(&plan, now).unwrap();
        let vhost = broker.vhost(DEFAULT_VHOST).unwrap();
        names.map(|name| vhost.queue(&name).unwrap()).collect()
    }

    fn new(shared: usize) -> (KnownRoutes, Arc<Budget>) {
        let budget = Arc::new(Budget::new(shared));
        (KnownRoutes::new(&budget), budget)
    }

    fn names(number: usize) -> Vec<u8> {
        format!("\x08exchange\x0ea.routing.{number:05}").into_bytes()
    }

    /// Inserts until there is no room; answers how many found some.
    fn fill(known: &mut KnownRoutes, targets: &Targets) -> usize {
        (0..)
            .take_while(|number| known.insert(&names(*number), targets))
            .count()
    }

    #[test]
    fn a_hundred_thousand_names_fit_where_others_leave_room() {
        let targets = Targets::from_vec(queues(1));
        let (mut known, budget) = new(64 << 20);
        for number in 0..100_000 {
            assert!(known.insert(&names(number), &targets));
        }
        assert!((0..100_000).all(|number| known.route(&names(number)) == Some(0)));
        assert!(known.route(&names(100_000)).is_none());
        assert!(known.is_large());
        let used = (64 << 20) - budget.left() + OWN_BYTES;
        assert!(used < 6 << 20, "{used} bytes");
        drop(known);
        assert_eq!(budget.left(), 64 << 20);
    }

    fn publishes(numbers: impl Iterator<Item = usize>) -> Vec<u8> {
        let frame = |number| {
            let method = [b"\0\x3c\0\x28\0\0", names(number).as_slice(), b"\0"].concat();
            let size = u32::try_from(method.len()).unwrap().to_be_bytes();
            [&[1, 0, 1], size.as_slice(), &method, &[0xce]].concat()
        };
        numbers.flat_map(frame).collect()
    }

    #[test]
    fn what_is_looked_up_ahead_is_what_is_looked_up_by_itself() {
        let queues = queues(2);
        let (mut known, _) = new(64 << 20);
        for number in 0..30_000 {
            let queue = queues[number % 2].clone();
            assert!(known.insert(&names(number), &Targets::from_buf([queue])));
        }
        assert!(known.is_large());
        // In turn, each twice, every third, and some that nobody knows.
        let wild = (0..2000).map(|number| number * 7919 % 31_000);
        let numbers: Vec<usize> = (0..2000)
            .chain((0..2000).map(|number| number / 2))
            .chain((0..2000).map(|number| number * 3))
            .chain(wild)
            .collect();
        let frame = publishes(0..1).len();
        let input = publishes(numbers.iter().copied());
        for (at, number) in numbers.iter().enumerate() {
            let behind = &input[(at + 1) * frame..];
            // What lies there may be anything.
            let behind = [behind, &input[at..]][usize::from(at % 100 == 0)];
            let names = names(*number);
            // A publish like the one before it does not come here.
            let repeated = at > 0 && numbers[at - 1] == *number;
            if !repeated {
                assert_eq!(known.route_with_next(&names, behind), known.route(&names));
            }
        }
    }

    #[test]
    fn nobody_has_more_than_a_part_of_what_all_share() {
        let targets = Targets::new();
        let (mut greedy, budget) = new(SHARED_BYTES_MAX + SHARE_BYTES);
        let most = fill(&mut greedy, &targets);
        assert_eq!(budget.left(), SHARE_BYTES);
        let mut other = KnownRoutes::new(&budget);
        let second = fill(&mut other, &targets);
        assert_eq!(budget.left(), 0);
        let mut last = KnownRoutes::new(&budget);
        let own = fill(&mut last, &targets);
        assert!(!last.is_large());
        assert!(own >= 8192, "{own} names are everybody's own");
        assert!(own < second && second < most);
        drop(greedy);
        assert!(!last.insert(b"more", &targets), "until it starts over");
        last.clear();
        assert!(fill(&mut last, &targets) > second);
    }

    #[test]
    fn what_there_is_no_room_for_takes_nothing() {
        let (mut known, budget) = new(SHARE_BYTES);
        let broad = Targets::from_vec(vec![queues(1).remove(0); OWN_BYTES]);
        assert!(!known.insert(b"broad", &broad));
        assert_eq!(budget.left(), SHARE_BYTES);
        assert!(known.route(b"broad").is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Vec<u8>, Vec<usize>),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        let names = prop_oneof![
            4 => proptest::collection::vec(0u8..2, 0..6),
            1 => proptest::collection::vec(any::<u8>(), 500..512),
        ];
        let queues = proptest::collection::vec(0usize..3, 0..3);
        prop_oneof![
            30 => (names, queues).prop_map(|(names, queues)| Step::Insert(names, queues)),
            1 => Just(Step::Clear),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_answers_what_it_was_told(steps in proptest::collection::vec(step(), 1..200)) {
            let queues = queues(3);
            let (mut known, _) = new(0);
            let mut told: HashMap<Vec<u8>, Vec<QueueId>> = HashMap::new();
            for step in &steps {
                match step {
                    Step::Insert(names, _) if told.contains_key(names) => {}
                    Step::Insert(names, places) => {
                        let targets: Targets =
                            places.iter().map(|place| queues[*place].clone()).collect();
                        prop_assert!(known.insert(names, &targets));
                        told.insert(names.clone(), ids(&targets).collect());
                    }
                    Step::Clear => {
                        known.clear();
                        told.clear();
                    }
                }
            }
            let asked = steps.iter().filter_map(|step| match step {
                Step::Insert(names, _) => Some(names),
                Step::Clear => None,
            });
            for names in asked {
                let answer = known.route(names).map(|number| ids(known.targets(number)).collect());
                prop_assert_eq!(answer.as_ref(), told.get(names));
            }
        }
    }
}
