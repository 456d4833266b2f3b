//! Policies at work: on queues and exchanges that are there, on new ones, and after a restart.

use std::sync::Arc;
use std::task::Waker;

use leveret_codec::{AMQPProperties, decode_header, encode_header, write_names};
use leveret_message::{Body, Message, MessageScratch, Timestamp};
use leveret_queue::queue::answers::GetResult;
use leveret_queue::queue::kind::Overflow;
use leveret_queue::queue::options::QueueOptions;
use leveret_routing::RouteInput;
use leveret_settings::policy::{ApplyTo, PolicyKind, PolicySpec};
use leveret_store_api::SteppedStore;
use serde_json::{Value, json};

use crate::broker::{Broker, DEFAULT_VHOST};
use crate::config::BrokerConfig;
use crate::definitions_import::Plan;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

struct World {
    store: Arc<SteppedStore<Message>>,
    broker: Arc<Broker>,
}

impl World {
    fn new() -> World {
        World::on(SteppedStore::new())
    }

    fn on(store: SteppedStore<Message>) -> World {
        let store = Arc::new(store);
        let shared: Arc<SteppedStore<Message>> = Arc::clone(&store);
        let broker = Broker::open(BrokerConfig::default(), shared, NOW).unwrap();
        World { store, broker }
    }

    fn restarted(&self) -> World {
        self.store.commit();
        World::on(self.store.restarted())
    }

    fn import(&self, definitions: &Value) {
        let plan = Plan::parse(definitions.to_string().as_bytes()).unwrap();
        self.broker.import(&plan, NOW).unwrap();
    }

    fn set(&self, kind: PolicyKind, name: &str, apply_to: &str, definition: &Value) {
        let spec = PolicySpec {
            vhost: DEFAULT_VHOST.to_owned(),
            name: name.to_owned(),
            pattern: "^p".to_owned(),
            apply_to: ApplyTo::parse(apply_to).unwrap(),
            priority: 0,
            definition: definition.as_object().unwrap().clone(),
        };
        self.broker.set_policy(kind, spec, NOW).unwrap();
    }

    fn clear(&self, kind: PolicyKind, name: &str) {
        self.broker.delete_policy(kind, DEFAULT_VHOST, name, NOW);
    }

    fn vhost(&self) -> Arc<VirtualHost> {
        self.broker.vhost(DEFAULT_VHOST).unwrap()
    }

    fn queue(&self, name: &str) -> QueueHandle {
        self.vhost().queue(name).unwrap()
    }

    fn options(&self, name: &str) -> QueueOptions {
        self.queue(name).options()
    }

    /// Publishes the numbers as bodies; answers which were refused.
    fn publish(&self, name: &str, numbers: std::ops::Range<u32>) -> Vec<usize> {
        let queue = self.queue(name);
        let mut refused = Vec::new();
        let messages = numbers.map(|number| message(name, &number.to_string()));
        let gate = queue.open_gate(Waker::noop()).unwrap();
        let effects = queue.publish(&gate, messages, NOW, &mut refused);
        drop(gate);
        self.vhost().carry_out(&queue, effects, NOW);
        refused
    }

    fn take(&self, name: &str) -> Vec<String> {
        let queue = self.queue(name);
        let mut bodies = Vec::new();
        while let (GetResult::Message(in_flight, _), _) = queue.get(true, NOW) {
            bodies.push(String::from_utf8(in_flight.message.body().to_vec()).unwrap());
        }
        bodies
    }
}

fn message(routing_key: &str, body: &str) -> Message {
    let properties = AMQPProperties::default();
    let header = encode_header(body.len() as u64, &properties);
    let header = decode_header(&header).unwrap();
    let mut names = Vec::new();
    write_names(&mut names, b"", routing_key.as_bytes());
    let body = Body::Borrowed(body.as_bytes());
    Message::compose(&mut MessageScratch::default(), &names, &header, body)
}

fn with_queues(queues: &Value) -> World {
    let world = World::new();
    world.import(&json!({ "queues": queues }));
    world
}

/// rabbitmq: times in arguments end at ten years, in policies nowhere
#[test]
fn times_of_policies_may_be_as_long_as_they_like() {
    let world = with_queues(&json!([{"name": "p"}]));
    for longest in [315_360_000_000_u64, 315_360_000_001, u64::MAX] {
        let times = json!({"message-ttl": longest, "expires": longest});
        world.set(PolicyKind::User, "long", "queues", &times);
        let options = world.options("p");
        assert_eq!(options.message_ttl_ms, Some(longest));
        assert_eq!(options.expires_ms, Some(longest));
        assert!(world.publish("p", 0..2).is_empty());
        assert_eq!(world.take("p"), ["0", "1"]);
    }
}

#[test]
fn queues_old_and_new_obey_until_the_policy_goes() {
    let world = with_queues(&json!([{"name": "p-old"}, {"name": "other"}]));
    world.set(
        PolicyKind::User,
        "ttl",
        "queues",
        &json!({"message-ttl": 5}),
    );
    world.import(&json!({"queues": [{"name": "p-new"}]}));
    assert_eq!(world.options("p-old").message_ttl_ms, Some(5));
    assert_eq!(world.options("p-new").message_ttl_ms, Some(5));
    assert_eq!(world.options("other").message_ttl_ms, None);
    world.set(PolicyKind::User, "ttl", "queues", &json!({"max-length": 7}));
    assert_eq!(world.options("p-old").message_ttl_ms, None);
    assert_eq!(world.options("p-old").max_length, Some(7));
    world.clear(PolicyKind::User, "ttl");
    assert_eq!(world.options("p-old"), QueueOptions::default());
}

#[test]
fn a_lower_limit_drops_the_oldest_at_once() {
    let world = with_queues(&json!([{"name": "p"}, {"name": "dead"}]));
    world.publish("p", 0..5);
    let definition =
        json!({"max-length": 2, "dead-letter-exchange": "", "dead-letter-routing-key": "dead"});
    world.set(PolicyKind::User, "limit", "queues", &definition);
    assert_eq!(world.take("p"), ["3", "4"]);
    assert_eq!(world.take("dead"), ["0", "1", "2"]);
}

#[test]
fn a_lower_limit_that_rejects_keeps_what_is_there() {
    let world = with_queues(&json!([{"name": "p"}]));
    world.publish("p", 0..5);
    world.set(
        PolicyKind::User,
        "limit",
        "queues",
        &json!({"max-length": 2, "overflow": "reject-publish"}),
    );
    assert_eq!(world.publish("p", 5..6), [0]);
    assert_eq!(world.take("p"), ["0", "1", "2", "3", "4"]);
}

#[test]
fn an_operator_limits_what_a_policy_and_an_argument_ask_for() {
    let world = with_queues(&json!([{"name": "p", "arguments": {"x-max-length": 8}}]));
    let operator = PolicyKind::Operator;
    world.set(
        PolicyKind::User,
        "limit",
        "queues",
        &json!({"max-length": 9}),
    );
    assert_eq!(world.options("p").max_length, Some(8));
    world.set(
        operator,
        "limit",
        "queues",
        &json!({"max-length": 3, "expires": 9}),
    );
    let options = world.options("p");
    assert_eq!((options.max_length, options.expires_ms), (Some(3), Some(9)));
    world.clear(PolicyKind::User, "limit");
    assert_eq!(world.options("p").max_length, Some(3));
    world.clear(operator, "limit");
    assert_eq!(world.options("p").max_length, Some(8));
}

#[test]
fn a_queue_expires_counted_from_the_policy() {
    let world = with_queues(&json!([{"name": "p"}]));
    let spec = PolicySpec {
        vhost: DEFAULT_VHOST.to_owned(),
        name: "expires".to_owned(),
        pattern: String::new(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: json!({"expires": 100}).as_object().unwrap().clone(),
    };
    let set_at = NOW + 1_000;
    world
        .broker
        .set_policy(PolicyKind::User, spec, set_at)
        .unwrap();
    assert_eq!(world.broker.poll_timeout(), Some(set_at + 100));
    world.broker.handle_timeout(set_at + 99);
    assert!(world.vhost().queue("p").is_ok());
    world.broker.handle_timeout(set_at + 100);
    assert!(world.vhost().queue("p").is_err());
}

#[test]
fn unroutable_messages_go_where_the_policy_says() {
    let world = with_queues(&json!([{"name": "lost"}]));
    world.import(&json!({
        "exchanges": [
            {"name": "px", "type": "direct"},
            {"name": "py", "type": "direct", "arguments": {"alternate-exchange": "none"}},
            {"name": "pae", "type": "fanout"},
        ],
        "bindings": [{"source": "pae", "destination": "lost"}],
    }));
    let routed = |exchange: &str| {
        let input = RouteInput::new(b"key");
        world.vhost().route_internally(exchange, &input).0.len()
    };
    assert_eq!(routed("px"), 0);
    let generation = world.vhost().generation();
    let definition = json!({"alternate-exchange": "pae"});
    world.set(PolicyKind::User, "lost", "exchanges", &definition);
    assert!(world.vhost().generation() > generation);
    assert_eq!((routed("px"), routed("py")), (1, 0));
    world.import(&json!({"exchanges": [{"name": "pz", "type": "topic"}]}));
    assert_eq!(routed("pz"), 1);
    world.clear(PolicyKind::User, "lost");
    assert_eq!((routed("px"), routed("pz")), (0, 0));
}

#[test]
fn policies_and_limits_outlive_a_restart() {
    let world = with_queues(&json!([{"name": "p"}]));
    world.import(&json!({
        "exchanges": [{"name": "px", "type": "direct"}],
        "parameters": [
            {"component": "vhost-limits", "name": "limits", "value": {"max-queues": 1}},
            {"component": "shovel", "name": "s", "value": {"a": 1}},
        ],
        "global_parameters": [{"name": "cluster_name", "value": "c"}],
    }));
    world.set(
        PolicyKind::User,
        "all",
        "all",
        &json!({"max-length": 4, "alternate-exchange": "pae"}),
    );
    world.set(
        PolicyKind::Operator,
        "all",
        "queues",
        &json!({"max-length": 2}),
    );
    let world = world.restarted();
    assert_eq!(world.options("p").max_length, Some(2));
    let vhost = world.vhost();
    let alternate = vhost
        .topology
        .read()
        .exchange("px")
        .unwrap()
        .alternate
        .clone();
    assert_eq!(alternate.as_deref(), Some("pae"));
    assert_eq!(world.broker.vhost_limits(DEFAULT_VHOST).max_queues, Some(1));
    assert_eq!(
        vhost.check_queue_limit("q").unwrap_err().text,
        "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (1) is reached"
    );
    let names: Vec<_> = world
        .broker
        .parameters()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["cluster_name", "s"]);
    // What the policy set is no argument of the exchange's.
    world.clear(PolicyKind::User, "all");
    let alternate = vhost
        .topology
        .read()
        .exchange("px")
        .unwrap()
        .alternate
        .clone();
    assert_eq!(alternate, None);
}

/// The options of a queue with these arguments under a policy.
fn in_force(arguments: &Value, policy: &Value) -> QueueOptions {
    let world = with_queues(&json!([{"name": "p", "arguments": arguments}]));
    world.set(PolicyKind::User, "policy", "queues", policy);
    world.options("p")
}

#[test]
fn arguments_and_policies_merge_as_the_queue_type_says() {
    let reject = json!({"overflow": "reject-publish", "dead-letter-exchange": "policy"});
    let arguments = |kind: &str| json!({"x-queue-type": kind, "x-overflow": "drop-head", "x-dead-letter-exchange": "argument"});
    let classic = in_force(&arguments("classic"), &reject);
    assert_eq!(classic.overflow, Overflow::DropHead);
    let quorum = in_force(&arguments("quorum"), &reject);
    assert_eq!(quorum.overflow, Overflow::RejectPublish);
    assert_eq!(quorum.dead_letter_exchange.as_deref(), Some("argument"));
    let bare = in_force(&json!({}), &reject);
    assert_eq!(bare.overflow, Overflow::RejectPublish);
    assert_eq!(bare.dead_letter_exchange.as_deref(), Some("policy"));

    let stream = in_force(
        &json!({"x-queue-type": "stream", "x-max-length-bytes": 5, "x-max-age": "1s", "x-consumer-timeout": 9}),
        &json!({"max-length-bytes": 9, "consumer-timeout": 5}),
    );
    assert_eq!(stream.max_length_bytes, Some(9));
    assert_eq!(stream.max_age_ms, Some(1000));
    assert_eq!(stream.consumer_timeout_ms, Some(5));
}

#[test]
fn delivery_limits_merge_and_replace_the_default() {
    let limit = |argument: Option<i64>, policy: Option<i64>| {
        let mut arguments = json!({"x-queue-type": "quorum"});
        if let Some(argument) = argument {
            arguments["x-delivery-limit"] = argument.into();
        }
        let policy = policy.map_or(json!({"max-length": 9}), |it| json!({"delivery-limit": it}));
        in_force(&arguments, &policy).delivery_limit
    };
    let cases = [
        (None, None, Some(20)),
        (None, Some(50), Some(50)),
        (None, Some(-1), None),
        (Some(-1), None, None),
        (Some(5), Some(-1), Some(5)),
        (Some(-1), Some(5), Some(5)),
        (Some(10), Some(5), Some(5)),
    ];
    for (argument, policy, expected) in cases {
        assert_eq!(
            limit(argument, policy),
            expected,
            "{argument:?}, {policy:?}"
        );
    }
}
