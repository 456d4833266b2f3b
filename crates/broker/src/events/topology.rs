//! Queues, exchanges and bindings come and go.

use leveret_queue::queue::identity::SessionId;
use leveret_routing::{Binding, Destination, Exchange, Removed, Topology};
use leveret_settings::policy::PolicyKind;
use leveret_store_api::broken::broken;

use super::{EVENT_EXCHANGE, Event, Events, Properties};
use crate::broker::DEFAULT_VHOST;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

/// A binding, and what it leads to by name.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    vhost: &'a str,
    binding: &'a Binding,
    destination: &'a str,
    to_exchange: bool,
}

impl Ends<'_> {
    fn properties(&self) -> Properties {
        let kind = if self.to_exchange {
            "exchange"
        } else {
            "queue"
        };
        Properties::default()
            .text("source_name", &self.binding.source)
            .text("source_kind", "exchange")
            .text("destination_name", self.destination)
            .text("destination_kind", kind)
            .text("routing_key", &self.binding.routing_key)
            .arguments("arguments", &self.binding.arguments)
            .text("vhost", self.vhost)
    }
}

impl Event {
    /// `policy` is the name of the one that applies.
    fn exchange_created(vhost: &str, exchange: &Exchange, policy: Option<&str>, by: &str) -> Event {
        let properties = Properties::default()
            .text("name", &exchange.name)
            .text("vhost", vhost)
            .text("type", exchange.kind.name())
            .flag("durable", exchange.durable)
            .flag("auto_delete", exchange.auto_delete)
            .flag("internal", exchange.internal)
            .arguments("arguments", &exchange.arguments)
            .text("policy", policy.unwrap_or_default())
            .by(by);
        Event::new("exchange.created", properties)
    }

    fn exchange_deleted(vhost: &str, name: &str, by: &str) -> Event {
        let properties = Properties::default()
            .text("name", name)
            .text("vhost", vhost);
        Event::new("exchange.deleted", properties.by(by))
    }

    pub(crate) fn binding_created(ends: Ends<'_>, by: &str) -> Event {
        Event::new("binding.created", ends.properties().by(by))
    }

    fn binding_deleted(ends: Ends<'_>, by: &str) -> Event {
        Event::new("binding.deleted", ends.properties().by(by))
    }

    fn messages_damaged(vhost: &str, kind: &str, name: &str, messages: u64) -> Event {
        let properties = Properties::default()
            .text("name", name)
            .text("vhost", vhost)
            .text("kind", kind)
            .number("messages", messages);
        Event::new("message.damaged", properties)
    }

    pub(crate) fn queue_deleted(queue: &QueueHandle, by: &str) -> Event {
        let properties = Properties::default()
            .text("name", queue.name())
            .text("vhost", &*queue.identity().vhost);
        Event::new("queue.deleted", properties.by(by))
    }
}

impl Events {
    pub(crate) fn queue_created(&self, queue: &QueueHandle, by: &str) -> Event {
        let identity = queue.identity();
        let owner = |SessionId(session)| self.process(session, 0);
        let properties = Properties::default()
            .text("name", &identity.name)
            .text("vhost", &*identity.vhost)
            .text("type", queue.kind().module())
            .flag("durable", identity.durable)
            .flag("auto_delete", identity.auto_delete)
            .flag("exclusive", identity.exclusive.is_some())
            .text(
                "owner_pid",
                identity.exclusive.map(owner).unwrap_or_default(),
            )
            .arguments("arguments", &identity.arguments)
            .text("leader", &*self.node)
            .texts("members", [&*self.node])
            .by(by);
        Event::new("queue.created", properties)
    }
}

impl VirtualHost {
    /// Looks whether anybody hears of events; to be called with every change of bindings.
    pub(crate) fn set_listeners(&self, topology: &Topology) {
        if &**self.name() == DEFAULT_VHOST {
            let heard = topology.exchange_in_use(EVENT_EXCHANGE);
            self.services.events.set_heard(heard);
        }
    }

    /// Messages of a queue or an exchange, which `kind` says, were set aside because the store cannot read them.
    pub(crate) fn tell_damaged(&self, kind: &'static str, name: &str, messages: u64) {
        tracing::error!(
            vhost = &**self.name(),
            kind,
            name,
            messages,
            "damaged messages were set aside"
        );
        let event = Event::messages_damaged(self.name(), kind, name, messages);
        if let Some(event) = self.services.events.keep(event) {
            self.services.tell(|_| event);
        }
    }

    pub(crate) fn tell_exchange(&self, topology: &Topology, name: &str, by: &str) {
        let Some(exchange) = topology.exchange(name) else {
            broken(&"the exchange that was made is not there");
            return;
        };
        self.services.tell(|_| {
            let policy = self.policy_of_exchange(PolicyKind::User, name);
            Event::exchange_created(self.name(), exchange, policy.as_deref(), by)
        });
    }

    pub(crate) fn tell_binding(&self, binding: &Binding, event: impl FnOnce(Ends<'_>) -> Event) {
        self.services.tell(|_| {
            let queue;
            let (destination, to_exchange) = match &binding.destination {
                Destination::Exchange(name) => (name.as_str(), true),
                Destination::Queue(id) => {
                    queue = self.queue_even_leaving(*id);
                    (queue.as_ref().map_or("", QueueHandle::name), false)
                }
            };
            event(Ends {
                vhost: self.name(),
                binding,
                destination,
                to_exchange,
            })
        });
    }

    /// These have gone, for the user `by`; auto-deleted exchanges among them.
    pub(crate) fn tell_removed(&self, topology: &Topology, gone: &Removed, by: &str) {
        self.set_listeners(topology);
        for exchange in &gone.exchanges {
            let name = &exchange.name;
            self.services
                .tell(|_| Event::exchange_deleted(self.name(), name, by));
        }
        for binding in &gone.bindings {
            self.tell_binding(binding, |ends| Event::binding_deleted(ends, by));
        }
    }
}
