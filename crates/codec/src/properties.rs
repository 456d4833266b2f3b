//! The properties of a message, cut out of a content header in place, and put together again.
//!
//! Must not allocate when reading. Order and flags: spec, class basic.

use amq_protocol::protocol::basic::AMQPProperties;
use amq_protocol::types::ShortString;

use crate::header_error::HeaderError;
use crate::input::Input;
use crate::names::write_short;
use crate::owned_table::{decode_table, write_with_length};
use crate::raw_table::RawTable;

/// Flag bits from content-type downwards; the next property has the next lower bit.
const FLAG_CONTENT_TYPE: u16 = 1 << 15;
const FLAG_CONTENT_ENCODING: u16 = 1 << 14;
const FLAG_HEADERS: u16 = 1 << 13;
const FLAG_DELIVERY_MODE: u16 = 1 << 12;
const FLAG_PRIORITY: u16 = 1 << 11;
const FLAG_CORRELATION_ID: u16 = 1 << 10;
const FLAG_REPLY_TO: u16 = 1 << 9;
const FLAG_EXPIRATION: u16 = 1 << 8;
const FLAG_MESSAGE_ID: u16 = 1 << 7;
const FLAG_TIMESTAMP: u16 = 1 << 6;
const FLAG_KIND: u16 = 1 << 5;
const FLAG_USER_ID: u16 = 1 << 4;
const FLAG_APP_ID: u16 = 1 << 3;
const FLAG_CLUSTER_ID: u16 = 1 << 2;
/// No property of class basic has this bit.
const FLAG_NONE: u16 = 1 << 1;
/// Another word of flags follows.
const FLAG_MORE: u16 = 1;

/// One of the setters of owned properties.
type With = fn(AMQPProperties, ShortString) -> AMQPProperties;

/// The properties of one message. Strings are any bytes up to 255; publishers send binary
/// correlation ids, for example.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Properties<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// The header table; checked when it comes from [`crate::decode_header`].
    pub headers: Option<RawTable<'a>>,
    /// 2 is persistent, all else transient.
    pub delivery_mode: Option<u8>,
    /// 0 and up.
    pub priority: Option<u8>,
    /// The application's id of a request.
    pub correlation_id: Option<&'a [u8]>,
    /// Where replies go.
    pub reply_to: Option<&'a [u8]>,
    /// Time to live in ms, as decimal digits.
    pub expiration: Option<&'a [u8]>,
    /// The application's id of the message.
    pub message_id: Option<&'a [u8]>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// The property `type`.
    pub kind: Option<&'a [u8]>,
    /// The user that published, checked by the broker.
    pub user_id: Option<&'a [u8]>,
    /// The application that published.
    pub app_id: Option<&'a [u8]>,
    /// Deprecated, carried along.
    pub cluster_id: Option<&'a [u8]>,
}

impl<'a> Properties<'a> {
    /// Reads flags and properties, which must be all of `bytes`, into properties that are empty.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &'a [u8]) -> Result<(), HeaderError> {
        let mut input = Input(bytes);
        let flags = read_flags(&mut input)?;
        self.read_flagged(flags, &mut input)
            .ok_or(HeaderError::Truncated)?;
        if !input.is_empty() {
            return Err(HeaderError::Trailing);
        }
        if let Some(headers) = self.headers {
            headers.check()?;
        }
        Ok(())
    }

    #[inline]
    fn read_flagged(&mut self, flags: u16, input: &mut Input<'a>) -> Option<()> {
        if flags & !(FLAG_DELIVERY_MODE | FLAG_PRIORITY) == 0 {
            // Most have no more than these.
            self.read_numbers(flags, input)
        } else {
            self.read_all(flags, input)
        }
    }

    #[inline]
    fn read_numbers(&mut self, flags: u16, input: &mut Input<'a>) -> Option<()> {
        if flags & FLAG_DELIVERY_MODE != 0 {
            self.delivery_mode = Some(input.u8()?);
        }
        if flags & FLAG_PRIORITY != 0 {
            self.priority = Some(input.u8()?);
        }
        Some(())
    }

    fn read_all(&mut self, flags: u16, input: &mut Input<'a>) -> Option<()> {
        if flags & FLAG_CONTENT_TYPE != 0 {
            self.content_type = Some(input.short()?);
        }
        if flags & FLAG_CONTENT_ENCODING != 0 {
            self.content_encoding = Some(input.short()?);
        }
        if flags & FLAG_HEADERS != 0 {
            self.headers = Some(RawTable::from_encoded(input.long()?));
        }
        self.read_numbers(flags, input)?;
        if flags & FLAG_CORRELATION_ID != 0 {
            self.correlation_id = Some(input.short()?);
        }
        if flags & FLAG_REPLY_TO != 0 {
            self.reply_to = Some(input.short()?);
        }
        if flags & FLAG_EXPIRATION != 0 {
            self.expiration = Some(input.short()?);
        }
        if flags & FLAG_MESSAGE_ID != 0 {
            self.message_id = Some(input.short()?);
        }
        if flags & FLAG_TIMESTAMP != 0 {
            self.timestamp = Some(input.u64()?);
        }
        if flags & FLAG_KIND != 0 {
            self.kind = Some(input.short()?);
        }
        if flags & FLAG_USER_ID != 0 {
            self.user_id = Some(input.short()?);
        }
        if flags & FLAG_APP_ID != 0 {
            self.app_id = Some(input.short()?);
        }
        if flags & FLAG_CLUSTER_ID != 0 {
            self.cluster_id = Some(input.short()?);
        }
        Some(())
    }

    /// The properties as flags and values, as a content header has them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut writer = Writer { out, flags: 0 };
        writer.short(FLAG_CONTENT_TYPE, self.content_type);
        writer.short(FLAG_CONTENT_ENCODING, self.content_encoding);
        writer.table(FLAG_HEADERS, self.headers);
        writer.bytes(FLAG_DELIVERY_MODE, self.delivery_mode.map(u8::to_be_bytes));
        writer.bytes(FLAG_PRIORITY, self.priority.map(u8::to_be_bytes));
        writer.short(FLAG_CORRELATION_ID, self.correlation_id);
        writer.short(FLAG_REPLY_TO, self.reply_to);
        writer.short(FLAG_EXPIRATION, self.expiration);
        writer.short(FLAG_MESSAGE_ID, self.message_id);
        writer.bytes(FLAG_TIMESTAMP, self.timestamp.map(u64::to_be_bytes));
        writer.short(FLAG_KIND, self.kind);
        writer.short(FLAG_USER_ID, self.user_id);
        writer.short(FLAG_APP_ID, self.app_id);
        writer.short(FLAG_CLUSTER_ID, self.cluster_id);
        let flags = writer.flags;
        if let Some(place) = out.get_mut(start..start + 2) {
            place.copy_from_slice(&flags.to_be_bytes());
        }
    }

    /// An owned copy.
    ///
    /// # Errors
    /// A string or the name of a header is not UTF-8.
    pub fn to_owned_properties(&self) -> Result<AMQPProperties, HeaderError> {
        let mut owned = AMQPProperties::default();
        if let Some(bytes) = self.headers.map(|headers| headers.as_encoded()) {
            owned = owned.with_headers(decode_table(bytes)?);
        }
        if let Some(delivery_mode) = self.delivery_mode {
            owned = owned.with_delivery_mode(delivery_mode);
        }
        if let Some(priority) = self.priority {
            owned = owned.with_priority(priority);
        }
        if let Some(timestamp) = self.timestamp {
            owned = owned.with_timestamp(timestamp);
        }
        let strings: [(_, With); 10] = [
            (self.content_type, AMQPProperties::with_content_type),
            (self.content_encoding, AMQPProperties::with_content_encoding),
            (self.correlation_id, AMQPProperties::with_correlation_id),
            (self.reply_to, AMQPProperties::with_reply_to),
            (self.expiration, AMQPProperties::with_expiration),
            (self.message_id, AMQPProperties::with_message_id),
            (self.kind, AMQPProperties::with_type),
            (self.user_id, AMQPProperties::with_user_id),
            (self.app_id, AMQPProperties::with_app_id),
            (self.cluster_id, AMQPProperties::with_cluster_id),
        ];
        for (bytes, with) in strings {
            if let Some(bytes) = bytes {
                owned = with(owned, to_short_string(bytes)?);
            }
        }
        Ok(owned)
    }

    /// Borrows owned properties; `headers` is their table, encoded by [`crate::encode_table`].
    #[must_use]
    pub fn from_owned(owned: &'a AMQPProperties, headers: &'a [u8]) -> Properties<'a> {
        let short = |text: &'a Option<ShortString>| text.as_ref().map(|s| s.as_str().as_bytes());
        Properties {
            content_type: short(owned.content_type()),
            content_encoding: short(owned.content_encoding()),
            headers: owned
                .headers()
                .as_ref()
                .map(|_| RawTable::from_encoded(headers)),
            delivery_mode: *owned.delivery_mode(),
            priority: *owned.priority(),
            correlation_id: short(owned.correlation_id()),
            reply_to: short(owned.reply_to()),
            expiration: short(owned.expiration()),
            message_id: short(owned.message_id()),
            timestamp: *owned.timestamp(),
            kind: short(owned.kind()),
            user_id: short(owned.user_id()),
            app_id: short(owned.app_id()),
            cluster_id: short(owned.cluster_id()),
        }
    }
}

/// spec: the last bit of a word says that another one follows. All properties of class basic are in
/// the first word, so that a flag in any other stands for a property nobody knows the size of.
#[inline]
fn read_flags(input: &mut Input<'_>) -> Result<u16, HeaderError> {
    let flags = input.u16().ok_or(HeaderError::Truncated)?;
    if flags & FLAG_NONE != 0 {
        return Err(HeaderError::UnknownProperty(flags));
    }
    let mut word = flags;
    while word & FLAG_MORE != 0 {
        word = input.u16().ok_or(HeaderError::Truncated)?;
        if word & !FLAG_MORE != 0 {
            return Err(HeaderError::UnknownProperty(word));
        }
    }
    Ok(flags)
}

fn to_short_string(bytes: &[u8]) -> Result<ShortString, HeaderError> {
    let text = str::from_utf8(bytes).map_err(|_| HeaderError::NotUtf8)?;
    ShortString::try_new(text).map_err(|_| HeaderError::Truncated)
}

/// Writes properties that are there and remembers their flags.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    flags: u16,
}

impl Writer<'_> {
    fn bytes<const N: usize>(&mut self, flag: u16, value: Option<[u8; N]>) {
        if let Some(value) = value {
            self.flags |= flag;
            self.out.extend_from_slice(&value);
        }
    }

    fn short(&mut self, flag: u16, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.flags |= flag;
            write_short(self.out, value);
        }
    }

    fn table(&mut self, flag: u16, value: Option<RawTable<'_>>) {
        if let Some(table) = value {
            self.flags |= flag;
            write_with_length(self.out, |out| out.extend_from_slice(table.as_encoded()));
        }
    }
}
