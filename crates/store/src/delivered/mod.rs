//! How far each log's messages had been delivered, in a file that a kill of the process leaves as it was.
//!
//! Messages of a log are first delivered in the order of their sequences, so one number a log says which of
//! them were. It is written before a delivery leaves and not synced: the system's cache has it when the
//! process dies, and after a crash of the system nobody believes the file. Nothing else depends on it: what
//! cannot be written costs this knowledge, and no message. Owns the file and who has which of its slots; the
//! bytes are in [`format`].

mod format;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_store_api::{Delivered, LogId, Sequence};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

use crate::files::{Files, OpenMode, StoreFile};
use format::{FileHeader, HEADER_BYTES, SLOT_BYTES, SlotBytes};

/// The file's name in the store's directory.
const NAME: &str = "delivered";
/// It is made under this name, and takes the other's place when it is whole.
const NEW_NAME: &str = "delivered.new";
/// Room is reserved for so many slots at a time.
const SLOTS_GROWN: u32 = 2048;

/// Which opening of a store it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// The store's random number.
    pub(crate) store: u32,
    /// Counts the openings: the one before this one.
    pub(crate) last_epoch: u32,
    /// It did not leave in order.
    pub(crate) was_running: bool,
    /// This one.
    pub(crate) epoch: u32,
}

/// What the file of the last opening says, if it can be believed.
pub(crate) type Found = Option<FxHashMap<LogId, Delivered>>;

/// The file and what is in it.
pub(crate) struct DeliveredFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// None: there is none.
    file: Option<Arc<dyn StoreFile>>,
    slots: RwLock<FxHashMap<LogId, Arc<Slot>>>,
    room: Mutex<Room>,
    /// It could not be written once: it is not written any more, and nobody believes it.
    lost: AtomicBool,
}

/// A log's place in the file.
struct Slot {
    number: u32,
    /// As written; None: the log is gone, and the place may be another's.
    written: Mutex<Option<Delivered>>,
}

/// Which slots are free.
struct Room {
    free: Vec<u32>,
    /// Slots from here on were never used.
    used: u32,
    /// The file has room for so many.
    reserved: u32,
}

/// Reads what the last opening left.
pub(crate) fn find(files: &dyn Files, directory: &Path, opening: &Opening) -> Found {
    let bytes = read(files, &directory.join(NAME)).ok()?;
    let header = FileHeader::decode(bytes.get(..HEADER_BYTES)?)?;
    let same_boot = header.boot.is_some() && header.boot == files.boot_id();
    let is_last = if header.epoch == opening.last_epoch {
        !opening.was_running || same_boot
    } else {
        // The start after the last one died before it was one.
        header.epoch > opening.last_epoch && same_boot
    };
    if header.store != opening.store || !is_last {
        return None;
    }
    let mut found = FxHashMap::default();
    for bytes in bytes.get(HEADER_BYTES..)?.chunks_exact(SLOT_BYTES) {
        match SlotBytes::decode(bytes)? {
            SlotBytes::Free => {}
            SlotBytes::Of(log, delivered) => {
                found.insert(log, delivered);
            }
        }
    }
    Some(found)
}

fn read(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// What is known of a log whose next sequence is `next`, after what the file says of it. What had been
/// delivered and was never written is gone, and its sequences are given again.
fn known(found: &Found, log: LogId, next: u64) -> Delivered {
    let Some(found) = found else {
        return Delivered {
            below: Sequence(0),
            uncertain_below: Sequence(next),
        };
    };
    let delivered = found.get(&log).copied().unwrap_or_default();
    Delivered {
        below: Sequence(delivered.below.0.min(next)),
        uncertain_below: Sequence(delivered.uncertain_below.0.min(next)),
    }
}

impl DeliveredFile {
    /// Makes the file of this opening from what was found. `logs`: all that are there, with their next
    /// sequences. A file that cannot be made is done without.
    pub(crate) fn make(
        files: Arc<dyn Files>,
        directory: &Path,
        opening: &Opening,
        logs: impl Iterator<Item = (LogId, u64)>,
        found: &Found,
    ) -> DeliveredFile {
        let logs: Vec<(LogId, Delivered)> = logs
            .map(|(log, next)| (log, known(found, log, next)))
            .filter(|(_, delivered)| *delivered != Delivered::default())
            .collect();
        let path = directory.join(NAME);
        let header = FileHeader {
            store: opening.store,
            epoch: opening.epoch,
            boot: files.boot_id(),
        };
        let used = u32::try_from(logs.len()).unwrap_or(u32::MAX);
        let reserved = used.div_ceil(SLOTS_GROWN).saturating_mul(SLOTS_GROWN);
        let made = write_new(&*files, directory, &header, &logs, reserved);
        let slots = (0..).zip(logs).map(|(number, (log, delivered))| {
            let written = Mutex::new(Some(delivered));
            (log, Arc::new(Slot { number, written }))
        });
        let mut this = DeliveredFile {
            files,
            path,
            file: None,
            slots: RwLock::new(slots.collect()),
            room: Mutex::new(Room {
                free: Vec::new(),
                used,
                reserved,
            }),
            lost: AtomicBool::new(false),
        };
        match made {
            Ok(file) => this.file = Some(file),
            Err(error) => this.give_up(&error),
        }
        this
    }

    /// What is known of a log.
    pub(crate) fn of(&self, log: LogId) -> Delivered {
        let slots = self.slots.read();
        let slot = slots.get(&log);
        slot.and_then(|slot| *slot.written.lock())
            .unwrap_or_default()
    }

    /// Every message of `log` below `below` was or is about to be delivered.
    pub(crate) fn note(&self, log: LogId, below: Sequence) {
        if self.lost.load(Ordering::Relaxed) {
            return;
        }
        let slot = self.slots.read().get(&log).map(Arc::clone);
        let noted = match slot {
            Some(slot) => self.write(&slot, log, below),
            None => self
                .claim(log)
                .and_then(|slot| self.write(&slot, log, below)),
        };
        if let Err(error) = noted {
            self.give_up(&error);
        }
    }

    fn write(&self, slot: &Slot, log: LogId, below: Sequence) -> io::Result<()> {
        // Held while writing, so that a lower number never replaces a higher one.
        let mut written = slot.written.lock();
        let Some(before) = written.filter(|written| written.below < below) else {
            return Ok(());
        };
        let Some(file) = &self.file else {
            return Ok(());
        };
        let delivered = Delivered { below, ..before };
        let bytes = SlotBytes::encode(log, &delivered);
        file.write_at(&mut [IoSlice::new(&bytes)], offset(slot.number), false)?;
        *written = Some(delivered);
        Ok(())
    }

    /// Gives the log a slot.
    fn claim(&self, log: LogId) -> io::Result<Arc<Slot>> {
        let mut slots = self.slots.write();
        if let Some(slot) = slots.get(&log) {
            return Ok(Arc::clone(slot));
        }
        let number = self.take_number()?;
        let slot = Arc::new(Slot {
            number,
            written: Mutex::new(Some(Delivered::default())),
        });
        slots.insert(log, Arc::clone(&slot));
        Ok(slot)
    }

    fn take_number(&self) -> io::Result<u32> {
        let mut room = self.room.lock();
        if let Some(number) = room.free.pop() {
            return Ok(number);
        }
        if room.used == room.reserved {
            let slots = u64::from(SLOTS_GROWN) * SLOT_BYTES as u64;
            if let Some(file) = &self.file {
                file.allocate(offset(room.reserved), slots)?;
            }
            room.reserved = room.reserved.saturating_add(SLOTS_GROWN);
        }
        room.used += 1;
        Ok(room.used - 1)
    }

    /// These logs are gone for good: their slots are for others. What they say of a log that is not there
    /// any more means nothing.
    pub(crate) fn free(&self, logs: &[LogId]) {
        let mut slots = self.slots.write();
        for log in logs {
            if let Some(slot) = slots.remove(log) {
                *slot.written.lock() = None;
                self.room.lock().free.push(slot.number);
            }
        }
    }

    /// Brings it to stable storage, at an orderly stop.
    pub(crate) fn sync(&self) {
        if self.lost.load(Ordering::Relaxed) {
            return;
        }
        if let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            self.give_up(&error);
        }
    }

    /// Does without: after the next start everything may have been delivered.
    fn give_up(&self, error: &io::Error) {
        if self.lost.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = self.path.display();
        tracing::warn!(
            "{path} cannot be written: {error}; after the next start all messages count as redelivered"
        );
        let spoiled = match &self.file {
            Some(file) => file.write_at(&mut [IoSlice::new(&[0; HEADER_BYTES])], 0, false),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if spoiled.is_err() {
            // If that fails as well, there is no disk to speak of.
            let _ = self.files.remove(&self.path);
        }
    }
}

fn offset(slot: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(slot) * SLOT_BYTES as u64
}

/// Makes the file beside the old one, and puts it into its place.
fn write_new(
    files: &dyn Files,
    directory: &Path,
    header: &FileHeader,
    logs: &[(LogId, Delivered)],
    reserved: u32,
) -> io::Result<Arc<dyn StoreFile>> {
    let (new, path) = (directory.join(NEW_NAME), directory.join(NAME));
    match files.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files.open(&new, OpenMode::Create)?;
    file.allocate(0, offset(reserved))?;
    let mut bytes = header.encode().to_vec();
    for (log, delivered) in logs {
        bytes.extend_from_slice(&SlotBytes::encode(*log, delivered));
    }
    file.write_at(&mut [IoSlice::new(&bytes)], 0, false)?;
    file.sync()?;
    files.rename(&new, &path)?;
    files.sync_directory(directory)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
