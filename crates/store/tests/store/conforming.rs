//! The conformance suite over every store of this crate.

use std::cell::RefCell;

use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions};
use leveret_store_api::conformance::{Plain, Subject, run};
use leveret_store_api::{CommitPoint, MemoryStore, MessageLog, SteppedStore};
use tempfile::TempDir;

use crate::support::{open_as, small, wait};

struct Memory;

impl Subject for Memory {
    type Store = MemoryStore<Plain>;

    fn create(&self) -> Self::Store {
        MemoryStore::new()
    }

    fn settle(&self, _store: &Self::Store, _point: CommitPoint) {}

    fn restart(&self, _store: Self::Store) -> Self::Store {
        MemoryStore::new()
    }
}

struct Stepped;

impl Subject for Stepped {
    type Store = SteppedStore<Plain>;

    fn create(&self) -> Self::Store {
        SteppedStore::new()
    }

    fn settle(&self, store: &Self::Store, _point: CommitPoint) {
        store.commit();
    }

    fn restart(&self, store: Self::Store) -> Self::Store {
        store.restarted()
    }
}

/// A journal on a simulated disk that loses power instead of being closed, or is killed.
struct Crashing {
    disk: RefCell<SimulatedDisk>,
    power_cut: bool,
}

impl Subject for Crashing {
    type Store = Journal<Plain>;

    fn create(&self) -> Self::Store {
        *self.disk.borrow_mut() = SimulatedDisk::new();
        open_as(&self.disk.borrow(), small()).expect("open")
    }

    fn settle(&self, store: &Self::Store, point: CommitPoint) {
        wait(store, point);
    }

    fn restart(&self, store: Self::Store) -> Self::Store {
        let after = {
            let disk = self.disk.borrow();
            if self.power_cut {
                disk.after_power_cut(7)
            } else {
                disk.after_kill()
            }
        };
        drop(store);
        *self.disk.borrow_mut() = after;
        open_as(&self.disk.borrow(), small()).expect("open")
    }

    fn forgets_deliveries(&self) -> bool {
        self.power_cut
    }
}

/// A journal on the real disk, closed and opened again.
struct Closing {
    directories: RefCell<Vec<TempDir>>,
}

impl Closing {
    fn open(&self) -> Journal<Plain> {
        let options = JournalOptions {
            disk_free_bytes_min: 0,
            ..JournalOptions::default()
        };
        let directories = self.directories.borrow();
        Journal::open(directories.last().expect("one").path(), options).expect("open")
    }
}

impl Subject for Closing {
    type Store = Journal<Plain>;

    fn create(&self) -> Self::Store {
        self.directories
            .borrow_mut()
            .push(tempfile::tempdir().expect("a directory"));
        self.open()
    }

    fn settle(&self, store: &Self::Store, point: CommitPoint) {
        wait(store, point);
    }

    fn restart(&self, store: Self::Store) -> Self::Store {
        store.close();
        let store = self.open();
        assert!(store.opened_clean() && !store.is_volatile());
        store
    }
}

#[test]
fn the_store_that_keeps_nothing_conforms() {
    run(&Memory);
}

#[test]
fn the_store_in_memory_conforms() {
    run(&Stepped);
}

#[test]
fn the_journal_conforms_over_power_cuts() {
    run(&Crashing {
        disk: RefCell::default(),
        power_cut: true,
    });
}

#[test]
fn the_journal_conforms_over_kills() {
    run(&Crashing {
        disk: RefCell::default(),
        power_cut: false,
    });
}

#[test]
fn the_journal_conforms_on_the_real_disk() {
    run(&Closing {
        directories: RefCell::default(),
    });
}
