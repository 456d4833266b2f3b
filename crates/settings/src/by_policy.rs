//! What policies say.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::setting::Setting;
use super::table::{SETTINGS, by_key};
use super::value::{Merge, Value};

/// What policies say, by the names of the settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicySettings(BTreeMap<&'static str, Value>);

impl PolicySettings {
    pub(crate) fn set(&mut self, setting: &Setting, value: Value) {
        self.0.insert(setting.name(), value);
    }

    /// What they say of the setting of this name.
    pub fn get(&self, setting: &str) -> Option<&Value> {
        self.0.get(setting)
    }

    /// These settings under an operator's.
    #[must_use]
    pub(crate) fn limited_by(mut self, operator: &PolicySettings) -> PolicySettings {
        for setting in SETTINGS {
            let name = setting.name();
            let merge = setting.key.as_ref().and_then(|key| key.operator);
            // What operator policies do not take is not among theirs.
            let merge = merge.unwrap_or(Merge::First);
            if let Some(value) = merge.choose(self.0.remove(name), operator.get(name)) {
                self.0.insert(name, value);
            }
        }
        self
    }
}

/// What a policy's and an operator policy's definitions set together.
pub fn effective(mut policy: Map<String, Json>, operator: &Map<String, Json>) -> Map<String, Json> {
    for (key, value) in operator {
        let own = policy.get(key);
        let in_force = own.map_or(value, |own| in_force(key, own, value)).clone();
        policy.insert(key.clone(), in_force);
    }
    policy
}

/// Which value of a key is in force, a policy's or an operator policy's.
fn in_force<'a>(key: &str, policy: &'a Json, operator: &'a Json) -> &'a Json {
    let takes_policy = by_key(key).is_some_and(|(_, key)| {
        let values = key.form.read(policy).zip(key.form.read(operator));
        let merge = key.operator.unwrap_or(Merge::First);
        values.is_some_and(|(policy, operator)| merge.takes_first(&policy, &operator))
    });
    if takes_policy { policy } else { operator }
}
