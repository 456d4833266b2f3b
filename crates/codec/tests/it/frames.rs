//! Bodies, headers and heartbeats, written and read back.

use leveret_codec::{
    ChannelNumber, FRAME_END, Frame, FrameKind, body_frame_header, write_body, write_header,
    write_heartbeat,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::{frames, only_frame};

fn check_body(frame_max: u32, body: &[u8], expected_sizes: &[usize]) {
    let mut out = Vec::new();
    write_body(&mut out, ChannelNumber(7), frame_max, body);
    let sizes: Vec<usize> = frames(&out)
        .iter()
        .map(|frame| frame.payload.len())
        .collect();
    assert_eq!(sizes, expected_sizes);
}

#[test]
fn bodies_are_cut_to_the_frame_size() {
    check_body(4096, &[0; 4088], &[4088]);
    check_body(4096, &[0; 4089], &[4088, 1]);
    check_body(4096, &[0; 8176], &[4088, 4088]);
    check_body(0, &[0; 200_000], &[200_000]);
    check_body(4096, &[], &[]);
    check_body(0, &[], &[]);
}

#[test]
fn a_frame_size_without_room_for_a_body_still_ends() {
    check_body(3, &[0; 2], &[1, 1]);
}

#[test]
fn a_heartbeat_is_one_empty_frame_of_channel_0() {
    let mut out = Vec::new();
    write_heartbeat(&mut out);
    assert_eq!(out, b"\x08\x00\x00\x00\x00\x00\x00\xce");
}

#[test]
fn a_chained_body_is_the_same_as_a_written_one() {
    let mut chained = body_frame_header(ChannelNumber(300), 4).to_vec();
    chained.extend_from_slice(b"body");
    chained.push(FRAME_END);
    let mut written = Vec::new();
    write_body(&mut written, ChannelNumber(300), 0, b"body");
    assert_eq!(chained, written);
}

proptest! {
    #[test]
    fn bodies_come_back_whole(
        channel: u16, frame_max in 9u32..500, body in vec(any::<u8>(), 0..2000),
    ) {
        let mut out = Vec::new();
        write_body(&mut out, ChannelNumber(channel), frame_max, &body);
        let frames = frames(&out);
        for frame in &frames {
            prop_assert_eq!((frame.kind, frame.channel), (FrameKind::Body, ChannelNumber(channel)));
            prop_assert!(frame.wire_length() <= frame_max as usize);
        }
        prop_assert_eq!(frames.iter().flat_map(|f| f.payload).copied().collect::<Vec<_>>(), body);
    }

    #[test]
    fn header_frames_come_back(channel: u16, payload in vec(any::<u8>(), 12..100)) {
        let mut out = Vec::new();
        write_header(&mut out, ChannelNumber(channel), &payload);
        let expected = Frame { kind: FrameKind::Header, channel: ChannelNumber(channel), payload: &payload };
        prop_assert_eq!(only_frame(&out), expected);
    }
}
