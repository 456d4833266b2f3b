//! Runtime parameters that mean nothing to this broker, and are kept.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A runtime parameter that means nothing to this broker, such as a federation upstream's. It is
/// kept and shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Parameter {
    /// The virtual host; None for a global parameter.
    pub vhost: Option<String>,
    /// What it is for; empty for a global parameter.
    pub component: String,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// Virtual host, component, name.
type ParameterKey = (Option<String>, String, String);

/// All parameters that are only kept.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Mutex<BTreeMap<ParameterKey, Value>>);

impl Parameters {
    /// Adds or replaces one; false if it was there already.
    pub(crate) fn keep(&self, it: Parameter) -> bool {
        let key = (it.vhost, it.component, it.name);
        let mut all = self.0.lock();
        if all.get(&key) == Some(&it.value) {
            return false;
        }
        all.insert(key, it.value);
        true
    }

    /// Forgets one; its value.
    pub(crate) fn forget(&self, place: &ParameterKey) -> Option<Value> {
        self.0.lock().remove(place)
    }

    pub(crate) fn all(&self) -> Vec<Parameter> {
        let all = self.0.lock();
        all.iter()
            .map(|((vhost, component, name), value)| Parameter {
                vhost: vhost.clone(),
                component: component.clone(),
                name: name.clone(),
                value: value.clone(),
            })
            .collect()
    }
}
