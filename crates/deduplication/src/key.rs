//! What a message is known by: sixteen bytes, however long the name it stands for.

use leveret_codec::{RawTable, RawValue};
use sha2::{Digest, Sha256};

/// The first half of a SHA-256: no two names of anybody's choosing have the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a name among names of the same kind.
    pub(crate) fn of(kind: u8, name: &[u8]) -> Key {
        let digest = Sha256::new()
            .chain_update([kind])
            .chain_update(name)
            .finalize();
        let mut key = [0; 16];
        key.iter_mut()
            .zip(digest.iter())
            .for_each(|(to, from)| *to = *from);
        Key(key)
    }

    /// In which of so many parts it is kept. Hash tables use the other bits.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        usize::from(self.0[15]) % shards
    }

    /// Its bits are as good as any hash.
    pub(crate) fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The key in the plugin's header. Values of different types are different; of numbers only the value
/// counts, as in Erlang. Arrays, tables and decimals are no keys.
pub fn of_header(headers: Option<RawTable<'_>>) -> Option<Key> {
    let value = headers?.get(b"x-deduplication-header")?;
    Some(match value {
        RawValue::LongString(text) | RawValue::Bytes(text) => Key::of(b's', text),
        RawValue::Boolean(flag) => Key::of(b't', &[u8::from(flag)]),
        RawValue::F32(number) => Key::of(b'f', &f64::from(number).to_be_bytes()),
        RawValue::F64(number) => Key::of(b'f', &number.to_be_bytes()),
        RawValue::Timestamp(seconds) => Key::of(b'i', &i128::from(seconds).to_be_bytes()),
        RawValue::Void => Key::of(b'v', &[]),
        RawValue::Array(_) | RawValue::Table(_) | RawValue::Decimal { .. } => return None,
        number => Key::of(b'i', &i128::from(number.as_integer()?).to_be_bytes()),
    })
}

/// The plugin's `x-cache-ttl` of one message, milliseconds.
pub(crate) fn ttl_ms(headers: Option<RawTable<'_>>) -> Option<u64> {
    let ttl = headers?.get(b"x-cache-ttl")?.as_integer()?;
    u64::try_from(ttl).ok()
}

/// A producer by its name, and its number for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number {
    /// The producer's name.
    pub producer: Key,
    /// What it counts the message as.
    pub sequence: u64,
}

/// The number in the headers `x-producer` and `x-sequence`, where both are there and make sense.
pub fn of_producer(headers: Option<RawTable<'_>>) -> Option<Number> {
    let headers = headers?;
    let producer = headers.get(b"x-producer")?.as_bytes()?;
    let sequence = headers.get(b"x-sequence")?.as_integer()?;
    Some(Number {
        producer: Key::of(b'p', producer),
        sequence: u64::try_from(sequence).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_codec::{AMQPValue, FieldTable, encode_table};

    fn key(value: AMQPValue) -> Option<Key> {
        let mut table = FieldTable::default();
        table.insert("x-deduplication-header".into(), value);
        of_header(Some(RawTable::from_encoded(&encode_table(&table))))
    }

    #[test]
    fn keys_are_values_with_their_kind() {
        let number = key(AMQPValue::LongInt(1));
        assert!(number.is_some());
        assert_eq!(number, key(AMQPValue::LongLongInt(1)));
        assert_eq!(number, key(AMQPValue::Timestamp(1)));
        assert_ne!(number, key(AMQPValue::LongInt(2)));
        assert_ne!(number, key(AMQPValue::LongString("1".into())));
        assert_ne!(number, key(AMQPValue::Boolean(true)));
        assert_ne!(number, key(AMQPValue::Double(1.0)));
        assert_eq!(key(AMQPValue::FieldTable(FieldTable::default())), None);
        assert_eq!(of_header(None), None);
    }
}
