//! Bytes nobody should send: whatever they are, the answer is a value or an error.

use std::thread;

use leveret_codec::{
    HeaderError, MethodError, RawTable, TABLE_DEPTH_MAX, TableError, decode_header, decode_method,
    decode_properties, decode_table, method_ids, protocol_header, read_frame, split_names,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::tables::nested;

/// The stack of a thread that may be smaller than the usual 2 MiB.
const STACK_BYTES: usize = 512 * 1024;

/// queue.declare with these arguments.
fn declare(arguments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(arguments.len()).unwrap();
    [
        b"\x00\x32\x00\x0a\x00\x00\x01q\x00",
        &length.to_be_bytes()[..],
        arguments,
    ]
    .concat()
}

/// A content header with this header table.
fn header(table: &[u8]) -> Vec<u8> {
    let length = u32::try_from(table.len()).unwrap();
    let start = b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00";
    [&start[..], &length.to_be_bytes(), table].concat()
}

fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn depth_bombs_are_not_owned_on_a_small_stack() {
    on_small_stack(|| {
        for octet in [b'F', b'A'] {
            let bomb = nested(octet, 20_000);
            assert_eq!(decode_table(&bomb), Err(TableError::TooDeep));
            let _cut_short = RawTable::from_encoded(&bomb).to_table();
            let refused = decode_method(&declare(&bomb)).unwrap_err();
            assert!(matches!(refused, MethodError::Truncated(_)));
            let too_deep = HeaderError::Table(TableError::TooDeep);
            assert_eq!(decode_properties(&header(&bomb)), Err(too_deep));
        }
    });
}

#[test]
fn headers_of_any_depth_are_checked_on_a_small_stack() {
    on_small_stack(|| {
        for octet in [b'F', b'A'] {
            let deep = nested(octet, 100_000);
            let payload = header(&deep);
            let read = decode_header(&payload).unwrap();
            let headers = read.properties.headers.unwrap();
            assert_eq!(headers.as_encoded(), deep);
            let mut copied = Vec::new();
            headers.copy_fields(&mut copied, |_| true);
            assert_eq!(copied, deep);
            // The innermost value says that it is longer than what is left for it.
            let mut cut = deep.clone();
            cut[deep.len() - 1] = b'S';
            let wrong = RawTable::from_encoded(&cut).check();
            assert!(matches!(
                wrong,
                Err(TableError::Truncated | TableError::UnknownType(_))
            ));
        }
    });
}

#[test]
fn the_deepest_table_allowed_is_decoded_on_a_small_stack() {
    on_small_stack(|| {
        for octet in [b'F', b'A'] {
            let deepest = nested(octet, TABLE_DEPTH_MAX);
            assert!(decode_method(&declare(&deepest)).is_ok());
            assert!(decode_properties(&header(&deepest)).is_ok());
        }
    });
}

fn walk(bytes: &[u8]) {
    let table = RawTable::from_encoded(bytes);
    let _value = table.get(b"");
    for (_, value) in table.iter().flatten() {
        let _parts = (value.as_integer(), value.as_bytes(), value.type_name());
        let _owned = value.to_value();
    }
    let _owned = (table.check(), table.to_table(), decode_table(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..200), frame_max: u32) {
        let _frames = (read_frame(&bytes, frame_max), read_frame(&bytes, 0));
        let _methods = (decode_method(&bytes), method_ids(&bytes));
        let _headers = (decode_header(&bytes), decode_properties(&bytes));
        let _others = (protocol_header(&bytes), split_names(&bytes));
        walk(&bytes);
    }

    #[test]
    fn arbitrary_arguments_of_real_methods(
        class in prop::sample::select(vec![10u16, 20, 30, 40, 50, 60, 85, 90]),
        method in 0u16..130,
        arguments in vec(prop_oneof![0u8..4, any::<u8>()], 0..40),
    ) {
        let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
        if let Err(error) = decode_method(&[&ids[..], &arguments].concat()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn arbitrary_tables(
        bytes in vec(prop_oneof![
            0u8..3, prop::sample::select(b"tbBsUuIilLfdDSATFxV".to_vec()),
        ], 0..80),
    ) {
        walk(&bytes);
        let _header = decode_header(&header(&bytes));
    }

    #[test]
    fn arbitrary_frames(
        kind in 0u8..10, size in 0u8..20, bytes in vec(prop_oneof![Just(0xceu8), any::<u8>()], 0..25),
    ) {
        let input = [&[kind, 0, 1, 0, 0, 0, size][..], &bytes].concat();
        match read_frame(&input, 0) {
            Ok(Some(frame)) => prop_assert_eq!(frame.payload.len(), usize::from(size)),
            Ok(None) => prop_assert!(bytes.len() <= usize::from(size)),
            Err(error) => prop_assert!(error.to_string().starts_with("type ")),
        }
    }
}
