//! Definitions as earlier versions wrote them, and such as nobody can read.

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A store with these definitions and a user, and with a message in each of these logs.
fn store(definitions: &[(&str, &str)], logs: &[u64]) -> Arc<SteppedStore<Message>> {
    let hash = leveret_access::password::hash(b"guest", [1, 2, 3, 4]);
    let guest = format!(r#"{{"name":"guest","password_hash":"{hash}","tags":["administrator"]}}"#);
    let all = r#"{"configure":".*","write":".*","read":".*"}"#;
    let permission = format!(r#"{{"vhost":"/","user":"guest","permission":{all}}}"#);
    let user = [
        ("u[\"guest\"]", guest.as_str()),
        ("p[\"/\",\"guest\"]", permission.as_str()),
    ];
    store_without_user(&[definitions, &user].concat(), logs)
}

/// As [`store`], with no user but those among the definitions.
fn store_without_user(definitions: &[(&str, &str)], logs: &[u64]) -> Arc<SteppedStore<Message>> {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("made", &[Flag::Durable], &[]);
    client.publish_with("made", "kept", &Properties::persistent());
    let made = world.broker.vhost("/").unwrap().queue("made").unwrap();
    let (_, from) = made.logs()[0];
    let store = SteppedStore::new();
    let mut found = Vec::new();
    world
        .store()
        .read(from, leveret_store_api::Sequence(0), 1, 1 << 20, &mut found)
        .unwrap();
    let message = found.remove(0);
    let mut changes: Vec<Change<Message>> = definitions
        .iter()
        .map(|(key, value)| Change::PutDefinition {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
        })
        .collect();
    for log in logs {
        while store.allocate_log().0 < *log {}
        changes.push(Change::Enqueue(leveret_store_api::Enqueue {
            log: leveret_store_api::LogId(*log),
            sequence: leveret_store_api::Sequence(0),
            flags: message.flags,
            time_ms: message.time_ms,
            transient: false,
            payload: message.payload.clone(),
        }));
    }
    store.stage(&mut changes);
    store.commit();
    Arc::new(store)
}

fn open(store: &Arc<SteppedStore<Message>>) -> std::rc::Rc<World> {
    let shared: Arc<SteppedStore<Message>> = Arc::clone(store);
    let broker = Broker::open(BrokerConfig::default(), shared, NOW).unwrap();
    World::around(broker, Some(Arc::clone(store)), NOW)
}

const VHOST: (&str, &str) = ("v[\"/\"]", "\"/\"");

/// As versions wrote them that kept arguments as JSON.
const OLD_QUEUE: (&str, &str) = (
    "q[\"/\",\"old\"]",
    r#"{"vhost":"/","name":"old","auto_delete":false,"arguments":{"x-max-length":{"LongLongInt":5},"n":{"Double":1.5}},"logs":[1]}"#,
);
const OLD_BINDING: (&str, &str) = (
    r#"b{"vhost":"/","source":"amq.topic","destination":"old","to_exchange":false,"routing_key":[97],"arguments":{"k":{"LongString":[118]}}}"#,
    r#"{"vhost":"/","source":"amq.topic","destination":"old","to_exchange":false,"routing_key":[97],"arguments":{"k":{"LongString":[118]}}}"#,
);
const POISONED_QUEUE: (&str, &str) = (
    "q[\"/\",\"bad\"]",
    r#"{"vhost":"/","name":"bad","auto_delete":false,"arguments":{"n":{"Double":null}},"logs":[2]}"#,
);
const BINDING_OF_POISONED: (&str, &str) = (
    r#"b{"vhost":"/","source":"amq.topic","destination":"bad","to_exchange":false,"routing_key":[98],"arguments":{}}"#,
    r#"{"vhost":"/","source":"amq.topic","destination":"bad","to_exchange":false,"routing_key":[98],"arguments":{}}"#,
);

#[test]
fn directories_of_earlier_versions_open() {
    let store = store(&[VHOST, OLD_QUEUE, OLD_BINDING], &[1]);
    let world = open(&store);
    let expected = table(&[("n", AMQPValue::Double(1.5)), ("x-max-length", number(5))]);
    assert_eq!(arguments_of(&world, "old"), expected);
    let client = world.client();
    client.publish_with(
        "a",
        "by the binding",
        &Properties {
            exchange: "amq.topic",
            ..Properties::persistent()
        },
    );
    assert_eq!(client.counts("old"), (2, 0));
    // The binding is found under its new key when it goes.
    let arguments = encode_table(&table(&[("k", string("v"))]));
    let call = Arguments::new()
        .ticket()
        .short("old")
        .short("amq.topic")
        .short("a");
    client.call((50, 50), call.long(&arguments));
    client.expect(&["unbind-ok"]);
    let after = world.restarted();
    let client = after.client();
    client.publish_with(
        "a",
        "nowhere",
        &Properties {
            exchange: "amq.topic",
            ..Properties::persistent()
        },
    );
    assert_eq!(client.counts("old"), (2, 0));
    assert_eq!(
        examine_definitions(after.store().definitions().unwrap()),
        Vec::<String>::new()
    );
}

#[test]
fn arguments_as_deep_as_they_were_taken_come_back() {
    let depth = TABLE_DEPTH_MAX - 1;
    let nested = format!(
        "{}\"Void\"{}",
        "{\"FieldArray\":[".repeat(depth),
        "]}".repeat(depth)
    );
    let value = format!(
        r#"{{"vhost":"/","name":"deep","auto_delete":false,"arguments":{{"k":{nested}}},"logs":[1]}}"#
    );
    let store = store(&[VHOST, ("q[\"/\",\"deep\"]", &value)], &[1]);
    let world = open(&store);
    assert_eq!(
        encode_table(&arguments_of(&world, "deep")),
        field(&within_arrays(b"V", depth))
    );
    assert_eq!(world.client().counts("deep"), (1, 0));
}

#[test]
fn what_cannot_be_read_is_put_aside_with_its_messages_and_all_else_starts() {
    let newer = ("z[\"something\"]", "{}");
    let all = [
        VHOST,
        OLD_QUEUE,
        OLD_BINDING,
        POISONED_QUEUE,
        BINDING_OF_POISONED,
        newer,
    ];
    let store = store(&all, &[1, 2]);
    let problems = |definitions| {
        let lines: Vec<String> = examine_definitions(definitions);
        let mut names: Vec<String> = lines
            .iter()
            .map(|line| line.split(" cannot be used").next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let expected = [
        "the definition of 'z[\\\"something\\\"]'",
        "the definition of queue 'bad' in virtual host '/'",
        "the definition of the binding from exchange 'amq.topic' to queue 'bad' in virtual host '/'",
    ];
    assert_eq!(problems(store.definitions().unwrap()), expected);
    let world = open(&store);
    assert_eq!(world.client().counts("old"), (1, 0));
    // The name is free, for a queue that has nothing of the other; every start finds both.
    let client = world.client();
    client.declare_ok("bad", &[Flag::Durable], &[]);
    client.publish_with("bad", "new", &Properties::persistent());
    let after = world.restarted().restarted();
    assert_eq!(problems(after.store().definitions().unwrap()), expected);
    let client = after.client();
    assert_eq!(client.counts("bad"), (1, 0));
    client.publish_with(
        "b",
        "x",
        &Properties {
            exchange: "amq.topic",
            ..Properties::persistent()
        },
    );
    assert_eq!(client.counts("bad"), (1, 0));
    let kept = after
        .store()
        .log_state(leveret_store_api::LogId(2))
        .unwrap();
    assert_eq!(kept.live, 1);
    // Whoever deletes that name gets rid of both.
    client.delete("bad", false, false);
    client.expect(&["delete-ok 1"]);
    assert_eq!(
        problems(after.store().definitions().unwrap()),
        expected[..1]
    );
    assert!(
        after
            .store()
            .log_state(leveret_store_api::LogId(2))
            .is_none_or(|log| log.live == 0)
    );
}

#[test]
fn a_binding_that_is_put_aside_goes_when_it_is_unbound() {
    let key = OLD_BINDING
        .0
        .replace(r#"{"LongString":[118]}"#, r#"{"Float":null}"#);
    let value = OLD_BINDING
        .1
        .replace(r#"{"LongString":[118]}"#, r#"{"Float":null}"#);
    let store = store(&[VHOST, OLD_QUEUE, (&key, &value)], &[1]);
    let world = open(&store);
    let client = world.client();
    client.unbind("old", "amq.topic", "b");
    client.expect(&["unbind-ok"]);
    assert_eq!(examine_definitions(store.definitions().unwrap()).len(), 1);
    client.unbind("old", "amq.topic", "a");
    client.expect(&["unbind-ok"]);
    assert_eq!(
        examine_definitions(store.definitions().unwrap()),
        Vec::<String>::new()
    );
}

#[test]
fn a_name_that_is_only_put_aside_can_be_deleted() {
    let store = store(&[VHOST, POISONED_QUEUE, BINDING_OF_POISONED], &[2]);
    let world = open(&store);
    let client = world.client();
    client.delete("bad", false, false);
    client.expect(&["delete-ok 0"]);
    assert_eq!(
        examine_definitions(store.definitions().unwrap()),
        Vec::<String>::new()
    );
    assert!(
        store
            .log_state(leveret_store_api::LogId(2))
            .is_none_or(|log| log.live == 0)
    );
}

#[test]
fn what_can_be_read_again_comes_back() {
    // Put aside for want of their virtual host, by a start that found its definition damaged.
    let damaged = (VHOST.0, "\"");
    let store = store(&[damaged, OLD_QUEUE, OLD_BINDING], &[1]);
    let world = open(&store);
    world.client().declare("old", &[Flag::Passive], &[]);
    let after = world.restarted();
    let client = after.client();
    assert_eq!(client.counts("old"), (1, 0));
    client.publish_with(
        "a",
        "x",
        &Properties {
            exchange: "amq.topic",
            ..Properties::persistent()
        },
    );
    assert_eq!(client.counts("old"), (2, 0));
}

#[test]
fn nothing_is_deleted_while_it_may_belong_to_what_cannot_be_read() {
    let garbled = ("q[\"/\",\"bad\"]", "{\"vhost\":\"/\",\"na");
    let store = store(&[VHOST, garbled], &[2]);
    let after = open(&store).restarted();
    assert_eq!(
        after
            .store()
            .log_state(leveret_store_api::LogId(2))
            .unwrap()
            .live,
        1
    );
    let client = after.client();
    client.delete("bad", false, false);
    client.expect(&["delete-ok 0"]);
    // Now nobody owns it.
    let after = after.restarted();
    assert!(
        after
            .store()
            .log_state(leveret_store_api::LogId(2))
            .is_none_or(|log| log.live == 0)
    );
}

#[test]
fn exchanges_users_and_policies_are_put_aside_by_name_too() {
    let all = [
        VHOST,
        (
            "e[\"/\",\"x\"]",
            r#"{"vhost":"/","name":"x","kind":"x-strange","auto_delete":false,"internal":false,"arguments":{},"alternate":null}"#,
        ),
        ("u[\"ann\"]", r#"{"name":"ann"}"#),
        ("p[\"/\",\"ann\"]", r#"{"vhost":"/","user":"ann"}"#),
        (
            "o[\"/\",\"policy\",\"ttl\"]",
            r#"{"kind":"User","spec":{"vhost":"/","name":"ttl","pattern":"(","definition":{"message-ttl":1}}}"#,
        ),
        ("l[\"gone\"]", r#"{"vhost":"gone","limits":{}}"#),
        ("r[\"/\",\"c\",\"n\"]", ""),
    ];
    let store = store(&all, &[]);
    let lines = examine_definitions(store.definitions().unwrap()).join("\n");
    for named in [
        "exchange 'x' in virtual host '/' cannot be used: unknown exchange type 'x-strange'",
        "user 'ann' cannot",
        "the permissions of user 'ann' in virtual host '/'",
        "policy 'ttl' in virtual host '/'",
        "the limits in virtual host 'gone' cannot be used: there is no virtual host 'gone'",
        "parameter 'n' in virtual host '/'",
    ] {
        assert!(lines.contains(named), "{named} is not in\n{lines}");
    }
    let client = open(&store).client();
    client.declare_exchange("x", "fanout", &[Flag::Durable], &[]);
    client.expect(&["exchange.declare-ok"]);
}

#[test]
fn what_was_not_permitted_stays_forbidden() {
    let all = [
        VHOST,
        (
            "u[\"ann\"]",
            r#"{"name":"ann","password_hash":"","tags":"damaged"}"#,
        ),
        (
            "p[\"/\",\"bob\"]",
            r#"{"vhost":"/","user":"bob","permission":{"configure":".*","write":".*","read":".*"}}"#,
        ),
        ("t[\"/\",\"bob\",\"amq.topic\"]", "{"),
    ];
    let store = store_without_user(&all, &[]);
    let world = open(&store);
    // Nobody is let in because the only user cannot be read.
    let login = world
        .broker
        .log_in("guest", b"guest", [127, 0, 0, 1].into(), NOW);
    assert!(login.is_err());
    let lines = examine_definitions(store.definitions().unwrap()).join("\n");
    assert!(
        lines.contains("no topic of that exchange is permitted"),
        "{lines}"
    );
}
