//! Content headers: body size and properties of a message.
//!
//! A header is peeked at and passed on as it came; composing one anew is for messages that the
//! broker itself changes or makes.

use amq_protocol::protocol::basic::AMQPProperties;

use crate::header_error::HeaderError;
use crate::input::Input;
use crate::owned_table::encode_table;
use crate::properties::Properties;

/// The class whose methods carry content.
const CLASS_BASIC: u16 = 60;

/// A content header, borrowed from its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ContentHeader<'a> {
    /// The whole payload of the header frame, as it will be delivered.
    pub payload: &'a [u8],
    /// How many bytes of body follow.
    pub body_size: u64,
    /// The properties, all bounds checked.
    pub properties: Properties<'a>,
}

/// Reads the payload of a content header frame in place. Every length in it is checked, those in
/// the header table included; strings may be any bytes.
///
/// # Errors
/// The header is malformed or not of class basic.
pub fn decode_header(payload: &[u8]) -> Result<ContentHeader<'_>, HeaderError> {
    let mut header = ContentHeader::default();
    header.read(payload)?;
    Ok(header)
}

impl<'a> ContentHeader<'a> {
    /// [`decode_header`] into a header that is [`ContentHeader::default`] and stays where it is: it
    /// is large, and moving it costs more than reading it. After an error its contents say nothing.
    ///
    /// # Errors
    /// As [`decode_header`].
    #[inline]
    pub fn read(&mut self, payload: &'a [u8]) -> Result<(), HeaderError> {
        let mut input = Input(payload);
        let class = input.u16().ok_or(HeaderError::Truncated)?;
        let weight = input.u16().ok_or(HeaderError::Truncated)?;
        if class != CLASS_BASIC {
            return Err(HeaderError::WrongClass(class));
        }
        if weight != 0 {
            return Err(HeaderError::Weight(weight));
        }
        self.payload = payload;
        self.body_size = input.u64().ok_or(HeaderError::Truncated)?;
        self.properties.read(input.0)
    }
}

/// Reads the payload of a content header frame into owned properties, for the rare paths that
/// change them. [`Properties::encode_header`] changes them without this and takes any bytes.
///
/// # Errors
/// As [`decode_header`]; also where a string is not UTF-8.
pub fn decode_properties(payload: &[u8]) -> Result<AMQPProperties, HeaderError> {
    decode_header(payload)?.properties.to_owned_properties()
}

/// The payload of a content header frame with these properties.
#[must_use]
pub fn encode_header(body_size: u64, properties: &AMQPProperties) -> Vec<u8> {
    let headers = properties
        .headers()
        .as_ref()
        .map(encode_table)
        .unwrap_or_default();
    Properties::from_owned(properties, &headers).encode_header(body_size)
}

impl Properties<'_> {
    /// The payload of a content header frame with these properties.
    #[must_use]
    pub fn encode_header(&self, body_size: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&CLASS_BASIC.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&body_size.to_be_bytes());
        self.write(&mut out);
        out
    }
}
