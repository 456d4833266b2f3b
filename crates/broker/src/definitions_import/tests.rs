//! What definitions files may hold, what they may not, and that a bad one changes nothing.

use std::sync::Arc;

use leveret_message::{Message, Timestamp};
use leveret_queue::queue::kind::QueueKind;
use leveret_settings::policy::PolicyKind;
use leveret_store_api::{DefinitionStore, SteppedStore};
use serde_json::{Value, json};

use super::Plan;
use crate::broker::Broker;
use crate::config::BrokerConfig;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn broker() -> (Arc<Broker>, Arc<SteppedStore<Message>>) {
    let store = Arc::new(SteppedStore::new());
    let shared: Arc<SteppedStore<Message>> = Arc::clone(&store);
    (
        Broker::open(BrokerConfig::default(), shared, NOW).unwrap(),
        store,
    )
}

fn import(broker: &Broker, definitions: &Value) -> Result<(), String> {
    let plan = Plan::parse(definitions.to_string().as_bytes()).map_err(|it| it.to_string())?;
    broker
        .import(&plan, NOW)
        .map(drop)
        .map_err(|it| it.to_string())
}

/// In the form of RabbitMQ's export.
fn exported() -> Value {
    json!({
        "rabbit_version": "4.1.0",
        "rabbitmq_definition_format": "cluster",
        "users": [
            {
                "name": "ann",
                "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["management", "policymaker"],
                "limits": {"max-connections": 3},
            },
            {"name": "bob", "password": "secret", "tags": "monitoring,management"},
        ],
        "vhosts": [{"name": "/"}, {"name": "shop", "metadata": {"description": "", "tags": []}}],
        "permissions": [{"user": "ann", "vhost": "shop", "configure": "^(?!amq\\.)", "write": ".*", "read": ""}],
        "topic_permissions": [
            {"user": "ann", "vhost": "shop", "exchange": "amq.topic", "write": "^{username}\\.", "read": ".*"}
        ],
        "parameters": [
            {"vhost": "shop", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 5, "max-connections": -1}},
            {
                "vhost": "shop",
                "component": "operator_policy",
                "name": "op",
                "value": {"pattern": ".*", "apply-to": "queues", "priority": 1, "definition": {"max-length": 10}},
            },
            {"vhost": "shop", "component": "federation-upstream", "name": "up", "value": {"uri": "amqp://"}},
        ],
        "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-x"}],
        "policies": [
            {"vhost": "shop", "name": "ttl", "pattern": "^o", "apply-to": "classic_queues", "priority": 0, "definition": {"message-ttl": 60000}}
        ],
        "exchanges": [
            {"name": "events", "vhost": "shop", "type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": {}},
            {"name": "amq.custom", "vhost": "shop", "type": "direct", "durable": true, "auto_delete": false, "internal": false, "arguments": {}},
        ],
        "queues": [
            {"name": "orders", "vhost": "shop", "type": "classic", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 20}},
            {"name": "safe", "vhost": "shop", "type": "quorum", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}},
            {"name": "plain", "vhost": "shop", "type": "quorum", "durable": true, "auto_delete": false, "arguments": []},
        ],
        "bindings": [
            {"source": "events", "vhost": "shop", "destination": "orders", "destination_type": "queue", "routing_key": "order.*", "arguments": {}},
            {"source": "events", "vhost": "shop", "destination": "gone", "destination_type": "queue", "routing_key": "#", "arguments": {}},
            {"source": "amq.topic", "vhost": "shop", "destination": "events", "destination_type": "exchange", "routing_key": "#", "arguments": {}},
        ],
    })
}

#[test]
fn an_export_of_rabbitmq_is_taken() {
    let (broker, _) = broker();
    import(&broker, &exported()).unwrap();
    assert!(broker.users.authenticate("ann", b"test12"));
    assert!(broker.users.authenticate("bob", b"secret"));
    assert!(broker.users.authenticate("guest", b"guest"));
    assert_eq!(
        broker.users.get("bob").unwrap().tags,
        ["monitoring", "management"]
    );
    assert_eq!(broker.users.limits("ann").max_connections, Some(3));
    assert!(
        broker
            .users
            .grant("shop", "ann")
            .unwrap()
            .restricts_topics("amq.topic")
    );
    let vhost = broker.vhost("shop").unwrap();
    let orders = vhost.queue("orders").unwrap().options();
    assert_eq!(
        (orders.max_length, orders.message_ttl_ms),
        (Some(10), Some(60_000))
    );
    assert_eq!(
        vhost.queue("safe").unwrap().options().kind,
        QueueKind::Quorum
    );
    // The type is an argument; what stands beside the arguments means nothing.
    assert_eq!(
        vhost.queue("plain").unwrap().options().kind,
        QueueKind::Classic
    );
    assert_eq!(vhost.topology.read().bindings().count(), 2);
    assert!(vhost.topology.read().exchange("amq.custom").is_none());
    assert_eq!(broker.vhost_limits("shop").max_queues, Some(5));
    assert_eq!(broker.vhost_limits("shop").max_connections, None);
    assert_eq!(broker.policies(PolicyKind::Operator).len(), 1);
    assert_eq!(broker.parameters().len(), 2);
}

#[test]
fn a_second_import_changes_nothing() {
    let (broker, store) = broker();
    import(&broker, &exported()).unwrap();
    let once = store.definitions().unwrap();
    import(&broker, &exported()).unwrap();
    assert_eq!(store.definitions().unwrap(), once);
}

#[test]
fn a_small_file_may_leave_out_what_goes_without_saying() {
    let (broker, _) = broker();
    let small = json!({"queues": [{"name": "q"}], "bindings": [{"source": "amq.fanout", "destination": "q"}]});
    import(&broker, &small).unwrap();
    let vhost = broker.vhost("/").unwrap();
    assert!(vhost.queue("q").unwrap().identity().durable);
    assert_eq!(vhost.topology.read().bindings().count(), 1);
}

#[test]
fn a_bad_file_names_the_place_and_changes_nothing() {
    let entry = |list: &str, entry: Value| json!({"vhosts": [{"name": "v"}], list: [entry]});
    let cases = [
        (
            entry(
                "queues",
                json!({"name": "q", "arguments": {"x-message-ttl": -1}}),
            ),
            "queues[0]: PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
        (
            entry("queues", json!({"name": 5})),
            "queues[0].name: expected a string, got 5",
        ),
        (entry("queues", json!({})), "queues[0]: \"name\" is missing"),
        (
            entry("queues", json!({"name": "q", "vhost": "w"})),
            "queues[0]: virtual host 'w' does not exist and is not among \"vhosts\"",
        ),
        (
            entry("exchanges", json!({"name": "x", "type": "zz"})),
            "exchanges[0].type: unknown exchange type \"zz\"",
        ),
        (
            entry(
                "exchanges",
                json!({"name": "x", "type": "x-message-deduplication"}),
            ),
            "exchanges[0]: Missing or invalid argument, 'x-cache-size' must be an integer greater than 0",
        ),
        (
            entry(
                "exchanges",
                json!({"name": "x", "type": "direct", "arguments": {"x-dedup-window-ms": 0}}),
            ),
            "exchanges[0]: invalid arg 'x-dedup-window-ms' for exchange 'x'",
        ),
        (
            entry(
                "permissions",
                json!({"user": "u", "configure": "", "write": "", "read": ""}),
            ),
            "permissions[0]: user 'u' does not exist and is not among \"users\"",
        ),
        (
            entry(
                "policies",
                json!({"name": "p", "pattern": "", "definition": {"max-length": "x"}}),
            ),
            "policies[0]: <<\"x\">> is not a valid maximum length",
        ),
        (
            entry("users", json!({"name": "u", "password_hash": "plain"})),
            "users[0].password_hash: expected base64 of a 4-byte salt and its hash; a plain password goes into \"password\"",
        ),
        (
            entry(
                "parameters",
                json!({"component": "vhost-limits", "name": "limits", "value": {"max-queues": "1"}}),
            ),
            "parameters[0].value.max-queues: expected a whole number, got \"1\"",
        ),
        (
            json!({"vhosts": [{"name": "v"}], "queues": 1}),
            "queues: expected a list, got 1",
        ),
        (
            json!({
                "vhosts": [{"name": "v"}],
                "queues": [{"name": "q"}],
                "bindings": [{"source": "amq.headers", "destination": "q", "arguments": {"x-match": "zz"}}],
            }),
            "bindings[0]: ",
        ),
        (
            json!({
                "vhosts": [{"name": "v"}],
                "parameters": [{"component": "vhost-limits", "name": "limits", "value": {"max-queues": 1}}],
                "queues": [{"name": "a"}, {"name": "b"}],
            }),
            "queues[1]: adding queue 'b' to virtual host '/' would exceed the limit of 1 queue(s)",
        ),
    ];
    let (broker, store) = broker();
    let before = store.definitions().unwrap();
    for (definitions, expected) in cases {
        let error = import(&broker, &definitions).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(store.definitions().unwrap(), before);
}

#[test]
fn what_is_not_json_is_placed_by_line() {
    let error = Plan::parse(b"{\n  \"queues\": [,]\n}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 14: not JSON: expected value"
    );
}

#[test]
fn a_comma_too_many_is_pointed_at() {
    let cases = [
        ("{\"queues\": [1,]}", "line 1, column 14: "),
        ("{\"queues\": [1],\n  \n}", "line 1, column 15: "),
        (
            "{\n\"a\": [],\n\"queues\": [\n  {\"name\": \"q\",\n}]}",
            "line 4, column 15: ",
        ),
    ];
    for (text, place) in cases {
        let error = Plan::parse(text.as_bytes()).unwrap_err().to_string();
        let expected = format!("{place}not JSON: this comma is one too many");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_mark_before_the_text_is_skipped_and_no_text_asks_for_nothing() {
    let (broker, store) = broker();
    let before = store.definitions().unwrap();
    for text in [
        "",
        " \r\n\t",
        "\u{feff}",
        "\u{feff}{}",
        "\u{feff}{\"queues\": []}",
    ] {
        let plan = Plan::parse(text.as_bytes()).unwrap();
        broker.import(&plan, NOW).unwrap();
    }
    assert_eq!(store.definitions().unwrap(), before);
    let error = Plan::parse("{}\u{feff}".as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1, column 3: not JSON: trailing characters"
    );
}

#[test]
fn limits_that_were_taken_away_are_an_empty_list() {
    let (broker, _) = broker();
    let limits = |value: Value| json!({"parameters": [{"component": "vhost-limits", "vhost": "/", "name": "limits", "value": value}]});
    import(&broker, &limits(json!({"max-queues": 3}))).unwrap();
    assert_eq!(broker.vhost_limits("/").max_queues, Some(3));
    import(&broker, &limits(json!([]))).unwrap();
    assert_eq!(broker.vhost_limits("/").max_queues, None);
    assert!(import(&broker, &limits(json!([1]))).is_err());
}

/// Salt and digest of "secret".
const MD5_OF_SECRET: &str = "AQIDBDgk9ci8Lfh6CKE9Y0AUfmU=";

#[test]
fn hashes_of_every_version_are_taken() {
    let import_user = |version: &str, user: Value| {
        let (broker, _) = broker();
        let file = json!({"rabbit_version": version, "users": [user]});
        import(&broker, &file).map(|()| broker.users.authenticate("ann", b"secret"))
    };
    let hash = |hash: &str| json!({"name": "ann", "password_hash": hash, "tags": ""});
    let named = |name: &str, hash: &str| json!({"name": "ann", "password_hash": hash, "hashing_algorithm": name, "tags": ""});
    assert_eq!(import_user("3.5.7", hash(MD5_OF_SECRET)), Ok(true));
    assert_eq!(import_user("2.8.1", hash(MD5_OF_SECRET)), Ok(true));
    let md5 = "rabbit_password_hashing_md5";
    assert_eq!(import_user("3.13.0", named(md5, MD5_OF_SECRET)), Ok(true));
    // Nobody knows such hashes, so nobody logs in; the user is there.
    assert_eq!(import_user("3.6.0", hash(MD5_OF_SECRET)), Ok(false));
    assert_eq!(
        import_user("4.1.0", named("argon2", MD5_OF_SECRET)),
        Ok(false)
    );
    assert_eq!(import_user("4.1.0", hash("AAAA")), Ok(false));
    // White space in it is passed over.
    let (begin, end) = MD5_OF_SECRET.split_at(9);
    let spaced = format!(" {begin}\n{end}\r\n");
    assert_eq!(import_user("3.5.0", hash(&spaced)), Ok(true));
    assert!(import_user("3.5.0", hash("secret!")).is_err());
}

#[test]
fn nobody_logs_in_with_a_blank_password() {
    let (broker, store) = broker();
    let of_blank = leveret_access::password::hash(b"", [1, 2, 3, 4]);
    let file = json!({"users": [
        {"name": "a", "password": ""},
        {"name": "b", "password_hash": ""},
        {"name": "c", "password_hash": of_blank},
        {"name": "d"},
    ]});
    import(&broker, &file).unwrap();
    let once = store.definitions().unwrap();
    for name in ["a", "b", "c", "d", "guest"] {
        assert!(broker.users.get(name).is_some(), "{name}");
        assert!(!broker.users.authenticate(name, b""), "{name}");
    }
    import(&broker, &file).unwrap();
    assert_eq!(store.definitions().unwrap(), once);
    let config = BrokerConfig {
        default_password: String::new(),
        ..BrokerConfig::default()
    };
    let broker = Broker::open(config, Arc::new(SteppedStore::<Message>::new()), NOW).unwrap();
    assert!(!broker.users.authenticate("guest", b""));
}

#[test]
fn queues_without_a_type_get_that_of_their_virtual_host() {
    let (broker, store) = broker();
    let file = json!({
        "vhosts": [
            {"name": "new", "metadata": {"description": "", "tags": [], "default_queue_type": "quorum"}},
            {"name": "old", "default_queue_type": "stream"},
            {"name": "none", "default_queue_type": "undefined", "metadata": []},
            {"name": "module", "default_queue_type": "rabbit_quorum_queue"},
        ],
        "queues": [
            {"name": "q", "vhost": "new"},
            {"name": "named", "vhost": "new", "arguments": {"x-queue-type": "classic"}},
            {"name": "passing", "vhost": "new", "durable": false},
            {"name": "auto", "vhost": "new", "auto_delete": true},
            {"name": "q", "vhost": "old", "arguments": {"x-max-age": "1h"}},
            {"name": "q", "vhost": "none"},
            {"name": "q", "vhost": "module"},
        ],
    });
    import(&broker, &file).unwrap();
    let kinds = |broker: &Broker| {
        let queues = [
            ("new", "q"),
            ("new", "named"),
            ("new", "auto"),
            ("old", "q"),
            ("none", "q"),
            ("module", "q"),
        ];
        queues.map(|(vhost, queue)| {
            let vhost = broker.vhost(vhost).unwrap();
            vhost.queue(queue).unwrap().kind().name()
        })
    };
    let expected = [
        "quorum", "classic", "classic", "stream", "classic", "quorum",
    ];
    assert_eq!(kinds(&broker), expected);
    store.commit();
    let again = Broker::open(BrokerConfig::default(), Arc::new(store.restarted()), NOW).unwrap();
    assert_eq!(kinds(&again), expected);
    let vhost = again.vhost("new").unwrap();
    assert_eq!(vhost.default_queue_type(), Some(QueueKind::Quorum));
    // What does not suit that type is wrong, and so is a type that nobody knows.
    let bad =
        json!({"queues": [{"name": "p", "vhost": "new", "arguments": {"x-max-priority": 3}}]});
    assert!(import(&again, &bad).unwrap_err().starts_with("queues[0]: "));
    let bad = json!({"vhosts": [{"name": "v", "default_queue_type": "mirrored"}]});
    assert_eq!(
        import(&again, &bad).unwrap_err(),
        "vhosts[0].default_queue_type: unknown queue type 'mirrored'; expected \"classic\", \"quorum\" or \"stream\""
    );
}

#[test]
fn times_may_be_ten_years() {
    let (broker, _) = broker();
    let queue =
        |name: &str, arguments: Value| json!({"queues": [{"name": name, "arguments": arguments}]});
    let longest = 315_360_000_000_u64;
    for name in ["x-message-ttl", "x-expires"] {
        import(&broker, &queue(name, json!({name: longest}))).unwrap();
        let error = import(&broker, &queue("more", json!({name: longest + 1}))).unwrap_err();
        assert!(error.contains("value_too_large"), "{error}");
    }
    let policy = json!({"policies": [{"name": "p", "pattern": "", "definition": {"message-ttl": longest, "expires": longest}}]});
    import(&broker, &policy).unwrap();
}
