//! Field tables: walked in place, owned, and as `amq-protocol` sees them.

use amq_protocol::types::parsing::parse_field_table;
use leveret_codec::{
    AMQPValue, FieldTable, RawTable, RawValue, TABLE_DEPTH_MAX, TableError, decode_table,
    encode_table, value_as_integer, value_type_name,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::table;

/// What `amq-protocol` makes of a table's bytes.
fn by_amq_protocol(bytes: &[u8]) -> Option<FieldTable> {
    let length = u32::try_from(bytes.len()).unwrap();
    let prefixed = [&length.to_be_bytes()[..], bytes].concat();
    parse_field_table(&prefixed[..])
        .ok()
        .map(|(_, table)| table)
}

fn check_value(type_and_value: &[u8], expected: RawValue<'_>, type_name: &str) {
    let bytes = [b"\x01k", type_and_value].concat();
    let value = RawTable::from_encoded(&bytes).get(b"k").unwrap();
    assert_eq!(value, expected);
    assert_eq!(value.type_name(), type_name);
    let owned = value.to_value().unwrap();
    assert_eq!(value_type_name(&owned), type_name);
    assert_eq!(value_as_integer(&owned), value.as_integer());
    for length in 1..bytes.len() {
        let cut = RawTable::from_encoded(&bytes[..length]);
        assert_eq!(cut.check(), Err(TableError::Truncated));
        assert_eq!(cut.get(b"k"), None);
    }
}

/// `depth` tables, or arrays in a table, inside each other.
pub(crate) fn nested(octet: u8, depth: usize) -> Vec<u8> {
    let name = |level| {
        let has_name = octet == b'F' || level == 1;
        if has_name { &b"\x00"[..] } else { b"" }
    };
    let mut bytes = Vec::new();
    let mut inside: usize = (1..depth).map(|level| name(level).len() + 5).sum();
    for level in 1..depth {
        inside -= name(level).len() + 5;
        let length = u32::try_from(inside).unwrap();
        bytes.extend_from_slice(name(level));
        bytes.push(octet);
        bytes.extend_from_slice(&length.to_be_bytes());
    }
    bytes
}

proptest! {
    #[test]
    fn tables_come_back(table in table()) {
        let bytes = encode_table(&table);
        let raw = RawTable::from_encoded(&bytes);
        prop_assert_eq!(raw.check(), Ok(()));
        prop_assert_eq!(&decode_table(&bytes).unwrap(), &table);
        prop_assert_eq!(&by_amq_protocol(&bytes).unwrap(), &table);
        prop_assert_eq!(&raw.to_table(), &table);
        for (name, value) in &table {
            let found = raw.get(name.as_str().as_bytes()).unwrap();
            prop_assert_eq!(&found.to_value().unwrap(), value);
            prop_assert_eq!(found.type_name(), value_type_name(value));
        }
    }

    #[test]
    fn changed_tables_are_judged_as_by_amq_protocol(
        table in table(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = encode_table(&table);
        for (index, octet) in changes {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = octet;
            }
        }
        let decoded = decode_table(&bytes).ok();
        // By their bytes, since a changed float may be one that does not equal itself.
        prop_assert_eq!(
            decoded.as_ref().map(encode_table),
            by_amq_protocol(&bytes).as_ref().map(encode_table)
        );
        if decoded.is_some() {
            prop_assert_eq!(RawTable::from_encoded(&bytes).check(), Ok(()));
        }
    }
}

#[test]
fn types_are_rabbitmqs() {
    check_value(b"t\x01", RawValue::Boolean(true), "bool");
    check_value(b"b\xff", RawValue::I8(-1), "byte");
    check_value(b"B\xff", RawValue::U8(255), "unsignedbyte");
    check_value(b"s\xff\xfe", RawValue::I16(-2), "short");
    check_value(b"U\xff\xfe", RawValue::I16(-2), "short");
    check_value(b"u\xff\xfe", RawValue::U16(65534), "unsignedshort");
    check_value(b"I\xff\xff\xff\xff", RawValue::I32(-1), "signedint");
    check_value(b"i\xff\xff\xff\xff", RawValue::U32(u32::MAX), "unsignedint");
    check_value(
        b"l\xff\xff\xff\xff\xff\xff\xff\xff",
        RawValue::I64(-1),
        "long",
    );
    check_value(
        b"L\xff\xff\xff\xff\xff\xff\xff\xff",
        RawValue::I64(-1),
        "long",
    );
    check_value(b"f\x3f\x80\x00\x00", RawValue::F32(1.0), "float");
    check_value(
        b"d\x3f\xf0\x00\x00\x00\x00\x00\x00",
        RawValue::F64(1.0),
        "double",
    );
    check_value(
        b"D\x02\x00\x00\x00\x07",
        RawValue::Decimal { scale: 2, value: 7 },
        "decimal",
    );
    check_value(b"S\x00\x00\x00\x01x", RawValue::LongString(b"x"), "longstr");
    check_value(b"x\x00\x00\x00\x01x", RawValue::Bytes(b"x"), "binary");
    check_value(
        b"T\x00\x00\x00\x00\x00\x00\x00\x05",
        RawValue::Timestamp(5),
        "timestamp",
    );
    check_value(b"V", RawValue::Void, "void");
    check_value(
        b"F\x00\x00\x00\x00",
        RawValue::Table(RawTable::from_encoded(b"")),
        "table",
    );
}

#[test]
fn a_short_string_value_is_written_as_a_long_one() {
    let mut table = FieldTable::default();
    table.insert("k".into(), AMQPValue::ShortString("v".into()));
    assert_eq!(encode_table(&table), b"\x01kS\x00\x00\x00\x01v");
}

#[test]
fn what_is_wrong_ends_the_walk() {
    let table = RawTable::from_encoded(b"\x01aV\x01b?\x01cV");
    let fields: Vec<_> = table.iter().collect();
    let expected = [
        Ok((&b"a"[..], RawValue::Void)),
        Err(TableError::UnknownType(b'?')),
    ];
    assert_eq!(fields, expected);
    assert_eq!(table.get(b"c"), None);
    assert_eq!(
        decode_table(table.as_encoded()),
        Err(TableError::UnknownType(b'?'))
    );
    assert_eq!(table.to_table().inner().len(), 1);
}

#[test]
fn names_that_are_not_utf8_are_walked_but_not_owned() {
    let table = RawTable::from_encoded(b"\x01\xfft\x01");
    assert_eq!(table.get(b"\xff"), Some(RawValue::Boolean(true)));
    assert_eq!(decode_table(table.as_encoded()), Err(TableError::NotUtf8));
    assert!(table.to_table().contains_key("\\xff"));
}

#[test]
fn of_equal_names_the_walk_finds_the_first_and_the_owned_table_has_the_last() {
    let table = RawTable::from_encoded(b"\x01kb\x01\x01kb\x02");
    assert_eq!(table.get(b"k"), Some(RawValue::I8(1)));
    assert_eq!(
        table.to_table().inner().get("k"),
        Some(&AMQPValue::ShortShortInt(2))
    );
    assert_eq!(by_amq_protocol(table.as_encoded()), Some(table.to_table()));
}

#[test]
fn nesting_ends_at_the_limit() {
    for octet in [b'F', b'A'] {
        let deepest = nested(octet, TABLE_DEPTH_MAX);
        assert_eq!(RawTable::from_encoded(&deepest).check(), Ok(()));
        assert_eq!(encode_table(&decode_table(&deepest).unwrap()), deepest);
        let too_deep = nested(octet, TABLE_DEPTH_MAX + 1);
        assert_eq!(RawTable::from_encoded(&too_deep).check(), Ok(()));
        assert_eq!(decode_table(&too_deep), Err(TableError::TooDeep));
    }
}
