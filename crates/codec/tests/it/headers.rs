//! Content headers against `amq-protocol`, and what it would let through.

use leveret_codec::protocol::basic::parse_properties;
use leveret_codec::{
    HeaderError, Properties, RawTable, ReplyCode, TableError, decode_header, decode_properties,
    encode_header,
};
use proptest::prelude::*;

use crate::arbitrary::properties;

/// A header of class basic with this after the body size.
fn header(flags_and_properties: &[u8]) -> Vec<u8> {
    let mut payload = b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05".to_vec();
    payload.extend_from_slice(flags_and_properties);
    payload
}

fn check_error(flags_and_properties: &[u8], expected: HeaderError) {
    assert_eq!(decode_header(&header(flags_and_properties)), Err(expected));
}

proptest! {
    #[test]
    fn owned_properties_come_back(body_size: u64, properties in properties()) {
        let payload = encode_header(body_size, &properties);
        prop_assert_eq!(&decode_properties(&payload).unwrap(), &properties);
        let (rest, parsed) = parse_properties(&payload[12..]).unwrap();
        prop_assert_eq!((rest, &parsed), (&b""[..], &properties));
        let header = decode_header(&payload).unwrap();
        prop_assert_eq!(header.body_size, body_size);
        prop_assert_eq!(header.properties.encode_header(body_size), payload);
    }

    #[test]
    fn every_cut_and_every_surplus_is_refused(properties in properties()) {
        let mut payload = encode_header(1, &properties);
        for length in 0..payload.len() {
            prop_assert!(decode_header(&payload[..length]).is_err());
        }
        payload.push(0);
        prop_assert_eq!(decode_header(&payload), Err(HeaderError::Trailing));
    }

    #[test]
    fn headers_of_arbitrary_flags_agree_with_amq_protocol(
        flags: u16, bytes in proptest::collection::vec(0u8..40, 0..60),
    ) {
        let flags = flags & !3;
        let payload = header(&[&flags.to_be_bytes()[..], &bytes].concat());
        let parsed = parse_properties(&payload[12..]);
        match decode_properties(&payload) {
            Ok(properties) => prop_assert_eq!(parsed.unwrap(), (&b""[..], properties)),
            Err(HeaderError::Trailing) => {},
            Err(_) => prop_assert!(parsed.is_err()),
        }
    }
}

#[test]
fn strings_may_be_any_bytes_but_have_no_owned_form() {
    let payload = header(b"\x04\x00\x02\xff\xfe");
    let properties = decode_header(&payload).unwrap().properties;
    assert_eq!(properties.correlation_id, Some(&b"\xff\xfe"[..]));
    assert_eq!(decode_properties(&payload), Err(HeaderError::NotUtf8));
}

#[test]
fn headers_and_expiration_can_be_changed_without_touching_the_rest() {
    let payload = header(b"\x05\x00\x02\xff\xfe\x0210");
    let mut properties = decode_header(&payload).unwrap().properties;
    properties.expiration = None;
    properties.headers = Some(RawTable::from_encoded(b"\x01kV"));
    let changed = properties.encode_header(5);
    assert_eq!(
        changed,
        header(b"\x24\x00\x00\x00\x00\x03\x01kV\x02\xff\xfe")
    );
}

#[test]
fn flags_may_continue_in_words_that_flag_nothing() {
    let payload = header(b"\x10\x01\x00\x01\x00\x00\x02");
    let expected = Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    };
    assert_eq!(decode_header(&payload).unwrap().properties, expected);
    check_error(
        b"\x10\x01\x80\x00\x02",
        HeaderError::UnknownProperty(0x8000),
    );
    check_error(b"\x10\x02\x02", HeaderError::UnknownProperty(0x1002));
    check_error(b"\x10\x01", HeaderError::Truncated);
}

#[test]
fn malformed_header_tables_are_refused() {
    check_error(
        b"\x20\x00\x00\x00\x00\x03\x01k?",
        TableError::UnknownType(b'?').into(),
    );
    check_error(
        b"\x20\x00\x00\x00\x00\x04\x01kt\x01\x00",
        HeaderError::Trailing,
    );
    check_error(
        b"\x20\x00\x00\x00\x00\x03\x01kt",
        TableError::Truncated.into(),
    );
    check_error(
        b"\x20\x00\x00\x00\x00\x09\x01kF\x00\x00\x00\x02\x09\x09",
        TableError::Truncated.into(),
    );
}

#[test]
fn headers_of_another_class_are_unexpected_frames() {
    let error =
        decode_header(b"\x00\x32\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00").unwrap_err();
    assert_eq!(error.reply_code(), ReplyCode::UnexpectedFrame);
    assert_eq!(
        error.to_string(),
        "expected content header for class 60, got one for class 50 instead"
    );
}
