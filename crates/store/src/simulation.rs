//! A disk that lies, for tests: it forgets what was not synced, tears what was under way, fills up,
//! fails, and loses power at a chosen moment. Owns its bytes in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::files::{Files, OpenMode, StoreFile};
use crate::{IndexStore, Row};

const SECTOR: u64 = 512;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    names: BTreeMap<PathBuf, u64>,
    /// The names that survive a power cut, and what was done to names since.
    stable_names: BTreeMap<PathBuf, u64>,
    name_changes: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    locked: BTreeSet<u64>,
    next_inode: u64,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// How often the power came back.
    boots: u128,
    capacity: Option<u64>,
    /// Operations until the power goes off.
    power_left: Option<u64>,
    is_off: bool,
    failing: Option<i32>,
    /// Rows that the index takes before it has no room for another.
    rows_left: Option<usize>,
    /// These bytes of this file cannot be read.
    refused: Option<(u64, Range<u64>)>,
    /// Synchronous writes are taken for ordinary ones.
    ignores_sync: bool,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    stable: Vec<u8>,
    /// Sectors of `current` that a power cut may lose.
    dirty: BTreeSet<u64>,
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    locks: Mutex<bool>,
}

/// Random numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides.max(1)
    }
}

impl SimulatedDisk {
    /// An empty disk without bounds.
    #[must_use]
    pub fn new() -> Self {
        SimulatedDisk::default()
    }

    /// From now on the disk holds `bytes`; `None`: any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner.lock().capacity = bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.inner.lock().used()
    }

    /// The power goes off after so many more writes, syncs and rows of the index.
    pub fn power_off_after(&self, operations: u64) {
        self.inner.lock().power_left = Some(operations);
    }

    /// The power goes off now.
    pub fn power_off(&self) {
        self.inner.lock().is_off = true;
    }

    /// The power has gone off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.inner.lock().is_off
    }

    /// Every write and sync fails with this error number of the system from now on; `None`: no more.
    pub fn fail_writes(&self, errno: Option<i32>) {
        self.inner.lock().failing = errno;
    }

    /// The index takes so many more rows, and then there is no room for another; `None`: there is.
    pub fn refuse_rows(&self, after: Option<usize>) {
        self.inner.lock().rows_left = after;
    }

    /// The disk says that something is on stable storage when it is not.
    pub fn ignore_syncs(&self) {
        self.inner.lock().ignores_sync = true;
    }

    /// Flips one bit of a file, on stable storage too.
    ///
    /// # Panics
    /// There is no such file or byte.
    #[allow(clippy::expect_used, reason = "for tests")]
    pub fn flip(&self, path: &Path, offset: usize) {
        assert!(offset < self.contents(path).len(), "there is such a byte");
        self.set(path, offset..offset + 1, |byte| byte ^ 0x10);
    }

    /// Gives these bytes of a file other values, on stable storage too.
    ///
    /// # Panics
    /// There is no such file.
    #[allow(clippy::expect_used, reason = "for tests")]
    pub fn set(&self, path: &Path, range: Range<usize>, value: impl Fn(u8) -> u8) {
        let mut disk = self.inner.lock();
        let inode = *disk.names.get(path).expect("a file of that name");
        let inode = disk.inodes.get_mut(&inode).expect("its bytes");
        for bytes in [&mut inode.current, &mut inode.stable] {
            let (start, end) = (range.start.min(bytes.len()), range.end.min(bytes.len()));
            for byte in &mut bytes[start..end] {
                *byte = value(*byte);
            }
        }
    }

    /// No read of these bytes of a file succeeds from now on; `None`: all do.
    pub fn refuse_reads(&self, path: &Path, range: Option<Range<u64>>) {
        let mut disk = self.inner.lock();
        let inode = disk.names.get(path).copied();
        disk.refused = inode.zip(range);
    }

    /// The bytes of a file; empty if there is none.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let disk = self.inner.lock();
        let inode = disk
            .names
            .get(path)
            .and_then(|inode| disk.inodes.get(inode));
        inode.map(|inode| inode.current.clone()).unwrap_or_default()
    }

    /// The disk after the power came back: of what was not synced, any sectors and any number of
    /// changes of names from the front are there, as `seed` decides. This disk is off for good.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> SimulatedDisk {
        let mut disk = self.inner.lock();
        disk.is_off = true;
        let mut dice = Dice(seed | 1);
        let mut names = disk.stable_names.clone();
        let kept = dice.roll(disk.name_changes.len() as u64 + 1);
        for (change, _) in disk.name_changes.iter().zip(0..kept) {
            change.apply(&mut names);
        }
        let inodes: BTreeMap<u64, Inode> = names
            .values()
            .filter_map(|number| {
                Some((*number, disk.inodes.get(number)?.after_power_cut(&mut dice)))
            })
            .collect();
        let after = Disk {
            names: names.clone(),
            stable_names: names,
            inodes,
            next_inode: disk.next_inode,
            rows: disk.rows.clone(),
            boots: disk.boots + 1,
            ..Disk::default()
        };
        SimulatedDisk {
            inner: Arc::new(Mutex::new(after)),
        }
    }

    /// The disk after the process was killed: everything written is there. This disk is off for good.
    #[must_use]
    pub fn after_kill(&self) -> SimulatedDisk {
        let mut disk = self.inner.lock();
        disk.is_off = true;
        let after = Disk {
            names: disk.names.clone(),
            stable_names: disk.stable_names.clone(),
            name_changes: disk.name_changes.clone(),
            inodes: disk.inodes.clone(),
            next_inode: disk.next_inode,
            rows: disk.rows.clone(),
            boots: disk.boots,
            ..Disk::default()
        };
        SimulatedDisk {
            inner: Arc::new(Mutex::new(after)),
        }
    }

    /// The index that lies on this disk.
    #[must_use]
    pub fn index(&self) -> Box<dyn IndexStore> {
        Box::new(self.clone())
    }
}

fn no_room() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Inode {
    fn after_power_cut(&self, dice: &mut Dice) -> Inode {
        let mut bytes = self.stable.clone();
        let length = if dice.roll(2) == 0 {
            self.current.len()
        } else {
            self.stable.len()
        };
        bytes.resize(length, 0);
        for sector in &self.dirty {
            let start = usize::try_from(sector * SECTOR).unwrap_or(usize::MAX);
            let end = (start + 512).min(self.current.len()).min(length);
            if start < end && dice.roll(2) == 0 {
                bytes[start..end].copy_from_slice(&self.current[start..end]);
            }
        }
        Inode {
            current: bytes.clone(),
            stable: bytes,
            dirty: BTreeSet::new(),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Disk {
    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.current.len() as u64)
            .sum()
    }

    fn check_power(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.power_left {
            self.is_off |= *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.is_off {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn check_write(&mut self) -> io::Result<()> {
        self.check_power()?;
        self.failing
            .map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn check_growth(&self, inode: u64, end: u64) -> io::Result<()> {
        let length = self
            .inodes
            .get(&inode)
            .map_or(0, |inode| inode.current.len() as u64);
        let grown = self.used() + end.saturating_sub(length);
        if end > length && self.capacity.is_some_and(|capacity| grown > capacity) {
            return Err(no_room());
        }
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl Files for SimulatedDisk {
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        self.inner.lock().check_power()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let disk = self.inner.lock();
        let inside = disk
            .names
            .keys()
            .filter(|path| path.parent() == Some(directory));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StoreFile>> {
        let mut disk = self.inner.lock();
        if disk.is_off {
            return Err(io::Error::from_raw_os_error(5));
        }
        let inode = match disk.names.get(path).copied() {
            Some(inode) => inode,
            None if mode == OpenMode::Create => {
                disk.next_inode += 1;
                let inode = disk.next_inode;
                disk.inodes.insert(inode, Inode::default());
                disk.change_name(NameChange::Create(path.to_path_buf(), inode));
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            inode,
            locks: Mutex::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.inner.lock();
        disk.check_power()?;
        disk.change_name(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.inner.lock();
        disk.check_power()?;
        disk.change_name(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        let mut disk = self.inner.lock();
        disk.check_write()?;
        disk.name_changes.clear();
        disk.stable_names = disk.names.clone();
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let disk = self.inner.lock();
        Ok(disk.capacity.map_or(u64::MAX / 2, |capacity| {
            capacity.saturating_sub(disk.used())
        }))
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some(self.inner.lock().boots.to_be_bytes())
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        if *self.locks.lock() {
            self.disk.inner.lock().locked.remove(&self.inode);
        }
    }
}

impl StoreFile for SimulatedFile {
    fn is_named(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.inner.lock().names.get(path) == Some(&self.inode))
    }

    fn length(&self) -> io::Result<u64> {
        let disk = self.disk.inner.lock();
        Ok(disk
            .inodes
            .get(&self.inode)
            .map_or(0, |inode| inode.current.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.inner.lock();
        let end = offset + buffer.len() as u64;
        let is_refused = disk.refused.as_ref().is_some_and(|(inode, range)| {
            *inode == self.inode && offset < range.end && range.start < end
        });
        if is_refused {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = disk
            .inodes
            .get(&self.inode)
            .map_or(&[][..], |inode| &inode.current);
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64, durable: bool) -> io::Result<()> {
        let mut disk = self.disk.inner.lock();
        let data: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let end = offset + data.len() as u64;
        disk.check_growth(self.inode, end)?;
        let checked = disk.check_write();
        let durable = durable && !disk.ignores_sync && checked.is_ok();
        let failing = disk.failing.is_some();
        let Some(inode) = disk.inodes.get_mut(&self.inode).filter(|_| !failing) else {
            return checked;
        };
        // Even a write during which the power went off may have reached the disk in part.
        let (start, stop) = (
            usize::try_from(offset).unwrap_or(0),
            usize::try_from(end).unwrap_or(0),
        );
        if inode.current.len() < stop {
            inode.current.resize(stop, 0);
        }
        inode.current[start..stop].copy_from_slice(&data);
        if durable {
            if inode.stable.len() < stop {
                inode.stable.resize(stop, 0);
            }
            inode.stable[start..stop].copy_from_slice(&data);
        } else {
            inode.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        }
        checked
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.inner.lock();
        disk.check_write()?;
        let ignored = disk.ignores_sync;
        if let Some(inode) = disk.inodes.get_mut(&self.inode).filter(|_| !ignored) {
            inode.stable = inode.current.clone();
            inode.dirty.clear();
        }
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut disk = self.disk.inner.lock();
        disk.check_write()?;
        disk.check_growth(self.inode, offset + length)?;
        let end = usize::try_from(offset + length).unwrap_or(0);
        if let Some(inode) = disk.inodes.get_mut(&self.inode)
            && inode.current.len() < end
        {
            inode.current.resize(end, 0);
        }
        Ok(())
    }

    fn shorten(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk.inner.lock();
        disk.check_write()?;
        if let Some(inode) = disk.inodes.get_mut(&self.inode) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            inode.current.truncate(length);
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<bool> {
        let mut disk = self.disk.inner.lock();
        let taken = disk.locked.insert(self.inode);
        *self.locks.lock() |= taken;
        Ok(taken)
    }
}

impl IndexStore for SimulatedDisk {
    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        for (key, value) in &self.inner.lock().rows {
            each(key, value);
        }
        Ok(())
    }

    fn apply(&mut self, mut rows: Vec<Row>, only: bool) -> io::Result<()> {
        let mut disk = self.inner.lock();
        if only {
            let kept: BTreeSet<&Vec<u8>> = rows.iter().map(|(key, _)| key).collect();
            let strange = disk.rows.keys().filter(|key| !kept.contains(key));
            let strange: Vec<Row> = strange.map(|key| (key.clone(), None)).collect();
            let last = rows.len().saturating_sub(1);
            rows.splice(last..last, strange);
        }
        for (key, value) in rows {
            // The power may go off between any two rows.
            disk.check_write()?;
            if let Some(left) = &mut disk.rows_left {
                *left = left.checked_sub(1).ok_or_else(no_room)?;
            }
            match value {
                Some(value) => disk.rows.insert(key, value),
                None => disk.rows.remove(&key),
            };
        }
        Ok(())
    }
}
