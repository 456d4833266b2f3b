//! Any table at all through a declaration, a kill and a start.

use leveret_codec::{LongString, RawTable, ShortString};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// Names with zero octets, with other letters, empty ones, and as long as they may be.
fn name() -> impl Strategy<Value = ShortString> {
    prop_oneof![
        "[a-z\u{0}äα.#*\"\\\\]{0,20}".prop_map(ShortString::from),
        Just(ShortString::from("n".repeat(255))),
    ]
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let bytes = || vec(any::<u8>(), 0..30);
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        prop::num::f32::ANY.prop_map(AMQPValue::Float),
        prop::num::f64::ANY.prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| {
            // The type has no name here; its bytes do.
            let bytes = [b"\x00D", &[scale][..], &value.to_be_bytes()].concat();
            let table = RawTable::from_encoded(&bytes).to_table();
            table.inner()[""].clone()
        }),
        bytes().prop_map(|bytes| AMQPValue::LongString(LongString::from(bytes))),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        bytes().prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|all| AMQPValue::FieldArray(all.into())),
            btree_map(name(), inner, 0..4)
                .prop_map(|all| AMQPValue::FieldTable(FieldTable::from(all))),
        ]
    })
}

/// A table, now and then with something nested about as deep as is allowed, or deeper.
fn any_table() -> impl Strategy<Value = FieldTable> {
    let depth = prop_oneof![4 => Just(0usize), 1 => 50..70usize];
    (btree_map(name(), value(), 0..5), value(), depth).prop_map(|(fields, inside, depth)| {
        let mut table = FieldTable::from(fields);
        if depth > 0 {
            let nested = (0..depth).fold(inside, |inside, level| {
                if level % 2 == 0 {
                    AMQPValue::FieldArray(vec![inside].into())
                } else {
                    let mut table = FieldTable::default();
                    table.insert("".into(), inside);
                    AMQPValue::FieldTable(table)
                }
            });
            table.insert("deep".into(), nested);
        }
        table
    })
}

/// Whether the table may be declared with.
fn is_good(table: &FieldTable) -> bool {
    let bytes = encode_table(table);
    let raw = RawTable::from_encoded(&bytes);
    raw.check_to_own().is_ok() && raw.is_finite()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_is_refused_or_comes_back(arguments in any_table()) {
        let bytes = encode_table(&arguments);
        let world = World::durable();
        world.client().declare_ok("old", &[Flag::Durable], &[]);
        for call in [
            &|client: &Client| declare_with(client, "q", &bytes) as (),
            &|client: &Client| declare_exchange_with(client, "x", &bytes),
            &|client: &Client| bind_with(client, "old", "amq.fanout", &bytes),
        ] as [&dyn Fn(&Client); 3] {
            let client = world.client();
            call(&client);
            let said = client.lines().concat();
            prop_assert_eq!(said.contains("-ok"), is_good(&arguments), "{}", said);
        }
        let definitions = world.store().definitions().unwrap();
        prop_assert_eq!(examine_definitions(definitions.clone()), Vec::<String>::new());
        let after = world.restarted();
        prop_assert_eq!(after.store().definitions().unwrap(), definitions);
        let vhost = after.broker.vhost("/").unwrap();
        if is_good(&arguments) {
            prop_assert_eq!(&arguments_of(&after, "q"), &arguments);
            prop_assert_eq!(&vhost.exchange("x").unwrap().arguments, &arguments);
            let client = after.client();
            client.publish_with("", "a", &Properties { exchange: "amq.fanout", ..Properties::default() });
            prop_assert_eq!(client.counts("old"), (1, 0));
            unbind_with(&client, "old", "amq.fanout", &encode_table(&arguments));
            client.publish_with("", "b", &Properties { exchange: "amq.fanout", ..Properties::default() });
            client.seen();
            prop_assert_eq!(client.counts("old"), (1, 0));
        } else {
            prop_assert!(vhost.queue("q").is_err() && vhost.exchange("x").is_none());
        }
    }
}
