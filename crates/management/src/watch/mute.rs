//! What nobody wants to be told of for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::view::Timestamp;

/// So many things are muted at a time; what would end first makes room.
const MUTES_MAX: usize = 1000;

/// How long something is muted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Until {
    Time(Timestamp),
    /// Its number is a tenth more than this.
    Worse(f64),
}

/// What is muted, by what names it.
#[derive(Debug, Default)]
pub(crate) struct Mutes(Mutex<HashMap<String, Until>>);

impl Mutes {
    pub(crate) fn mute(&self, key: String, until: Until) {
        let mut mutes = self.lock();
        if mutes.len() >= MUTES_MAX && !mutes.contains_key(&key) {
            let first = mutes.iter().min_by_key(|(_, until)| match until {
                Until::Time(at) => at.0,
                Until::Worse(_) => u64::MAX,
            });
            let first = first.map(|(key, _)| key.clone());
            first.map(|key| mutes.remove(&key));
        }
        mutes.insert(key, until);
    }

    /// False: it was not muted.
    pub(crate) fn unmute(&self, key: &str) -> bool {
        self.lock().remove(key).is_some()
    }

    /// Whether it is muted, where its number is `number` now.
    pub(crate) fn is_muted(&self, key: &str, number: f64, now: Timestamp) -> bool {
        let mut mutes = self.lock();
        let is_muted = match mutes.get(key) {
            None => return false,
            Some(Until::Time(at)) => now < *at,
            Some(Until::Worse(before)) => number <= before * 1.1,
        };
        if !is_muted {
            mutes.remove(key);
        }
        is_muted
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Until>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_ends_by_time_or_when_it_is_worse() {
        let mutes = Mutes::default();
        mutes.mute("a".to_owned(), Until::Time(Timestamp(1000)));
        assert!(mutes.is_muted("a", 1.0, Timestamp(999)));
        assert!(!mutes.is_muted("a", 1.0, Timestamp(1000)));
        assert!(!mutes.unmute("a"));
        mutes.mute("b".to_owned(), Until::Worse(100.0));
        assert!(mutes.is_muted("b", 109.0, Timestamp(0)));
        assert!(!mutes.is_muted("b", 111.0, Timestamp(0)));
        assert!(!mutes.is_muted("b", 1.0, Timestamp(0)));
    }

    #[test]
    fn only_so_many_are_kept() {
        let mutes = Mutes::default();
        for number in 0..1500 {
            mutes.mute(number.to_string(), Until::Time(Timestamp(number)));
        }
        assert_eq!(mutes.lock().len(), MUTES_MAX);
        assert!(mutes.unmute("1499") && !mutes.unmute("0"));
    }
}
