//! Memory of bodies that come in many frames. Owns how it grows, and how that of the largest ones is given back: a
//! hundred megabytes take the system ten milliseconds, for which no connection should have to wait.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

use bytes::Bytes;
use memmap2::{Advice, MmapMut};

/// Bytes reserved at once; the rest of an announced size is believed when so many have come.
const RESERVED_FIRST: usize = 1 << 20;
/// From this size on, a body has a mapping to itself.
const MAPPED_BYTES_MIN: usize = 16 << 20;
/// So much of a mapping is made ready at a time: that costs a fraction of what touching its pages one by one does.
const READY_STEP: usize = 1 << 20;

/// To whoever gives memory back.
static RETURNS: OnceLock<Sender<MmapMut>> = OnceLock::new();

/// There is no memory for a body.
#[derive(Debug)]
pub struct NoMemory;

/// A body in the making.
#[derive(Debug)]
pub struct BodyBuffer {
    announced: usize,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    Mapped(Mapping),
}

/// The first `length` bytes of a mapping.
#[derive(Debug)]
struct Mapping {
    /// None: it has been given back.
    map: Option<MmapMut>,
    length: usize,
    ready: usize,
}

impl BodyBuffer {
    /// For a body of `announced` bytes.
    pub fn new(announced: usize) -> Self {
        BodyBuffer {
            announced,
            memory: Memory::Heap(Vec::with_capacity(announced.min(RESERVED_FIRST))),
        }
    }

    /// How many bytes are here.
    #[expect(
        clippy::len_without_is_empty,
        reason = "nobody asks: it is made when the first bytes are here"
    )]
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Heap(bytes) => bytes.len(),
            Memory::Mapped(mapping) => mapping.length,
        }
    }

    /// Adds the next part. Whoever has sent what was reserved at first means the rest as well, and memory that is not
    /// used yet costs nothing: a body is moved once at most while it grows.
    pub fn extend(&mut self, part: &[u8]) -> Result<(), NoMemory> {
        if let Memory::Heap(bytes) = &mut self.memory
            && bytes.len() + part.len() > bytes.capacity()
        {
            let rest = self.announced.saturating_sub(bytes.len()).max(part.len());
            let whole = bytes.len() + rest;
            match Mapping::with_room(whole) {
                Some(mut mapping) => {
                    mapping.extend(bytes)?;
                    self.memory = Memory::Mapped(mapping);
                }
                None => bytes.try_reserve_exact(rest).map_err(|_| NoMemory)?,
            }
        }
        match &mut self.memory {
            Memory::Heap(bytes) => bytes.extend_from_slice(part),
            Memory::Mapped(mapping) => mapping.extend(part)?,
        }
        Ok(())
    }

    /// The body as it is now.
    pub fn into_bytes(self) -> Bytes {
        match self.memory {
            Memory::Heap(bytes) => Bytes::from(bytes),
            Memory::Mapped(mapping) => Bytes::from_owner(mapping),
        }
    }
}

/// A copy of a whole body.
pub(crate) fn copy(body: &[u8]) -> Bytes {
    if let Some(mut mapping) = Mapping::with_room(body.len())
        && mapping.extend(body).is_ok()
    {
        return Bytes::from_owner(mapping);
    }
    Bytes::copy_from_slice(body)
}

impl Mapping {
    /// None if that is too little for one, or if there is none to be had.
    fn with_room(bytes: usize) -> Option<Self> {
        if bytes < MAPPED_BYTES_MIN {
            return None;
        }
        Some(Mapping {
            map: Some(MmapMut::map_anon(bytes).ok()?),
            length: 0,
            ready: 0,
        })
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), NoMemory> {
        let map = self.map.as_mut().ok_or(NoMemory)?;
        let end = self.length + part.len();
        while self.ready < end.min(map.len()) {
            let step = READY_STEP.min(map.len() - self.ready);
            // Where the system cannot do that, writing does it.
            let _ = map.advise_range(Advice::PopulateWrite, self.ready, step);
            self.ready += step;
        }
        let place = map.get_mut(self.length..end).ok_or(NoMemory)?;
        place.copy_from_slice(part);
        self.length = end;
        Ok(())
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        let map = self.map.as_deref().unwrap_or_default();
        map.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some(map) = self.map.take()
            && let Some(returns) = RETURNS.get()
        {
            let _ = returns.send(map);
        }
    }
}

/// Gives memory back, for all brokers of the process, and does not return: for a thread of its own. Returns at once if
/// another does. Where none does, memory is given back by whoever lets go of it last.
pub fn give_back() {
    let (returns, returned) = mpsc::channel();
    if RETURNS.set(returns).is_ok() {
        returned.into_iter().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..=250).cycle().take(bytes).collect()
    }

    fn assembled(whole: &[u8], part: usize) -> Bytes {
        let mut body = BodyBuffer::new(whole.len());
        for part in whole.chunks(part) {
            body.extend(part).expect("memory");
        }
        assert_eq!(body.len(), whole.len());
        body.into_bytes()
    }

    #[test]
    fn a_body_is_what_came() {
        for bytes in [
            0,
            1,
            100_000,
            RESERVED_FIRST + 1,
            MAPPED_BYTES_MIN - 1,
            MAPPED_BYTES_MIN,
            MAPPED_BYTES_MIN + 12_345,
        ] {
            let whole = pattern(bytes);
            assert!(assembled(&whole, 131_064) == whole);
            assert!(copy(&whole) == whole);
        }
    }

    #[test]
    fn what_was_only_announced_is_not_reserved() {
        let mut body = BodyBuffer::new(usize::MAX);
        body.extend(&[1; 1000]).expect("memory");
        assert!(matches!(&body.memory, Memory::Heap(bytes) if bytes.capacity() == RESERVED_FIRST));
        assert!(body.extend(&vec![1; RESERVED_FIRST]).is_err());
    }

    #[test]
    fn the_largest_stay_as_long_as_a_part_is_held() {
        let whole = pattern(MAPPED_BYTES_MIN);
        let body = assembled(&whole, 1 << 20);
        let slice = body.slice(1000..2000);
        drop(body);
        assert!(slice == whole[1000..2000]);
    }
}
