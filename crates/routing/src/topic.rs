//! Topic exchanges: a trie of words with `*` (one word) and `#` (any number of words).
//!
//! The edges of all nodes share one hash table, keyed by (node, word), so that a routing key costs a
//! few look-ups a word however many bindings there are. The walk keeps the set of nodes that the words
//! so far may have led to instead of recursing: its cost is bounded by words × reachable nodes, also
//! for patterns like `#.a.#.a.#` that make backtracking explode.
//!
//! As in RabbitMQ the empty key has no words, and `a..b` has an empty one.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;

use crate::binding::BindError;
use crate::matcher::{ExchangeType, Matcher, any_arguments};
use crate::places::Places;
use crate::route::{Route, RouteInput, TopicScratch};
use crate::sliced_table::SlicedTable;
use crate::target::{ExchangeIndex, Target, TargetSet, Terms};

pub(crate) static TOPIC: ExchangeType = ExchangeType {
    name: "topic",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(TopicTrie::default()),
};

const ROOT: u32 = 0;
/// No such child. The root is nobody's child.
const NONE: u32 = 0;

/// All binding keys of one topic exchange.
#[derive(Clone, Debug)]
struct TopicTrie {
    nodes: Places<Node>,
    edges: SlicedTable<Edge>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Debug, Default)]
struct Node {
    star: u32,
    hash: u32,
    literal_children: u32,
    /// Reached by `#`: it also matches the words that follow.
    is_hash: bool,
    targets: TargetSet,
}

impl Node {
    fn has_children(&self) -> bool {
        self.star != NONE || self.hash != NONE || self.literal_children > 0
    }
}

/// A word of a binding key. Most are short and lie within their edge: a look-up among very many
/// bindings costs as much as the cache lines it touches.
type Word = SmallVec<[u8; 16]>;

#[derive(Clone, Debug)]
struct Edge {
    parent: u32,
    child: u32,
    word: Word,
}

impl Default for TopicTrie {
    fn default() -> Self {
        let mut nodes = Places::default();
        let root = nodes.insert(Node::default());
        debug_assert_eq!(root, ROOT);
        Self {
            nodes,
            edges: SlicedTable::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Matcher for TopicTrie {
    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        self.add(terms.routing_key, terms.target);
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        self.take(terms.routing_key, terms.target);
    }

    fn collect(&self, input: &RouteInput<'_>, _: ExchangeIndex, route: &mut Route) -> bool {
        input
            .keys()
            .fold(false, |matched, key| self.find(key, route) | matched)
    }

    fn is_cacheable(&self) -> bool {
        true
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}

impl TopicTrie {
    fn add(&mut self, pattern: &[u8], target: Target) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = self.child_or_new(at, word);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.targets.insert(target);
        }
    }

    fn take(&mut self, pattern: &[u8], target: Target) {
        let mut path = SmallVec::<[(u32, &[u8]); 16]>::new();
        let mut at = ROOT;
        for word in words(pattern) {
            if self.is_repeated_hash(at, word) {
                continue;
            }
            path.push((at, word));
            match self.child(at, word) {
                Some(child) => at = child,
                None => return,
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.targets.remove(target);
        }
        // Unused nodes go, from the leaf up.
        while let Some((parent, word)) = path.pop() {
            let in_use = self
                .node(at)
                .is_none_or(|node| node.has_children() || !node.targets.is_empty());
            if in_use {
                return;
            }
            self.unlink(parent, word);
            self.nodes.remove(at);
            at = parent;
        }
    }

    /// Adds to `route` what `key` matches; true when anything did.
    fn find(&self, key: &[u8], route: &mut Route) -> bool {
        let mut scratch = std::mem::take(&mut route.topic);
        let matched = self.walk(key, &mut scratch, route);
        route.topic = scratch;
        matched
    }

    fn walk(&self, key: &[u8], scratch: &mut TopicScratch, route: &mut Route) -> bool {
        scratch.active.clear();
        scratch.sticky.clear();
        scratch.sticky_seen.clear();
        scratch.active.push(ROOT);
        let mut matched = self.follow_hash(ROOT, scratch, route);
        for word in words(key) {
            let word_hash = self.hasher.hash_one(word);
            scratch.next.clear();
            for position in 0..scratch.active.len() {
                if let Some(at) = scratch.active.get(position).copied() {
                    self.step(at, word, word_hash, &mut scratch.next);
                }
            }
            for at in &scratch.sticky {
                self.step(*at, word, word_hash, &mut scratch.next);
            }
            std::mem::swap(&mut scratch.active, &mut scratch.next);
            for position in 0..scratch.active.len() {
                if let Some(at) = scratch.active.get(position).copied() {
                    matched |= self.follow_hash(at, scratch, route);
                }
            }
        }
        for node in scratch.active.iter().filter_map(|at| self.node(*at)) {
            matched |= route.add_all(&node.targets);
        }
        matched
    }

    /// The children of `at` that take `word`. A node has one parent, so none is pushed twice.
    fn step(&self, at: u32, word: &[u8], word_hash: u64, next: &mut Vec<u32>) {
        let Some(node) = self.node(at) else { return };
        if node.star != NONE {
            next.push(node.star);
        }
        if node.literal_children > 0
            && let Some(edge) = self.edges.find(hash_edge(at, word_hash), |edge| {
                edge.parent == at && *edge.word == *word
            })
        {
            next.push(edge.child);
        }
    }

    /// Reaches `at`'s '#' child without consuming a word. A '#' node matches whatever follows, so its
    /// targets are certain at once.
    fn follow_hash(&self, at: u32, scratch: &mut TopicScratch, route: &mut Route) -> bool {
        let hash = self.node(at).map_or(NONE, |node| node.hash);
        if hash == NONE || !scratch.sticky_seen.insert(hash) {
            return false;
        }
        let Some(node) = self.node(hash) else {
            return false;
        };
        if node.has_children() {
            scratch.sticky.push(hash);
        }
        route.add_all(&node.targets)
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at)
    }

    fn child(&self, parent: u32, word: &[u8]) -> Option<u32> {
        match word {
            b"*" => self
                .node(parent)
                .map(|node| node.star)
                .filter(|child| *child != NONE),
            b"#" => self
                .node(parent)
                .map(|node| node.hash)
                .filter(|child| *child != NONE),
            _ => self
                .edges
                .find(hash_edge(parent, self.hasher.hash_one(word)), |edge| {
                    edge.parent == parent && *edge.word == *word
                })
                .map(|edge| edge.child),
        }
    }

    /// `#.#` means `#`: the second adds nothing, and no '#' node has a '#' child.
    fn is_repeated_hash(&self, at: u32, word: &[u8]) -> bool {
        word == b"#" && self.node(at).is_some_and(|node| node.is_hash)
    }

    fn child_or_new(&mut self, parent: u32, word: &[u8]) -> u32 {
        if self.is_repeated_hash(parent, word) {
            return parent;
        }
        if let Some(child) = self.child(parent, word) {
            return child;
        }
        let child = self.new_node(word == b"#");
        self.link(parent, word, child);
        child
    }

    fn new_node(&mut self, is_hash: bool) -> u32 {
        let node = Node {
            is_hash,
            ..Node::default()
        };
        self.nodes.insert(node)
    }

    fn link(&mut self, parent: u32, word: &[u8], child: u32) {
        let Some(node) = self.nodes.get_mut(parent) else {
            debug_assert!(false, "a parent is there");
            return;
        };
        match word {
            b"*" => node.star = child,
            b"#" => node.hash = child,
            _ => {
                node.literal_children += 1;
                let edge = Edge {
                    parent,
                    child,
                    word: Word::from_slice(word),
                };
                let word_hash = |edge: &Edge| self.hasher.hash_one(&*edge.word);
                self.edges
                    .insert(edge, |edge| hash_edge(edge.parent, word_hash(edge)));
            }
        }
    }

    fn unlink(&mut self, parent: u32, word: &[u8]) {
        let Some(node) = self.nodes.get_mut(parent) else {
            debug_assert!(false, "a parent is there");
            return;
        };
        match word {
            b"*" => node.star = NONE,
            b"#" => node.hash = NONE,
            _ => {
                let edge = self
                    .edges
                    .remove(hash_edge(parent, self.hasher.hash_one(word)), |edge| {
                        edge.parent == parent && *edge.word == *word
                    });
                if edge.is_some() {
                    node.literal_children -= 1;
                }
            }
        }
    }
}

fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    // rabbitmq: split_topic_key(<<>>) is [], so `*` does not match the empty key.
    let rest = (!key.is_empty()).then_some(key);
    rest.into_iter()
        .flat_map(|key| key.split(|byte| *byte == b'.'))
}

fn hash_edge(parent: u32, word_hash: u64) -> u64 {
    // The word's hash is even over all bits, and stays so.
    word_hash.wrapping_add(u64::from(parent).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
