//! Exchanges bound to exchanges, alternates and auto-delete: agreement with a model that keeps lists
//! and looks at everything.

use std::collections::{BTreeMap, BTreeSet};

use leveret_routing::{Binding, Destination, Exchange, ExchangeKind, QueueId, Topology};
use proptest::prelude::*;

use crate::support::{by_key, exchange, to_exchange, to_queue};

const KEYS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    Declare {
        name: u8,
        is_direct: bool,
        auto_delete: bool,
        alternate: Option<u8>,
    },
    Delete {
        name: u8,
    },
    BindQueue {
        source: u8,
        queue: u64,
        key: usize,
    },
    BindExchange {
        source: u8,
        destination: u8,
        key: usize,
    },
    Unbind {
        chosen: usize,
    },
    RemoveQueue {
        queue: u64,
    },
    AddQueue {
        queue: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..5_u8;
    let queue = || 0..4_u64;
    prop_oneof![
        4 => (name(), any::<bool>(), any::<bool>(), prop::option::of(name())).prop_map(
            |(name, is_direct, auto_delete, alternate)|
                Step::Declare { name, is_direct, auto_delete, alternate }),
        1 => name().prop_map(|name| Step::Delete { name }),
        5 => (name(), queue(), 0..2_usize)
            .prop_map(|(source, queue, key)| Step::BindQueue { source, queue, key }),
        6 => (name(), name(), 0..2_usize).prop_map(
            |(source, destination, key)| Step::BindExchange { source, destination, key }),
        2 => any::<usize>().prop_map(|chosen| Step::Unbind { chosen }),
        1 => queue().prop_map(|queue| Step::RemoveQueue { queue }),
        2 => queue().prop_map(|queue| Step::AddQueue { queue }),
    ]
}

#[derive(Default)]
struct Model {
    exchanges: BTreeMap<String, Exchange>,
    queues: BTreeSet<u64>,
    bindings: Vec<Binding>,
}

impl Model {
    fn bind(&mut self, binding: Binding) -> Option<bool> {
        let has_target = match &binding.destination {
            Destination::Queue(id) => self.queues.contains(&id.0),
            Destination::Exchange(name) => self.exchanges.contains_key(name),
        };
        if !has_target || !self.exchanges.contains_key(&binding.source) {
            return None;
        }
        let is_new = !self.bindings.contains(&binding);
        if is_new {
            self.bindings.push(binding);
        }
        Some(is_new)
    }

    /// Removes bindings, and over and over what auto-delete takes.
    fn remove(&mut self, mut doomed: impl FnMut(&Binding) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.bindings)
            .into_iter()
            .partition(&mut doomed);
        self.bindings = kept;
        let gone: Vec<Binding> = gone;
        for source in gone.iter().map(|binding| binding.source.clone()) {
            let is_used = self.bindings.iter().any(|binding| binding.source == source);
            let auto_delete = self
                .exchanges
                .get(&source)
                .is_some_and(|one| one.auto_delete);
            if auto_delete && !is_used {
                self.delete(&source);
            }
        }
    }

    fn delete(&mut self, name: &str) {
        self.exchanges.remove(name);
        let named = Destination::Exchange(name.to_owned());
        self.remove(|binding| binding.source == name || binding.destination == named);
    }

    fn reach(&self, exchange: &str, key: &str) -> Vec<u64> {
        let mut queues = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![exchange.to_owned()];
        while let Some(name) = waiting.pop() {
            let Some(exchange) = self.exchanges.get(&name) else {
                continue;
            };
            if !seen.insert(name.clone()) {
                continue;
            }
            let matching: Vec<_> = self
                .bindings
                .iter()
                .filter(|binding| binding.source == name)
                .filter(|binding| {
                    exchange.kind == ExchangeKind::Fanout || binding.routing_key == key.as_bytes()
                })
                .collect();
            if matching.is_empty() {
                waiting.extend(exchange.alternate.clone());
            }
            for binding in matching {
                match &binding.destination {
                    Destination::Queue(id) => _ = queues.insert(id.0),
                    Destination::Exchange(name) => waiting.push(name.clone()),
                }
            }
        }
        queues.into_iter().collect()
    }
}

/// Does `step` on both; the counts of bindings and exchanges that the topology says have gone.
fn apply(step: Step, topology: &mut Topology, model: &mut Model) -> (usize, usize) {
    let name = |number: u8| format!("e{number}");
    let removed = match step {
        Step::Declare {
            name: number,
            is_direct,
            auto_delete,
            alternate,
        } => {
            let kind = if is_direct {
                ExchangeKind::Direct
            } else {
                ExchangeKind::Fanout
            };
            let alternate = alternate.map(name);
            let declared = Exchange {
                auto_delete,
                alternate,
                ..exchange(&name(number), kind)
            };
            if topology.declare_exchange(declared.clone()) {
                assert!(model.exchanges.insert(name(number), declared).is_none());
            } else {
                assert!(model.exchanges.contains_key(&name(number)));
            }
            return (0, 0);
        }
        Step::BindQueue { source, queue, key } => {
            let binding = to_queue(&name(source), queue, KEYS[key]);
            assert_eq!(topology.bind(binding.clone()).ok(), model.bind(binding));
            return (0, 0);
        }
        Step::BindExchange {
            source,
            destination,
            key,
        } => {
            let binding = to_exchange(&name(source), &name(destination), KEYS[key]);
            assert_eq!(topology.bind(binding.clone()).ok(), model.bind(binding));
            return (0, 0);
        }
        Step::AddQueue { queue } => {
            topology.add_queue(&format!("q{queue}"), QueueId(queue));
            model.queues.insert(queue);
            return (0, 0);
        }
        Step::Delete { name: number } => {
            model.delete(&name(number));
            topology.delete_exchange(&name(number))
        }
        Step::Unbind { chosen } => {
            if model.bindings.is_empty() {
                return (0, 0);
            }
            let binding = model.bindings[chosen % model.bindings.len()].clone();
            model.remove(|one| *one == binding);
            topology.unbind(&binding)
        }
        Step::RemoveQueue { queue } => {
            let destination = Destination::Queue(QueueId(queue));
            model.queues.remove(&queue);
            model.remove(|binding| binding.destination == destination);
            topology.remove_queue(&format!("q{queue}"), QueueId(queue))
        }
    };
    (removed.bindings.len(), removed.exchanges.len())
}

fn sorted(bindings: impl Iterator<Item = Binding>) -> Vec<String> {
    let mut sorted: Vec<_> = bindings.map(|binding| format!("{binding:?}")).collect();
    sorted.sort_unstable();
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_looking_at_everything(steps in prop::collection::vec(step(), 1..60)) {
        let mut topology = Topology::new();
        let mut model = Model::default();
        for step in steps {
            let before = (model.bindings.len(), model.exchanges.len());
            let (bindings, exchanges) = apply(step.clone(), &mut topology, &mut model);
            if bindings > 0 || exchanges > 0 {
                let after = (model.bindings.len(), model.exchanges.len());
                prop_assert_eq!((before.0 - bindings, before.1 - exchanges), after, "{:?}", step);
            }
            prop_assert_eq!(
                sorted(topology.bindings().cloned()),
                sorted(model.bindings.iter().cloned())
            );
            prop_assert_eq!(topology.exchanges().count(), model.exchanges.len() + 7);
            for name in model.exchanges.keys() {
                let outgoing = model.bindings.iter().filter(|one| one.source == *name).cloned();
                prop_assert_eq!(
                    sorted(topology.bindings_of_source(name).cloned()), sorted(outgoing));
                for key in KEYS {
                    prop_assert_eq!(by_key(&topology, name, key), model.reach(name, key));
                }
            }
        }
    }
}
