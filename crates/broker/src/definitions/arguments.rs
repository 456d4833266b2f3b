//! Field tables in JSON: base64 of the AMQP bytes they are. Earlier versions wrote the values as JSON,
//! which has no NaN and was read back to a lower depth than it was written to; that is still read.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_codec::{AMQPValue, FieldTable, ShortString, decode_table, encode_table};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// As it is stored.
pub(crate) fn encoded(table: &FieldTable) -> String {
    STANDARD.encode(encode_table(table))
}

pub(super) fn serialize<S: Serializer>(table: &FieldTable, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&encoded(table))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FieldTable, D::Error> {
    from.deserialize_any(Either)
}

/// Either form.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = FieldTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field table")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FieldTable, E> {
        let bytes = STANDARD.decode(text).map_err(E::custom)?;
        decode_table(&bytes).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FieldTable, A::Error> {
        let fields =
            BTreeMap::<ShortString, AMQPValue>::deserialize(MapAccessDeserializer::new(map));
        fields.map(FieldTable::from)
    }
}
