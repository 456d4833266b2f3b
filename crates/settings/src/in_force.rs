//! A queue's arguments and what policies say, made into the options in force.

use leveret_codec::FieldTable;
use leveret_queue::queue::options::QueueOptions;

use super::by_policy::PolicySettings;
use super::declared::kind;
use super::setting::Effect;
use super::table::SETTINGS;

/// The options of a queue with these arguments under these policies. The arguments were accepted before.
pub fn options_in_force(arguments: &FieldTable, policy: &PolicySettings) -> QueueOptions {
    let kind = kind(arguments);
    let mut options = QueueOptions::of_kind(kind);
    for setting in SETTINGS {
        if let Effect::Set { merge, set } = &setting.effect
            && let Some(value) = merge
                .of(kind)
                .choose(setting.declared(arguments), policy.get(setting.name()))
        {
            set(&mut options, &value);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use leveret_codec::AMQPValue;
    use leveret_queue::queue::kind::{Overflow, QueueKind};
    use proptest::array::uniform3;
    use proptest::option;
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json};

    use super::*;
    use crate::by_policy::effective;
    use crate::policy::{PolicyKind, settings};

    const KINDS: [QueueKind; 3] = [QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream];
    const OVERFLOWS: [(&str, Overflow); 3] = [
        ("drop-head", Overflow::DropHead),
        ("reject-publish", Overflow::RejectPublish),
        ("reject-publish-dlx", Overflow::RejectPublishDeadLetter),
    ];

    /// What an argument, a policy and an operator policy say, where they do.
    type Said<T> = [Option<T>; 3];

    #[derive(Clone, Debug)]
    struct Case {
        kind: QueueKind,
        ttl: Said<u64>,
        expires: Said<u64>,
        length: Said<u64>,
        bytes: Said<u64>,
        timeout: Said<u64>,
        limit: Said<i64>,
        overflow: Said<usize>,
        // What follows operators cannot say.
        exchange: Said<String>,
        key: Said<String>,
        age: Said<u64>,
        segment: Said<u64>,
        window: Said<u64>,
        unique: Said<bool>,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let number = || uniform3(option::of(1_u64..6));
        let text = || uniform3(option::of("[a-c]"));
        let limits = (number(), number(), number(), number(), number());
        let words = (
            uniform3(option::of(-1_i64..6)),
            uniform3(option::of(0..OVERFLOWS.len())),
            text(),
            text(),
        );
        let others = (
            number(),
            number(),
            number(),
            uniform3(any::<Option<bool>>()),
        );
        (prop::sample::select(&KINDS[..]), limits, words, others).prop_map(
            |(kind, limits, (limit, overflow, exchange, key), (age, segment, window, unique))| {
                let (ttl, expires, length, bytes, timeout) = limits;
                Case {
                    kind,
                    ttl,
                    expires,
                    length,
                    bytes,
                    timeout,
                    limit,
                    overflow,
                    exchange,
                    key,
                    age,
                    segment,
                    window,
                    unique,
                }
            },
        )
    }

    /// Three tables as clients and policymakers would write them.
    #[derive(Default)]
    struct Tables {
        arguments: FieldTable,
        policy: Map<String, Json>,
        operator: Map<String, Json>,
    }

    impl Tables {
        /// `operator`: they may say it, too.
        fn say<T: Clone>(
            &mut self,
            (argument, key): (&str, &str),
            said: &Said<T>,
            operator: bool,
            wired: impl Fn(T) -> AMQPValue,
            shown: impl Fn(T) -> Json,
        ) {
            let [first, second, third] = said.clone();
            if let Some(value) = first {
                self.arguments.insert(argument.into(), wired(value));
            }
            if let Some(value) = second {
                self.policy.insert(key.to_owned(), shown(value));
            }
            if let Some(value) = third.filter(|_| operator) {
                self.operator.insert(key.to_owned(), shown(value));
            }
        }

        fn numbers(&mut self, names: (&str, &str), said: &Said<u64>, operator: bool) {
            let wired = |number| AMQPValue::LongLongInt(i64::try_from(number).unwrap());
            self.say(names, said, operator, wired, Json::from);
        }

        fn texts(&mut self, names: (&str, &str), said: &Said<String>, operator: bool) {
            self.say(names, said, operator, wire_text, Json::from);
        }
    }

    fn wire_text(text: String) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    impl Case {
        fn tables(&self) -> Tables {
            let mut tables = Tables::default();
            let kind = wire_text(self.kind.name().to_owned());
            tables.arguments.insert("x-queue-type".into(), kind);
            tables.numbers(
                ("x-consumer-timeout", "consumer-timeout"),
                &self.timeout,
                true,
            );
            tables.numbers(
                ("x-max-length-bytes", "max-length-bytes"),
                &self.bytes,
                true,
            );
            if self.kind == QueueKind::Stream {
                let age = self.age.map(|age| Some(format!("{}s", age?)));
                tables.texts(("x-max-age", "max-age"), &age, false);
                let segment = "stream-max-segment-size-bytes";
                tables.numbers((&format!("x-{segment}"), segment), &self.segment, false);
                return tables;
            }
            tables.numbers(("x-message-ttl", "message-ttl"), &self.ttl, true);
            tables.numbers(("x-expires", "expires"), &self.expires, true);
            tables.numbers(("x-max-length", "max-length"), &self.length, true);
            let overflow = self.overflow.map(|it| Some(OVERFLOWS[it?].0.to_owned()));
            tables.texts(("x-overflow", "overflow"), &overflow, true);
            tables.texts(
                ("x-dead-letter-exchange", "dead-letter-exchange"),
                &self.exchange,
                false,
            );
            let key = "dead-letter-routing-key";
            tables.texts((&format!("x-{key}"), key), &self.key, false);
            tables.numbers(
                ("x-dedup-window-ms", "x-dedup-window-ms"),
                &self.window,
                false,
            );
            let unique = "x-message-deduplication";
            tables.say(
                (unique, unique),
                &self.unique,
                false,
                AMQPValue::Boolean,
                Json::from,
            );
            if self.kind == QueueKind::Quorum {
                let names = ("x-delivery-limit", "delivery-limit");
                tables.say(names, &self.limit, true, AMQPValue::LongLongInt, Json::from);
            }
            tables
        }

        /// What the documentation promises.
        fn model(&self) -> QueueOptions {
            let least = |said: &Said<u64>| said.iter().flatten().min().copied();
            let mut options = QueueOptions {
                kind: self.kind,
                consumer_timeout_ms: least(&self.timeout),
                ..QueueOptions::default()
            };
            if self.kind == QueueKind::Stream {
                let [argument, policy, operator] = self.bytes;
                options.max_length_bytes = least(&[None, policy, operator]).or(argument);
                options.max_age_ms = self.age[1].or(self.age[0]).map(|seconds| seconds * 1000);
                options.stream_segment_bytes = self.segment[1].or(self.segment[0]);
                return options;
            }
            options.message_ttl_ms = least(&self.ttl);
            options.expires_ms = least(&self.expires);
            options.max_length = least(&self.length);
            options.max_length_bytes = least(&self.bytes);
            options.dead_letter_exchange = self.exchange[0].clone().or(self.exchange[1].clone());
            options.dead_letter_routing_key = self.key[0].clone().or(self.key[1].clone());
            options.deduplication.window_ms = self.window[0].or(self.window[1]);
            options.unique = self.unique[..2].contains(&Some(true));
            let [argument, policy, operator] = self.overflow.map(|it| Some(OVERFLOWS[it?].1));
            let by_policy = operator.or(policy);
            let overflow = match self.kind {
                QueueKind::Classic => argument.or(by_policy),
                _ => by_policy.or(argument),
            };
            options.overflow = overflow.unwrap_or_default();
            if self.kind == QueueKind::Quorum {
                let said: Vec<i64> = self.limit.iter().flatten().copied().collect();
                let limits = said.iter().filter_map(|limit| u32::try_from(*limit).ok());
                let default = said.is_empty().then_some(20);
                options.delivery_limit = limits.min().or(default);
            }
            options
        }
    }

    fn parsed(kind: PolicyKind, definition: &Map<String, Json>) -> PolicySettings {
        if definition.is_empty() {
            return PolicySettings::default();
        }
        settings::parse(kind, definition).unwrap().0
    }

    proptest! {
        #[test]
        fn arguments_policies_and_operators_merge_as_in_a_simple_model(case in cases()) {
            let tables = case.tables();
            let operator = parsed(PolicyKind::Operator, &tables.operator);
            let policies = parsed(PolicyKind::User, &tables.policy).limited_by(&operator);
            let options = options_in_force(&tables.arguments, &policies);
            prop_assert_eq!(&options, &case.model());
            // What is shown as set by policies is what they set.
            let effective = effective(tables.policy.clone(), &tables.operator);
            let shown = parsed(PolicyKind::User, &effective);
            prop_assert_eq!(options_in_force(&tables.arguments, &shown), options);
        }
    }
}
