//! Every argument of `queue.declare` and every key of policies: RabbitMQ's (queues guide, policies guide; replies
//! observed on the wire), then Leveret's own.
//!
//! To add one is to add a row here, a field of [`QueueOptions`](leveret_queue::queue::options::QueueOptions) with what the queue
//! does by it, and a line in docs/COMPATIBILITY.md. The order of the arguments is that in which RabbitMQ checks them: of
//! several that are wrong the first is named.

use leveret_deduplication::WINDOW;
use leveret_queue::queue::kind::{Overflow, QueueKind};

use super::argument::{Form, argument_row as argument};
use super::key::{Key, KeyForm};
use super::kinds::{ALL, CLASSIC, Kinds, QUEUES, QUORUM, STREAM};
use super::names::{
    ALTERNATE_EXCHANGE, CONSUMER_TIMEOUT, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, QUEUE_TYPE,
    SINGLE_ACTIVE_CONSUMER,
};
use super::setting::Effect::{Nothing, OfExchanges, Set};
use super::setting::{MergeByKind, Setting};
use super::value::Merge;
use super::value::Merge::{First, Lower, On, Second};

const OVERFLOWS: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
const LOCATORS: &[&str] = &["client-local", "balanced", "random", "least-leaders"];
const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];
const MODES: &[&str] = &["default", "lazy"];
/// The largest segment of a stream, bytes.
const STREAM_SEGMENT_MAX: i64 = 3_000_000_000;

/// A key that operator policies do not take.
const fn key(
    names: &'static [&'static str],
    kinds: Kinds,
    form: KeyForm,
    what: &'static str,
) -> Option<Key> {
    Some(Key {
        names,
        kinds,
        form,
        what,
        operator: None,
    })
}

/// A key of both kinds of policies.
const fn shared_key(
    names: &'static [&'static str],
    kinds: Kinds,
    form: KeyForm,
    what: &'static str,
    operator: Merge,
) -> Option<Key> {
    Some(Key {
        names,
        kinds,
        form,
        what,
        operator: Some(operator),
    })
}

/// A key that is only checked.
const fn key_alone(key: Option<Key>) -> Setting {
    Setting {
        argument: None,
        key,
        effect: Nothing,
    }
}

const fn always(merge: Merge) -> MergeByKind {
    MergeByKind::always(merge)
}

/// The rows.
#[rustfmt::skip]
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        argument: Some(argument(QUEUE_TYPE, ALL, Form::Type)),
        key: None,
        effect: Set {
            merge: always(First),
            set: |options, value| options.kind = value.text().and_then(QueueKind::of_argument).unwrap_or_default(),
        },
    },
    Setting {
        argument: Some(argument("x-expires", QUEUES, Form::Milliseconds { zero: false })),
        key: shared_key(&["expires"], QUEUES, KeyForm::Positive, "queue expiry", Lower),
        effect: Set { merge: always(Lower), set: |options, value| options.expires_ms = value.number() },
    },
    Setting {
        argument: Some(argument("x-message-ttl", QUEUES, Form::Milliseconds { zero: true })),
        key: shared_key(&["message-ttl"], QUEUES, KeyForm::Count, "message TTL", Lower),
        effect: Set { merge: always(Lower), set: |options, value| options.message_ttl_ms = value.number() },
    },
    Setting {
        argument: Some(argument(DEAD_LETTER_EXCHANGE, QUEUES, Form::Text)),
        key: key(&["dead-letter-exchange"], QUEUES, KeyForm::Text, "dead letter exchange name"),
        effect: Set {
            merge: always(First),
            set: |options, value| options.dead_letter_exchange = value.text().map(str::to_owned),
        },
    },
    Setting {
        argument: Some(argument(DEAD_LETTER_KEY, QUEUES, Form::DeadLetterKey)),
        key: key(&["dead-letter-routing-key"], QUEUES, KeyForm::Text, "dead letter routing key"),
        effect: Set {
            merge: always(First),
            set: |options, value| options.dead_letter_routing_key = value.text().map(str::to_owned),
        },
    },
    Setting {
        argument: Some(argument("x-dead-letter-strategy", QUORUM, Form::OneOf(STRATEGIES, "invalid_dlx_strategy"))),
        key: key(&["dead-letter-strategy"], QUORUM, KeyForm::OneOf(STRATEGIES), "dead letter strategy"),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-max-length", QUEUES, Form::NonNegative)),
        key: shared_key(&["max-length"], QUEUES, KeyForm::Count, "maximum length", Lower),
        effect: Set { merge: always(Lower), set: |options, value| options.max_length = value.number() },
    },
    Setting {
        argument: Some(argument("x-max-length-bytes", ALL, Form::NonNegative)),
        key: shared_key(&["max-length-bytes"], ALL, KeyForm::Count, "maximum length in bytes", Lower),
        effect: Set {
            // rabbitmq: a stream's retention by policy goes before its arguments
            merge: MergeByKind { classic: Lower, quorum: Lower, stream: Second },
            set: |options, value| options.max_length_bytes = value.number(),
        },
    },
    Setting {
        argument: Some(argument("x-max-in-memory-length", QUORUM, Form::NonNegative)),
        key: shared_key(&["max-in-memory-length"], QUEUES, KeyForm::Count, "maximum memory in bytes", Lower),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-max-in-memory-bytes", QUORUM, Form::NonNegative)),
        key: shared_key(&["max-in-memory-bytes"], QUEUES, KeyForm::Count, "maximum memory in bytes", Lower),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-max-priority", CLASSIC, Form::Priority)),
        key: None,
        effect: Set {
            merge: always(First),
            set: |options, value| options.max_priority = value.number().and_then(|number| u8::try_from(number).ok()),
        },
    },
    Setting {
        argument: Some(argument("x-overflow", QUEUES, Form::OneOf(OVERFLOWS, "invalid_overflow"))),
        key: shared_key(&["overflow"], QUEUES, KeyForm::OneOf(OVERFLOWS), "overflow value", Second),
        effect: Set {
            // rabbitmq: the argument stays on classic queues and gives way on quorum queues
            merge: MergeByKind { classic: First, quorum: Second, stream: Second },
            set: |options, value| options.overflow = value.text().and_then(Overflow::parse).unwrap_or_default(),
        },
    },
    Setting {
        argument: Some(argument("x-queue-mode", CLASSIC, Form::Mode)),
        key: key(&["queue-mode"], CLASSIC, KeyForm::OneOf(MODES), "queue-mode value"),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-queue-version", CLASSIC, Form::Version)),
        key: shared_key(&["queue-version"], ALL, KeyForm::Count, "queue version", Lower),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument(SINGLE_ACTIVE_CONSUMER, ALL, Form::Flag)),
        key: None,
        effect: Set { merge: always(First), set: |options, value| options.single_active_consumer = value.is_on() },
    },
    Setting {
        argument: Some(argument("x-quorum-initial-group-size", QUORUM, Form::Positive)),
        key: None,
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-quorum-target-group-size", QUORUM, Form::NonNegative)),
        key: shared_key(&["target-group-size"], QUORUM, KeyForm::Positive, "target group size", Lower),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-delivery-limit", QUORUM, Form::Limit)),
        key: shared_key(&["delivery-limit"], QUORUM, KeyForm::Limit, "delivery limit", Lower),
        // The default limit of quorum queues is none to be lowered: whatever is said replaces it.
        effect: Set { merge: always(Lower), set: |options, value| options.delivery_limit = value.limit() },
    },
    Setting {
        argument: Some(argument("x-max-age", STREAM, Form::Age)),
        key: key(&["max-age"], STREAM, KeyForm::Age, "max age"),
        effect: Set { merge: always(Second), set: |options, value| options.max_age_ms = value.number() },
    },
    Setting {
        argument: Some(
            argument("x-stream-max-segment-size-bytes", STREAM, Form::NonNegative)
                .within(0..=STREAM_SEGMENT_MAX, "Exceeded max value for x-stream-max-segment-size-bytes"),
        ),
        key: key(&["stream-max-segment-size-bytes"], STREAM, KeyForm::Count, "segment size"),
        effect: Set { merge: always(Second), set: |options, value| options.stream_segment_bytes = value.number() },
    },
    Setting {
        argument: Some(
            // rabbitmq: with two spaces
            argument("x-stream-filter-size-bytes", STREAM, Form::NonNegative)
                .within(16..=255, "Invalid value for  x-stream-filter-size-bytes"),
        ),
        key: key(&["stream-filter-size-bytes"], STREAM, KeyForm::Count, "filter size"),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-initial-cluster-size", STREAM, Form::Positive)),
        key: key(&["initial-cluster-size"], STREAM, KeyForm::Count, "cluster size"),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-queue-leader-locator", ALL, Form::OneOf(LOCATORS, "invalid_queue_locator_arg"))),
        key: key(&["queue-leader-locator"], ALL, KeyForm::OneOf(LOCATORS), "queue leader locator value"),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument("x-queue-master-locator", CLASSIC, Form::Text)),
        key: key(&["queue-master-locator"], CLASSIC, KeyForm::Text, "queue-master-locator"),
        effect: Nothing,
    },
    Setting {
        argument: Some(argument(CONSUMER_TIMEOUT, ALL, Form::NonNegative)),
        key: shared_key(&["consumer-timeout"], ALL, KeyForm::Count, "consumer timeout", Lower),
        effect: Set { merge: always(Lower), set: |options, value| options.consumer_timeout_ms = value.number() },
    },

    // Of policies alone. Those that mirror, federate or place queues on the nodes of a cluster mean nothing on one.
    Setting {
        argument: None,
        key: key(&[ALTERNATE_EXCHANGE], ALL, KeyForm::Text, "alternate exchange name"),
        effect: OfExchanges,
    },
    key_alone(key(&["federation-upstream"], ALL, KeyForm::Text, "federation upstream name")),
    key_alone(key(&["federation-upstream-pattern"], ALL, KeyForm::Text, "federation upstream pattern")),
    key_alone(key(&["federation-upstream-set"], ALL, KeyForm::Text, "federation upstream set name")),
    key_alone(shared_key(&["ha-mode"], CLASSIC, KeyForm::Anything, "ha-mode", Lower)),
    key_alone(shared_key(&["ha-params"], CLASSIC, KeyForm::Anything, "ha-params", Lower)),
    key_alone(shared_key(&["ha-promote-on-failure"], CLASSIC, KeyForm::Anything, "ha-promote-on-failure", Lower)),
    key_alone(shared_key(&["ha-promote-on-shutdown"], CLASSIC, KeyForm::Anything, "ha-promote-on-shutdown", Lower)),
    key_alone(shared_key(&["ha-sync-batch-size"], CLASSIC, KeyForm::Anything, "ha-sync-batch-size", Lower)),
    key_alone(shared_key(&["ha-sync-mode"], CLASSIC, KeyForm::Anything, "ha-sync-mode", Lower)),

    // Leveret's own. The keys of deduplication are called as its arguments are: so are the plugin's.
    Setting {
        argument: Some(argument("x-message-deduplication", QUEUES, Form::Flag)),
        key: key(&["x-message-deduplication"], QUEUES, KeyForm::Flag, "flag"),
        effect: Set { merge: always(On), set: |options, value| options.unique = value.is_on() },
    },
    Setting {
        argument: Some(argument(WINDOW, QUEUES, Form::Milliseconds { zero: false })),
        key: key(&[WINDOW, "dedup-window-ms"], QUEUES, KeyForm::Positive, "deduplication window"),
        effect: Set {
            merge: always(First),
            set: |options, value| options.deduplication.window_ms = value.number(),
        },
    },
    Setting {
        argument: Some(argument("x-retry-delays", QUEUES, Form::Delays)),
        key: None,
        effect: Set { merge: always(First), set: |options, value| options.retry_delays_ms = value.numbers() },
    },
];

/// The setting that policies know by this key.
pub(crate) fn by_key(name: &str) -> Option<(&'static Setting, &'static Key)> {
    let with_key = |setting: &'static Setting| Some((setting, setting.key.as_ref()?));
    let mut keys = SETTINGS.iter().filter_map(with_key);
    keys.find(|(_, key)| key.names.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use leveret_codec::{AMQPValue, FieldTable};
    use leveret_queue::queue::options::QueueOptions;
    use serde_json::{Map, Value as Json, json};

    use super::*;
    use crate::by_policy::PolicySettings;
    use crate::declared::{DeclaredProperties, check};
    use crate::in_force::options_in_force;
    use crate::policy::{PolicyKind, settings};

    const KINDS: [QueueKind; 3] = [QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream];

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    /// A value of this form that is no queue's default.
    fn sample(form: Form) -> AMQPValue {
        match form {
            Form::NonNegative
            | Form::Positive
            | Form::Limit
            | Form::Milliseconds { .. }
            | Form::Priority => AMQPValue::LongInt(77),
            Form::Version => AMQPValue::LongInt(2),
            Form::Text | Form::DeadLetterKey => text("a"),
            Form::OneOf(words, _) => text(words.last().unwrap()),
            Form::Flag => AMQPValue::Boolean(true),
            Form::Mode => text("lazy"),
            Form::Type => text("quorum"),
            Form::Age => text("7s"),
            Form::Delays => AMQPValue::FieldArray(vec![AMQPValue::LongInt(7)].into()),
        }
    }

    fn key_sample(form: KeyForm) -> Json {
        match form {
            KeyForm::Text => json!("a"),
            KeyForm::Count | KeyForm::Positive | KeyForm::Limit => json!(77),
            KeyForm::OneOf(words) => json!(words.last().unwrap()),
            KeyForm::Age => json!("7s"),
            KeyForm::Flag => json!(true),
            KeyForm::Anything => json!({}),
        }
    }

    /// The arguments of a queue of this type that asks for nothing else.
    fn of_kind(kind: QueueKind) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert(QUEUE_TYPE.into(), text(kind.name()));
        arguments
    }

    fn refusal(arguments: &FieldTable) -> Option<String> {
        let properties = DeclaredProperties {
            durable: true,
            exclusive: false,
            auto_delete: false,
        };
        check(arguments, properties, "q", "/")
            .err()
            .map(|error| error.text)
    }

    fn declared(arguments: &FieldTable) -> QueueOptions {
        options_in_force(arguments, &PolicySettings::default())
    }

    #[test]
    fn each_name_stands_in_one_row() {
        let arguments = SETTINGS
            .iter()
            .filter_map(|it| Some(it.argument.as_ref()?.name));
        let keys = SETTINGS
            .iter()
            .filter_map(|it| Some(it.key.as_ref()?.names));
        for names in [
            arguments.collect::<Vec<_>>(),
            keys.flatten().copied().collect(),
        ] {
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        }
        for setting in SETTINGS {
            assert!(!setting.name().is_empty());
        }
    }

    #[test]
    fn an_argument_reaches_the_queues_that_take_it_and_no_others() {
        for setting in SETTINGS {
            let Some(argument) = &setting.argument else {
                continue;
            };
            for kind in KINDS {
                let mut arguments = of_kind(kind);
                if matches!(argument.form, Form::DeadLetterKey) && QUEUES.have(kind) {
                    arguments.insert(DEAD_LETTER_EXCHANGE.into(), text("dead"));
                }
                let before = declared(&arguments);
                arguments.insert(argument.name.into(), sample(argument.form));
                let shown = format!("{} {kind:?}", argument.name);
                assert_eq!(
                    refusal(&arguments).is_none(),
                    argument.kinds.have(kind),
                    "{shown}"
                );
                let is_set = matches!(setting.effect, Set { .. });
                // The type that is the sample is the type already.
                let is_same = argument.name == QUEUE_TYPE && kind == QueueKind::Quorum;
                if argument.kinds.have(kind) && !is_same {
                    assert_eq!(declared(&arguments) != before, is_set, "{shown}");
                }
            }
        }
    }

    #[test]
    fn a_key_reaches_the_queues_that_take_it_from_those_who_may_set_it() {
        for setting in SETTINGS {
            let Some(key) = &setting.key else { continue };
            for name in key.names {
                let definition = Map::from_iter([((*name).to_owned(), key_sample(key.form))]);
                let (settings, kinds) = settings::parse(PolicyKind::User, &definition).unwrap();
                assert_eq!(kinds, key.kinds, "{name}");
                let by_operator = settings::parse(PolicyKind::Operator, &definition);
                assert_eq!(by_operator.is_ok(), key.operator.is_some(), "{name}");
                for kind in KINDS.into_iter().filter(|kind| key.kinds.have(*kind)) {
                    let arguments = of_kind(kind);
                    let is_changed =
                        options_in_force(&arguments, &settings) != declared(&arguments);
                    assert_eq!(
                        is_changed,
                        matches!(setting.effect, Set { .. }),
                        "{name} {kind:?}"
                    );
                }
            }
        }
    }

    /// Which options differ. An option that is added does not compile here, and then wants its row.
    fn changed(options: &QueueOptions) -> Vec<bool> {
        let QueueOptions {
            kind,
            message_ttl_ms,
            expires_ms,
            max_length,
            max_length_bytes,
            overflow,
            dead_letter_exchange,
            dead_letter_routing_key,
            max_priority,
            single_active_consumer,
            delivery_limit,
            max_age_ms,
            stream_segment_bytes,
            consumer_timeout_ms,
            retry_delays_ms,
            deduplication,
            unique,
        } = options;
        vec![
            *kind != QueueKind::default(),
            message_ttl_ms.is_some(),
            expires_ms.is_some(),
            max_length.is_some(),
            max_length_bytes.is_some(),
            *overflow != Overflow::default(),
            dead_letter_exchange.is_some(),
            dead_letter_routing_key.is_some(),
            max_priority.is_some(),
            *single_active_consumer,
            *delivery_limit == Some(77),
            max_age_ms.is_some(),
            stream_segment_bytes.is_some(),
            consumer_timeout_ms.is_some(),
            !retry_delays_ms.is_empty(),
            deduplication.is_on(),
            *unique,
        ]
    }

    #[test]
    fn each_option_is_set_by_a_row() {
        let mut set = changed(&QueueOptions::default());
        for kind in KINDS {
            let mut arguments = of_kind(kind);
            for argument in SETTINGS.iter().filter_map(|it| it.argument.as_ref()) {
                if argument.kinds.have(kind) && argument.name != QUEUE_TYPE {
                    arguments.insert(argument.name.into(), sample(argument.form));
                }
            }
            assert_eq!(refusal(&arguments), None);
            for (set, changed) in set.iter_mut().zip(changed(&declared(&arguments))) {
                *set |= changed;
            }
        }
        assert_eq!(set, vec![true; set.len()]);
    }
}
