//! Which queues are wanted, in words: `orders ready>1000 -type:stream oldest>5min /^a.*z$/`.

use fancy_regex::{Regex, RegexBuilder};

use super::Seen;
use crate::http::answer::Refusal;

/// How often an expression may go back before a name is given up.
const BACKTRACK_LIMIT: usize = 10_000;
const NUMBERS: &str = "ready, unacked, in, out, consumers, bytes, empty";
const WORDS: &str = "state, type, policy, vhost, arg, is:dead";

/// All of its terms must hold.
pub(crate) struct Filter(Vec<(bool, Term)>);

enum Term {
    /// A part of the name, lower case.
    Name(String),
    Expression(Box<Regex>),
    Number(Number, Order, f64),
    State(String),
    Kind(String),
    Policy(String),
    Vhost(String),
    Argument(String),
    /// It keeps dead letters.
    Dead,
}

#[derive(Clone, Copy)]
enum Number {
    Ready,
    Unacknowledged,
    In,
    Out,
    Consumers,
    Bytes,
    EmptyIn,
}

#[derive(Clone, Copy)]
enum Order {
    Less,
    Equal,
    More,
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let terms = text.split_whitespace().map(|word| {
            let (is_negated, word) = match word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            Ok((is_negated, Term::parse(word)?))
        });
        terms.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn takes(&self, seen: &Seen) -> bool {
        self.0
            .iter()
            .all(|(is_negated, term)| term.takes(seen) != *is_negated)
    }
}

fn wrong(reason: String) -> Refusal {
    Refusal::Bad("invalid_filter", reason)
}

impl Term {
    fn parse(word: &str) -> Result<Self, Refusal> {
        let expression = word
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'));
        if let Some(expression) = expression.filter(|expression| !expression.is_empty()) {
            let built = RegexBuilder::new(expression)
                .backtrack_limit(BACKTRACK_LIMIT)
                .build();
            let built = built.map_err(|error| wrong(format!("{word}: {error}")))?;
            return Ok(Self::Expression(Box::new(built)));
        }
        if let Some(at) = word.find(['<', '>', '=']) {
            let (name, rest) = word.split_at(at);
            let number = Number::parse(name).ok_or_else(|| {
                wrong(format!(
                    "'{name}' is no number of a queue; possible are {NUMBERS}"
                ))
            })?;
            return number.compare(word, rest);
        }
        let Some((name, value)) = word.split_once(':') else {
            return Ok(Self::Name(word.to_lowercase()));
        };
        if let Some(number) = Number::parse(name) {
            return number.compare(word, &format!("={value}"));
        }
        Ok(match name {
            "state" => Self::State(value.replace('-', "_")),
            "type" => Self::Kind(value.to_owned()),
            "policy" => Self::Policy(value.to_owned()),
            "vhost" => Self::Vhost(value.to_owned()),
            "arg" => Self::Argument(value.to_owned()),
            "is" if value == "dead" => Self::Dead,
            // Names may have colons; where they look like this, an expression finds them.
            _ if value.is_empty() || !name.chars().all(|it| it.is_ascii_lowercase()) => {
                Self::Name(word.to_lowercase())
            }
            _ => {
                return Err(wrong(format!(
                    "'{name}:' is nothing to filter by; possible are {WORDS}, {NUMBERS}"
                )));
            }
        })
    }

    fn takes(&self, seen: &Seen) -> bool {
        let queue = &seen.queue;
        match self {
            Self::Name(part) => queue.name().to_lowercase().contains(part),
            Self::Expression(it) => it.is_match(queue.name()).unwrap_or(false),
            Self::Number(number, order, bound) => {
                let value = number.of(seen);
                match order {
                    Order::Less => value < *bound,
                    Order::Equal => value == *bound,
                    Order::More => value > *bound,
                }
            }
            Self::State(name) if name == "attention" => seen.state.needs_attention(),
            Self::State(name) => seen.state.name() == name,
            Self::Dead => seen.is_grave,
            Self::Kind(kind) => queue.kind().name() == kind,
            Self::Policy(policy) => queue.policies().policy.as_ref() == Some(policy),
            Self::Vhost(vhost) => queue.vhost() == vhost,
            Self::Argument(name) => {
                let arguments = queue.identity().arguments.inner();
                arguments.keys().any(|known| known.as_str() == name)
            }
        }
    }
}

impl Number {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ready" => Self::Ready,
            "unacked" => Self::Unacknowledged,
            "in" => Self::In,
            "out" => Self::Out,
            "consumers" => Self::Consumers,
            "bytes" => Self::Bytes,
            "empty" => Self::EmptyIn,
            _ => return None,
        })
    }

    fn of(self, seen: &Seen) -> f64 {
        match self {
            Self::Ready => seen.counts.ready as f64,
            Self::Unacknowledged => seen.counts.unacknowledged as f64,
            Self::In => seen.rates.published,
            Self::Out => seen.rates.delivered,
            Self::Consumers => f64::from(seen.counts.consumers),
            Self::Bytes => seen.bytes as f64,
            Self::EmptyIn => seen.empty_in.unwrap_or(f64::INFINITY),
        }
    }

    fn compare(self, word: &str, rest: &str) -> Result<Term, Refusal> {
        let (order, value) = match rest.split_at_checked(1) {
            Some(("<", value)) => (Order::Less, value),
            Some((">", value)) => (Order::More, value),
            Some((_, value)) => (Order::Equal, value),
            None => (Order::Equal, ""),
        };
        let bound = number(value).ok_or_else(|| {
            wrong(format!(
                "{word}: '{value}' is no number; 5, 0.4, 10k, 2M, 30s, 5min, 1h, 1d are"
            ))
        })?;
        Ok(Term::Number(self, order, bound))
    }
}

/// A number with a unit; times are in seconds.
fn number(text: &str) -> Option<f64> {
    let at = text
        .find(|it: char| it.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(at)?;
    let factor = match unit {
        "" | "s" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "ms" => 1e-3,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    let number = digits.parse::<f64>().ok().filter(|it| it.is_finite())?;
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        for (text, value) in [
            ("5", 5.0),
            ("0.4", 0.4),
            ("10k", 1e4),
            ("5min", 300.0),
            ("20ms", 0.02),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for wrong in ["", "x", "5x", "k", "1e999", "é"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for right in [
            "orders ready>1000 -type:stream in<1 consumers:0 empty>5min",
            "/^a.*z$/ -x A:1 state:no-consumers policy:ha vhost:/ arg:x-max-length is:dead",
            "-",
            "/",
            "//",
            "a/b",
            "",
        ] {
            assert!(Filter::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "redy>1",
            "ready>x",
            "ready>",
            "/(/",
            "stat:growing",
            "ready:x",
            "=",
            "<é",
        ] {
            let refused = Filter::parse(wrong).err();
            assert!(
                matches!(refused, Some(Refusal::Bad("invalid_filter", _))),
                "{wrong}"
            );
        }
    }
}
