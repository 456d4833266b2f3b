//! Exchanges as JSON, with RabbitMQ's names for what RabbitMQ has too.

use std::sync::Arc;

use leveret_broker::Broker;
use leveret_broker::vhost::VirtualHost;
use serde_json::{Value, json};

use super::fields;
use super::list::Item;

/// One exchange.
pub(super) struct ExchangeItem {
    pub(super) broker: Arc<Broker>,
    pub(super) vhost: Arc<VirtualHost>,
    pub(super) name: String,
}

/// The exchanges of these virtual hosts.
pub(super) fn of(broker: &Arc<Broker>, vhosts: &[Arc<VirtualHost>]) -> Vec<ExchangeItem> {
    let of_one = |vhost: &Arc<VirtualHost>| {
        let (broker, vhost) = (Arc::clone(broker), Arc::clone(vhost));
        let names = vhost.exchange_names().into_iter();
        names.map(move |name| ExchangeItem {
            broker: Arc::clone(&broker),
            vhost: Arc::clone(&vhost),
            name,
        })
    };
    vhosts.iter().flat_map(of_one).collect()
}

impl Item for ExchangeItem {
    fn place(&self) -> (&str, &str) {
        (self.vhost.name(), &self.name)
    }

    fn show(&self) -> Option<Value> {
        let exchange = self.vhost.exchange(&self.name)?;
        let broker = &self.broker;
        let duplicates = broker.deduplication_counts(self.vhost.name(), &self.name);
        let duplicates = duplicates.ok().flatten();
        let policies = self.vhost.policies_of_exchange(&self.name);
        let mut shown = json!({
            "name": exchange.name,
            "vhost": **self.vhost.name(),
            "type": exchange.kind.name(),
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": fields::table(&exchange.arguments),
            "policy": policies.policy,
            "operator_policy": policies.operator_policy,
            "effective_policy_definition": policies.definition,
            "leveret": {"deduplication": duplicates.as_ref().map(fields::deduplication)},
        });
        // rabbitmq: its delayed message plugin shows the number so
        if let Ok(count) = broker.delayed_count(self.vhost.name(), &self.name) {
            shown["messages_delayed"] = Value::from(count);
        }
        Some(shown)
    }
}
