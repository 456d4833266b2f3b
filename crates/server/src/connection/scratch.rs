//! One read buffer per worker thread, lent to whichever connection reads: an idle connection needs none.

use std::cell::Cell;

use bytes::BytesMut;

/// Bytes asked of the kernel in one read.
const READ_BYTES: usize = 256 << 10;

thread_local! {
    static BUFFER: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// The worker's buffer, empty, with room for a whole read. Whoever takes it puts it back.
pub(super) fn take() -> BytesMut {
    let mut buffer = BUFFER.take();
    buffer.reserve(READ_BYTES);
    buffer
}

/// Gives it back for the next read. If parts were split off it and are still held, the next reader gets new memory.
pub(super) fn put_back(mut buffer: BytesMut) {
    buffer.clear();
    BUFFER.set(buffer);
}

/// Gives the calling worker's buffer up until the next read.
pub(crate) fn release() {
    drop(BUFFER.take());
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn the_same_memory_comes_back_even_after_it_was_consumed() {
        let mut buffer = take();
        let start = buffer.as_ptr();
        buffer.extend_from_slice(&[1; 1000]);
        buffer.advance(600);
        drop(buffer.split_to(300));
        put_back(buffer);
        let buffer = take();
        assert!(buffer.is_empty());
        assert!(buffer.capacity() >= READ_BYTES);
        assert_eq!(buffer.as_ptr(), start);
    }
}
