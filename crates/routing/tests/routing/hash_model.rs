//! The exchanges that give each message to one of their bindings: whatever is bound and unbound, every
//! message reaches exactly one of what is bound, a key stays where it is, and only what must move moves.

use std::collections::{BTreeMap, BTreeSet};

use leveret_routing::{Exchange, ExchangeKind, RouteInput, Topology};
use proptest::prelude::*;

use crate::support::{by_key, exchange, routed, to_exchange, to_queue, with_queues};

const QUEUES: u64 = 8;
/// Queue of the alternate exchange.
const ELSEWHERE: u64 = 20;
const KEYS: usize = 600;

#[derive(Clone, Debug)]
enum Step {
    /// To the queue itself, or to an exchange that leads there.
    Bind {
        queue: u64,
        weight: u32,
        through: bool,
    },
    Unbind {
        queue: u64,
    },
    /// Its queue, or the exchange that leads there, is gone for good and comes back unbound.
    Replace {
        queue: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..QUEUES, 1..6_u32, any::<bool>())
            .prop_map(|(queue, weight, through)| Step::Bind { queue, weight, through }),
        2 => (0..QUEUES).prop_map(|queue| Step::Unbind { queue }),
        1 => (0..QUEUES).prop_map(|queue| Step::Replace { queue }),
    ];
    prop::collection::vec(step, 1..24)
}

/// What is bound: queue to weight, and whether through an exchange.
type Bound = BTreeMap<u64, (u32, bool)>;

/// The exchange `e` with queues to bind, exchanges `x0`... that lead to them, and an alternate.
fn start(kind: ExchangeKind) -> Topology {
    let mut topology = with_queues(QUEUES);
    topology.add_queue("elsewhere", leveret_routing::QueueId(ELSEWHERE));
    for queue in 0..QUEUES {
        lead_to(&mut topology, queue);
    }
    topology.declare_exchange(exchange("other", ExchangeKind::Fanout));
    topology.bind(to_queue("other", ELSEWHERE, "")).unwrap();
    topology.declare_exchange(Exchange {
        alternate: Some("other".to_owned()),
        ..exchange("e", kind)
    });
    topology
}

fn lead_to(topology: &mut Topology, queue: u64) {
    let name = format!("x{queue}");
    topology.declare_exchange(exchange(&name, ExchangeKind::Fanout));
    topology.bind(to_queue(&name, queue, "")).unwrap();
}

fn binding(queue: u64, weight: u32, through: bool, kind: ExchangeKind) -> leveret_routing::Binding {
    let key = match kind {
        ExchangeKind::LocalRandom => String::new(),
        _ => weight.to_string(),
    };
    match through {
        true => to_exchange("e", &format!("x{queue}"), &key),
        false => to_queue("e", queue, &key),
    }
}

fn apply(step: &Step, kind: ExchangeKind, topology: &mut Topology, bound: &mut Bound) {
    match *step {
        Step::Bind {
            queue,
            weight,
            through,
        } => {
            let through = through && kind != ExchangeKind::LocalRandom;
            if let std::collections::btree_map::Entry::Vacant(place) = bound.entry(queue) {
                place.insert((weight, through));
                let binding = binding(queue, weight, through, kind);
                assert_eq!(topology.bind(binding), Ok(true));
            }
        }
        Step::Unbind { queue } => {
            if let Some((weight, through)) = bound.remove(&queue) {
                topology.unbind(&binding(queue, weight, through, kind));
            }
        }
        Step::Replace { queue } => {
            bound.remove(&queue);
            let id = leveret_routing::QueueId(queue);
            topology.delete_exchange(&format!("x{queue}"));
            topology.remove_queue(&format!("q{queue}"), id);
            topology.add_queue(&format!("q{queue}"), id);
            lead_to(topology, queue);
        }
    }
}

/// Where each key goes: always to exactly one of what is bound, or to the alternate.
fn owners(topology: &Topology, bound: &Bound) -> Vec<u64> {
    (0..KEYS)
        .map(|key| {
            let reached = by_key(topology, "e", &format!("key-{key}"));
            assert_eq!(reached.len(), 1, "one queue for each message");
            let owner = reached[0];
            assert!(match bound.is_empty() {
                true => owner == ELSEWHERE,
                false => bound.contains_key(&owner),
            });
            owner
        })
        .collect()
}

fn total(bound: &Bound) -> u32 {
    bound.values().map(|(weight, _)| weight).sum()
}

/// From `before` to `after` only what a queue that came takes has moved, or what one that went had,
/// and not more than its fair share and chance.
fn check_moves(before: (&Bound, &[u64]), after: (&Bound, &[u64])) {
    let moved: Vec<(u64, u64)> = before
        .1
        .iter()
        .zip(after.1)
        .filter(|(from, to)| from != to)
        .map(|(from, to)| (*from, *to))
        .collect();
    let came = after.0.keys().find(|queue| !before.0.contains_key(queue));
    let went = before.0.keys().find(|queue| !after.0.contains_key(queue));
    let (larger, changed) = match (came, went) {
        (Some(queue), _) => (after.0, *queue),
        (_, Some(queue)) => (before.0, *queue),
        (None, None) => return assert_eq!(moved, []),
    };
    for &(from, to) in &moved {
        assert_eq!(if came.is_some() { to } else { from }, changed);
    }
    let share = f64::from(larger[&changed].0) / f64::from(total(larger));
    let expected = share * KEYS as f64;
    // Six standard deviations of as many throws with this chance.
    let chance = 6.0 * (expected * (1.0 - share)).sqrt() + 1.0;
    let difference = (moved.len() as f64 - expected).abs();
    assert!(
        difference <= chance,
        "{} moved, fair are {expected} and by chance {chance} more or less",
        moved.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn consistent_hash_moves_the_fair_share_and_nothing_else(steps in steps()) {
        let kind = ExchangeKind::ConsistentHash;
        let (mut topology, mut bound) = (start(kind), Bound::new());
        let mut before = owners(&topology, &bound);
        for step in &steps {
            let were = bound.clone();
            apply(step, kind, &mut topology, &mut bound);
            let now = owners(&topology, &bound);
            check_moves((&were, &before), (&bound, &now));
            before = now;
        }
        let mut again = start(kind);
        for (queue, (weight, through)) in bound.iter().rev() {
            again.bind(binding(*queue, *weight, *through, kind)).unwrap();
        }
        prop_assert_eq!(owners(&again, &bound), before, "however it came to be");
    }

    #[test]
    fn modulus_hash_gives_each_key_to_one(steps in steps()) {
        let kind = ExchangeKind::ModulusHash;
        let (mut topology, mut bound) = (start(kind), Bound::new());
        for step in &steps {
            let (were, before) = (bound.clone(), owners(&topology, &bound));
            apply(step, kind, &mut topology, &mut bound);
            let now = owners(&topology, &bound);
            if were == bound {
                prop_assert_eq!(&now, &before, "a key stays where it is");
            }
            let reached: BTreeSet<u64> = now.into_iter().collect();
            prop_assert_eq!(reached.len(), bound.len().max(1), "nobody is left out");
        }
    }

    #[test]
    fn random_gives_each_message_to_one_and_leaves_nobody_out(
        local in any::<bool>(),
        steps in steps(),
        seed in any::<u64>(),
    ) {
        let kind = if local { ExchangeKind::LocalRandom } else { ExchangeKind::Random };
        let (mut topology, mut bound) = (start(kind), Bound::new());
        for step in &steps {
            apply(step, kind, &mut topology, &mut bound);
            let mut reached = BTreeMap::new();
            for turn in 0..KEYS as u64 {
                // As the broker draws them: evenly distributed, whatever the seed.
                let random = seed.wrapping_add(turn).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let input = RouteInput { random, ..RouteInput::new(b"k") };
                let one = routed(&topology, "e", &input);
                prop_assert_eq!(one.len(), 1);
                *reached.entry(one[0]).or_insert(0) += 1;
            }
            let expected: Vec<u64> = match bound.is_empty() {
                true => vec![ELSEWHERE],
                false => bound.keys().copied().collect(),
            };
            prop_assert_eq!(reached.keys().copied().collect::<Vec<_>>(), expected);
            let fair = KEYS / reached.len();
            prop_assert!(reached.values().all(|count: &usize| *count * 2 > fair), "{:?}", reached);
        }
    }
}
