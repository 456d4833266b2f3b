//! The newest record that is on stable storage, as the file `lock` says. A later record says the same of those before
//! it; of the last one only this does, without which damage to it would look like the torn end of a crash. Owns the
//! bytes of this. Nothing depends on its being there: it says too little where it is lost, and never too much.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::bytes::Cursor;
use crate::files::StoreFile;

/// Behind what older programs read of the file.
const OFFSET: u64 = 64;
const BYTES: usize = 16;

/// Where the commit thread writes what is on stable storage.
pub(super) struct NewestDurable {
    file: Arc<dyn StoreFile>,
    store: u32,
    epoch: u32,
}

impl NewestDurable {
    pub(super) fn new(file: Arc<dyn StoreFile>, store: u32, epoch: u32) -> Self {
        NewestDurable { file, store, epoch }
    }

    /// This record and all before it are on stable storage. The system keeps it when the process is killed,
    /// and nobody waits until it is on stable storage itself.
    pub(super) fn write(&self, lsn: u64) {
        let bytes = encode(lsn, self.epoch, self.store);
        let _ = self
            .file
            .write_at(&mut [IoSlice::new(&bytes)], OFFSET, false);
    }
}

/// The record that was written there last, by this opening of this store; 0 if none was.
pub(super) fn read(file: &dyn StoreFile, store: u32, epoch: u32) -> io::Result<u64> {
    let mut bytes = [0; BYTES];
    file.read_at(&mut bytes, OFFSET)?;
    let lsn = Cursor::new(&bytes).u64().unwrap_or(0);
    let is_own = bytes == encode(lsn, epoch, store);
    Ok(if is_own { lsn } else { 0 })
}

fn encode(lsn: u64, epoch: u32, store: u32) -> [u8; BYTES] {
    let mut fields = Vec::with_capacity(BYTES);
    fields.extend_from_slice(&lsn.to_le_bytes());
    fields.extend_from_slice(&epoch.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&fields), &store.to_le_bytes());
    fields.extend_from_slice(&crc.to_le_bytes());
    let mut out = [0; BYTES];
    out.copy_from_slice(&fields);
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::{Files, OpenMode};
    use crate::simulation::SimulatedDisk;

    #[test]
    fn only_what_this_opening_noted_counts() {
        let disk = SimulatedDisk::new();
        let path = Path::new("/lock");
        let file = disk.open(path, OpenMode::Create).expect("a file");
        assert_eq!(read(&*file, 7, 0).expect("read"), 0);
        let newest = NewestDurable::new(Arc::clone(&file), 7, 3);
        newest.write(12);
        newest.write(13);
        assert_eq!(read(&*file, 7, 3).expect("read"), 13);
        for (store, epoch) in [(8, 3), (7, 2), (7, 4)] {
            assert_eq!(read(&*file, store, epoch).expect("read"), 0);
        }
        for byte in 0..BYTES {
            disk.flip(path, 64 + byte);
            assert_eq!(read(&*file, 7, 3).expect("read"), 0);
            disk.flip(path, 64 + byte);
        }
        // Where it cannot be written, the last one stands.
        disk.fail_writes(Some(28));
        newest.write(14);
        assert_eq!(read(&*file, 7, 3).expect("read"), 13);
    }
}
