//! `x-consistent-hash`: each key belongs to one destination, in proportion to the weights that are the
//! binding keys, and few keys move when a destination comes or goes.
//!
//! Weighted rendezvous hashing: every destination draws a number u in (0, 1) from the hash of its name
//! and the key; the largest u^(1/weight) wins. So the split is exact for any weights, only the keys
//! of a destination that comes or goes move, and the order of binding does not matter: a restart
//! changes nothing. Among destinations of one weight the largest u wins, which leaves one logarithm
//! for each distinct weight instead of one for each destination.

use leveret_codec::FieldTable;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::arguments::{argument, text};
use crate::binding::BindError;
use crate::exchange_error::ExchangeError;
use crate::headers::ValueRef;
use crate::matcher::{ExchangeType, Matcher};
use crate::route::{Route, RouteInput};
use crate::stable_hash;
use crate::target::{ExchangeIndex, Target, Terms};

pub(crate) static CONSISTENT_HASH: ExchangeType = ExchangeType {
    name: "x-consistent-hash",
    is_stateful: false,
    check: |arguments| HashOn::parse(arguments).map(drop),
    matcher: |arguments| {
        let hash_on = HashOn::parse(arguments).unwrap_or(HashOn::RoutingKey);
        Box::new(ConsistentHash::new(hash_on))
    },
};

/// What a consistent hash exchange hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HashOn {
    RoutingKey,
    Header(Box<[u8]>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    fn parse(arguments: &FieldTable) -> Result<Self, ExchangeError> {
        let header = argument(arguments, "hash-header");
        let property = argument(arguments, "hash-property");
        match (header, property) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => text(header)
                .map(|name| Self::Header(name.as_bytes().into()))
                .ok_or(ExchangeError::HashArgumentType("hash-header")),
            (None, Some(property)) => {
                match text(property).ok_or(ExchangeError::HashArgumentType("hash-property"))? {
                    "message_id" => Ok(Self::MessageId),
                    "correlation_id" => Ok(Self::CorrelationId),
                    "timestamp" => Ok(Self::Timestamp),
                    other => Err(ExchangeError::HashProperty(other.to_owned())),
                }
            }
            (Some(_), Some(_)) => Err(ExchangeError::HashArguments),
        }
    }
}

#[derive(Clone, Debug)]
struct ConsistentHash {
    hash_on: HashOn,
    groups: Vec<Group>,
    /// The weights each destination was bound with, in order of binding.
    weights: FxHashMap<Target, SmallVec<[u64; 1]>>,
}

/// Destinations of equal weight.
#[derive(Clone, Debug)]
struct Group {
    weight: u64,
    members: Vec<(u64, Target)>,
}

impl Matcher for ConsistentHash {
    fn check(&self, terms: &Terms<'_>) -> Result<(), BindError> {
        parse_weight(terms.routing_key).map(drop)
    }

    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        let weight = parse_weight(terms.routing_key)?;
        let weights = self.weights.entry(terms.target).or_default();
        weights.push(weight);
        // rabbitmq: of several bindings of one destination the first counts.
        if weights.len() == 1 {
            self.join(weight, (terms.seed, terms.target));
        }
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        let weight = parse_weight(terms.routing_key).ok();
        let weights = self.weights.get_mut(&terms.target);
        let found = weights.zip(weight).and_then(|(weights, weight)| {
            let position = weights.iter().position(|known| *known == weight)?;
            Some((weights, weight, position))
        });
        let Some((weights, weight, position)) = found else {
            debug_assert!(false, "a binding that is removed was added");
            return;
        };
        weights.remove(position);
        let next = weights.first().copied();
        if next.is_none() {
            self.weights.remove(&terms.target);
        }
        if position == 0 {
            self.leave(weight, (terms.seed, terms.target));
            if let Some(next) = next {
                self.join(next, (terms.seed, terms.target));
            }
        }
    }

    fn collect(&self, input: &RouteInput<'_>, _: ExchangeIndex, route: &mut Route) -> bool {
        route.add_one(self.pick(input))
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}

impl ConsistentHash {
    fn new(hash_on: HashOn) -> Self {
        Self {
            hash_on,
            groups: Vec::new(),
            weights: FxHashMap::default(),
        }
    }

    fn pick(&self, input: &RouteInput<'_>) -> Option<Target> {
        let key = self.key_hash(input);
        let winners = self.groups.iter().filter_map(|group| {
            let (seed, target) = group
                .members
                .iter()
                .max_by_key(|(seed, _)| stable_hash::mix(seed ^ key))?;
            Some((
                score(stable_hash::mix(seed ^ key), group.weight),
                *seed,
                *target,
            ))
        });
        winners
            .max_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
            .map(|(_, _, target)| target)
    }

    fn key_hash(&self, input: &RouteInput<'_>) -> u64 {
        // rabbitmq: a message without the header or property hashes like all others without.
        let bytes = match &self.hash_on {
            HashOn::RoutingKey => Some(input.routing_key),
            HashOn::MessageId => input.message_id,
            HashOn::CorrelationId => input.correlation_id,
            HashOn::Timestamp => {
                return input
                    .timestamp
                    .map_or(0, |time| stable_hash::mix(time ^ 1 << 63));
            }
            HashOn::Header(name) => {
                let header = input.headers.as_ref().and_then(|headers| headers.get(name));
                return header.map_or(0, |value| ValueRef::of_header(value, true).stable_hash());
            }
        };
        bytes.map_or(0, |bytes| stable_hash::hash_bytes(1, bytes))
    }

    fn join(&mut self, weight: u64, member: (u64, Target)) {
        match self.groups.iter_mut().find(|group| group.weight == weight) {
            Some(group) => group.members.push(member),
            None => self.groups.push(Group {
                weight,
                members: vec![member],
            }),
        }
    }

    fn leave(&mut self, weight: u64, member: (u64, Target)) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.weight == weight) {
            group.members.retain(|known| *known != member);
        }
        self.groups.retain(|group| !group.members.is_empty());
    }
}

/// ln(u) / weight for the u that `hash` stands for: grows as u^(1/weight) does.
fn score(hash: u64, weight: u64) -> f64 {
    const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
    ((hash as f64 + 1.0) / (TWO_TO_64 + 1.0)).ln() / weight as f64
}

/// A binding's key is its weight.
fn parse_weight(key: &[u8]) -> Result<u64, BindError> {
    let not_integer = || BindError::WeightNotInteger { key: key.to_vec() };
    let (is_negative, digits) = match key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(not_integer());
    }
    let text = std::str::from_utf8(digits).map_err(|_| not_integer())?;
    // Weights that do not fit are all alike, as far as proportions go.
    match text.parse().unwrap_or(u64::MAX) {
        0 => Err(BindError::WeightNotPositive),
        _ if is_negative => Err(BindError::WeightNotPositive),
        weight => Ok(weight),
    }
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPValue, LongString};

    use super::*;

    #[test]
    fn hash_arguments_exclude_each_other() {
        let hash = |arguments: &[(&str, &str)]| {
            let mut table = FieldTable::default();
            for (name, value) in arguments {
                let value = AMQPValue::LongString(LongString::from(*value));
                table.insert((*name).into(), value);
            }
            (CONSISTENT_HASH.check)(&table)
        };
        assert_eq!(hash(&[("hash-header", "h")]), Ok(()));
        assert_eq!(hash(&[("hash-property", "message_id")]), Ok(()));
        assert_eq!(
            hash(&[("hash-property", "zz")]),
            Err(ExchangeError::HashProperty("zz".to_owned()))
        );
        assert_eq!(
            hash(&[("hash-property", "timestamp"), ("hash-header", "h")]),
            Err(ExchangeError::HashArguments)
        );
    }
}
