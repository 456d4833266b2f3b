//! A policy's definition, read and checked key by key: which keys exist, who may set them and which queue types take
//! them is in the table of settings.

use leveret_access::excerpt::excerpt;
use serde_json::{Map, Value};

use super::{PolicyError, PolicyKind};
use crate::by_policy::PolicySettings;
use crate::key::{Key, KeyForm};
use crate::kinds::{ALL, Kinds};
use crate::table::by_key;

/// Reads a definition; also answers which queue types all its keys are for.
pub(crate) fn parse(
    kind: PolicyKind,
    definition: &Map<String, Value>,
) -> Result<(PolicySettings, Kinds), PolicyError> {
    if definition.is_empty() {
        return Err(PolicyError::Empty);
    }
    let mut settings = PolicySettings::default();
    let mut kinds = ALL;
    let mut unknown = Vec::new();
    for (name, value) in definition {
        let known = by_key(name);
        match known.filter(|(_, key)| kind == PolicyKind::User || key.operator.is_some()) {
            None => unknown.push(format!("{{<<\"{}\">>,{}}}", excerpt(name), show(value))),
            Some((setting, key)) => {
                let said = key.form.read(value);
                settings.set(setting, said.ok_or_else(|| refusal(name, key, value))?);
                kinds = kinds & key.kinds;
            }
        }
    }
    if unknown.is_empty() {
        Ok((settings, kinds))
    } else {
        Err(PolicyError::Keys(
            excerpt(&format!("[{}]", unknown.join(","))).into_owned(),
        ))
    }
}

/// A value is not of its key's form.
fn refusal(name: &str, key: &'static Key, value: &Value) -> PolicyError {
    match key.form {
        KeyForm::Flag => PolicyError::Flag {
            key: name.to_owned(),
            value: show(value),
        },
        _ => PolicyError::Value {
            value: show(value),
            what: key.what,
        },
    }
}

/// A value as RabbitMQ's errors show it.
fn show(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("<<\"{}\">>", excerpt(text)),
        None => excerpt(&value.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::QUORUM;
    use crate::value::{DeliveryLimit, Value as Said};

    fn parsed(kind: PolicyKind, definition: &Value) -> Result<(PolicySettings, Kinds), String> {
        let definition = definition.as_object().unwrap();
        parse(kind, definition).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_become_settings() {
        let (settings, kinds) = parsed(
            PolicyKind::User,
            &json!({"message-ttl": 0, "overflow": "reject-publish", "delivery-limit": -1, "alternate-exchange": "x"}),
        )
        .unwrap();
        assert_eq!(settings.get("x-message-ttl"), Some(&Said::Number(0)));
        let text = |text: &str| Some(Said::Text(text.to_owned()));
        assert_eq!(settings.get("x-overflow").cloned(), text("reject-publish"));
        assert_eq!(settings.get("alternate-exchange").cloned(), text("x"));
        let unlimited = Said::Limit(DeliveryLimit::Unlimited);
        assert_eq!(settings.get("x-delivery-limit"), Some(&unlimited));
        assert_eq!(kinds, QUORUM);
    }

    #[test]
    fn refusals_are_worded_as_rabbitmqs() {
        let user = PolicyKind::User;
        let cases = [
            (user, json!({}), "no policy provided"),
            (
                user,
                json!({"message-ttl": -1}),
                "-1 is not a valid message TTL",
            ),
            (
                user,
                json!({"max-length": "a"}),
                "<<\"a\">> is not a valid maximum length",
            ),
            (user, json!({"expires": 0}), "0 is not a valid queue expiry"),
            (
                user,
                json!({"overflow": "x"}),
                "<<\"x\">> is not a valid overflow value",
            ),
            (
                user,
                json!({"delivery-limit": 1.5}),
                "1.5 is not a valid delivery limit",
            ),
            (
                user,
                json!({"max-age": "1x"}),
                "<<\"1x\">> is not a valid max age",
            ),
            (
                user,
                json!({"x-message-deduplication": "yes"}),
                "'x-message-deduplication' must be a boolean, got <<\"yes\">>",
            ),
            (
                user,
                json!({"foo": 1}),
                "[{<<\"foo\">>,1}] are not recognised policy settings",
            ),
            (
                PolicyKind::Operator,
                json!({"alternate-exchange": "x"}),
                "[{<<\"alternate-exchange\">>,<<\"x\">>}] are not recognised policy settings",
            ),
        ];
        for (kind, definition, expected) in cases {
            assert_eq!(
                parsed(kind, &definition),
                Err(expected.to_owned()),
                "{definition}"
            );
        }
    }

    #[test]
    fn refusals_do_not_repeat_what_is_long() {
        let long = "x".repeat(500_000);
        let keys: Map<String, Value> = (0..9_999).map(|n| (n.to_string(), json!(n))).collect();
        for definition in [
            json!({"max-length": long}),
            json!({"max-length": [long]}),
            json!({"x-message-deduplication": long}),
            json!({"foo": long}),
            json!({long: 1}),
            Value::Object(keys),
        ] {
            let refusal = parsed(PolicyKind::User, &definition).unwrap_err();
            assert!(refusal.len() < 1_000, "{}", refusal.len());
            assert!(refusal.contains('…'), "{refusal}");
        }
    }
}
