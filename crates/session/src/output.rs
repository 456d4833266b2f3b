//! Bytes on their way to a client: small ones gathered in one buffer, large bodies chained as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use leveret_codec::{
    ChannelNumber, FRAME_END, FRAME_OVERHEAD, body_frame_header, write_body, write_header,
};
use leveret_message::Message;

#[derive(Debug)]
enum Chunk {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Copied(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// What a session wants written to its socket, in order.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    /// Behind all chunks.
    buffer: Vec<u8>,
    /// Bytes of the first chunk (or of the buffer, without chunks) that are written already.
    sent: usize,
    chunked: usize,
    /// Bytes written so far, and how often some were.
    written_bytes: u64,
    writes: u64,
}

impl Output {
    /// Bytes not written yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunked + self.buffer.len() - self.sent
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append small frames to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends content header and body frames of a message as it was published.
    pub fn write_content(&mut self, channel: ChannelNumber, frame_max: u32, message: &Message) {
        self.write_content_with(message.header(), channel, frame_max, message);
    }

    /// Appends content header and body frames of a message, with another header than its own.
    pub fn write_content_with(
        &mut self,
        header: &[u8],
        channel: ChannelNumber,
        frame_max: u32,
        message: &Message,
    ) {
        write_header(&mut self.buffer, channel, header);
        match message.large_body() {
            None => write_body(&mut self.buffer, channel, frame_max, message.body()),
            Some(body) => self.chain_body(channel, frame_max, body),
        }
    }

    fn chain_body(&mut self, channel: ChannelNumber, frame_max: u32, body: &Bytes) {
        let most = match frame_max as usize {
            0 => body.len(),
            max => max.saturating_sub(FRAME_OVERHEAD).max(1),
        };
        let mut start = 0;
        while start < body.len() {
            let end = (start + most).min(body.len());
            let length = u32::try_from(end - start).unwrap_or(u32::MAX);
            self.buffer
                .extend_from_slice(&body_frame_header(channel, length));
            self.push_shared(body.slice(start..end));
            self.buffer.push(FRAME_END);
            start = end;
        }
    }

    fn push_shared(&mut self, bytes: Bytes) {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            self.chunked += buffer.len();
            self.chunks.push_back(Chunk::Copied(buffer));
        }
        self.chunked += bytes.len();
        self.chunks.push_back(Chunk::Shared(bytes));
    }

    /// Fills `slices` with what is to be written next; answers how many were filled.
    pub fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.chunks.iter().map(Chunk::bytes);
        let all = chunks.chain(std::iter::once(self.buffer.as_slice()));
        let mut filled = 0;
        let mut skip = self.sent;
        for (slot, bytes) in slices.iter_mut().zip(all) {
            let rest = bytes.get(skip..);
            debug_assert!(rest.is_some(), "no more was sent than there is");
            let rest = rest.unwrap_or_default();
            skip = 0;
            *slot = IoSlice::new(rest);
            filled += 1;
        }
        filled
    }

    /// `count` bytes have been written.
    pub fn advance(&mut self, count: usize) {
        self.written_bytes += count as u64;
        self.writes += 1;
        self.sent += count;
        while let Some(first) = self.chunks.front() {
            let length = first.bytes().len();
            if self.sent < length {
                return;
            }
            self.sent -= length;
            self.chunked -= length;
            self.chunks.pop_front();
        }
        if self.sent == self.buffer.len() {
            self.sent = 0;
            self.buffer.clear();
        }
    }

    /// Bytes written so far, and how often some were.
    pub(crate) fn written(&self) -> (u64, u64) {
        (self.written_bytes, self.writes)
    }

    /// Gives the buffers back while there is nothing to write.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && (self.buffer.capacity() > 0 || self.chunks.capacity() > 0) {
            self.buffer = Vec::new();
            self.chunks = VecDeque::new();
        }
    }

    /// Drops everything that was not written (the socket is gone).
    pub fn clear(&mut self) {
        *self = Output::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let taken = {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = output.fill_slices(&mut slices);
                let flat: Vec<u8> = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                flat[..flat.len().min(step)].to_vec()
            };
            output.advance(taken.len());
            all.extend(taken);
        }
        all
    }

    #[test]
    fn whatever_the_writes_the_bytes_come_in_order() {
        for step in 1..20 {
            let mut output = Output::default();
            output.buffer().extend_from_slice(b"abc");
            output.push_shared(Bytes::from_static(b"defgh"));
            output.push_shared(Bytes::from_static(b"ij"));
            output.buffer().extend_from_slice(b"kl");
            assert_eq!(output.len(), 12);
            assert_eq!(written(&mut output, step), b"abcdefghijkl");
        }
    }
}
