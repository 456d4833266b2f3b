//! The brake on guessing passwords: who fails to log in again and again waits before the next try is looked at.
//!
//! Failures are counted for an address, for a user, and for both together. From some number on each further try waits,
//! twice as long as the one before, up to five seconds; and of one address only so many are looked at in that time: the
//! others stand in line behind them, and wait for as many turns. So one address guesses a dozen passwords a second at
//! most, whatever its number of connections, and nobody is locked out: the right password is let in after its wait, and
//! does not have to find a free place among those of a stranger who holds all of them. Whoever logged in before from an address does not wait for what others do there,
//! nor do their tries take its place among those that wait, and an address that has not failed for a user does not wait
//! for those that have.
//!
//! Nothing here grows without bound: of each kind so many are kept, and the ones not seen for longest are forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use leveret_message::Timestamp;
use parking_lot::Mutex;

/// Failures of an address with one user that cost nothing: somebody mistypes.
const FREE_OF_BOTH: u32 = 4;
/// Failures of an address that cost nothing.
const FREE_OF_ADDRESS: u32 = 20;
/// Failures of a user, from wherever, that cost nothing.
const FREE_OF_USER: u32 = 20;
const FIRST_WAIT_MS: u64 = 250;
const WAIT_MAX_MS: u64 = 5_000;
/// So many tries of one address have the first turn, the next ones the second, …; and as many of each user who logged in
/// from there before.
const TURN: u32 = 64;
/// More do not stand in line.
const WAITING_MAX: u32 = 8 * TURN;
/// Without a failure for so long, all are forgotten.
const FORGOTTEN_MS: u64 = 120_000;
/// Kept of each kind, at the least; at the most twice as many.
const KEPT: usize = 4_096;

/// What becomes of a try.
#[derive(Debug)]
pub enum Verdict {
    /// The password is looked at.
    Go,
    /// It is looked at then.
    Wait(Timestamp, Waiting),
    /// Too many wait already: it is not looked at.
    Refuse,
}

/// A try that waits; dropped when that is over.
#[derive(Debug)]
pub struct Waiting {
    brake: Arc<Brake>,
    of: u64,
}

/// All that is known of those who try.
#[derive(Debug, Default)]
pub struct Brake {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Recent<Failures>,
    users: Recent<Failures>,
    both: Recent<Failures>,
    /// Who logged in from where.
    welcome: Recent<()>,
    /// How many wait: by address, and by address and user for those who logged in from there before.
    waiting: HashMap<u64, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    latest: Timestamp,
}

/// A map that forgets what was not used for longest, in two halves.
#[derive(Debug)]
struct Recent<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<V: Copy> Recent<V> {
    fn get(&self, key: u64) -> Option<V> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, value: V) {
        self.old.remove(&key);
        self.young.insert(key, value);
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

impl Recent<Failures> {
    fn count(&self, key: u64, now: Timestamp) -> u32 {
        self.get(key)
            .filter(|failures| now - failures.latest < FORGOTTEN_MS)
            .map_or(0, |failures| failures.count)
    }

    fn add(&mut self, key: u64, now: Timestamp) {
        let count = self.count(key, now).saturating_add(1);
        self.put(key, Failures { count, latest: now });
    }
}

/// Who tries, as numbers of one length whatever is given as a name.
#[derive(Clone, Copy)]
struct Keys {
    address: u64,
    user: u64,
    both: u64,
}

impl Brake {
    fn keys(&self, from: IpAddr, user: &[u8]) -> Keys {
        let from = network(from);
        Keys {
            address: self.hash(from),
            user: self.hash(user),
            both: self.hash((from, user)),
        }
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }

    /// Whether a try is looked at now, later or not at all.
    pub fn consider(self: &Arc<Self>, from: IpAddr, user: &[u8], now: Timestamp) -> Verdict {
        let keys = self.keys(from, user);
        let mut known = self.known.lock();
        let wait_ms = known.wait_ms(keys, now);
        if wait_ms == 0 {
            return Verdict::Go;
        }
        let of = if known.welcome.get(keys.both).is_some() {
            keys.both
        } else {
            keys.address
        };
        let waiting = known.waiting.entry(of).or_default();
        if *waiting >= WAITING_MAX {
            return Verdict::Refuse;
        }
        let turns = u64::from(*waiting / TURN) + 1;
        *waiting += 1;
        let brake = Arc::clone(self);
        Verdict::Wait(now + wait_ms * turns, Waiting { brake, of })
    }

    /// The name or the password was wrong.
    pub fn failed(&self, from: IpAddr, user: &[u8], now: Timestamp) {
        let keys = self.keys(from, user);
        let mut known = self.known.lock();
        known.addresses.add(keys.address, now);
        known.users.add(keys.user, now);
        known.both.add(keys.both, now);
    }

    /// The password was right.
    pub fn succeeded(&self, from: IpAddr, user: &[u8]) {
        let keys = self.keys(from, user);
        let mut known = self.known.lock();
        known.both.remove(keys.both);
        known.welcome.put(keys.both, ());
    }
}

impl Known {
    fn wait_ms(&self, keys: Keys, now: Timestamp) -> u64 {
        let of_both = self.both.count(keys.both, now);
        let mut wait_ms = wait_after(of_both, FREE_OF_BOTH);
        if of_both > 0 || self.welcome.get(keys.both).is_none() {
            let of_address = self.addresses.count(keys.address, now);
            wait_ms = wait_ms.max(wait_after(of_address, FREE_OF_ADDRESS));
        }
        if of_both > 0 {
            let of_user = self.users.count(keys.user, now);
            wait_ms = wait_ms.max(wait_after(of_user, FREE_OF_USER));
        }
        wait_ms
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut known = self.brake.known.lock();
        if let Some(waiting) = known.waiting.get_mut(&self.of) {
            *waiting -= 1;
            if *waiting == 0 {
                known.waiting.remove(&self.of);
            }
        }
    }
}

/// Whom an address stands for: of IPv6 a network, since one client has all the addresses of one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

fn wait_after(failures: u32, free: u32) -> u64 {
    match failures.checked_sub(free) {
        None | Some(0) => 0,
        Some(beyond) => FIRST_WAIT_MS
            .saturating_mul(1 << (beyond - 1).min(16))
            .min(WAIT_MAX_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn wait_of(brake: &Arc<Brake>, from: IpAddr, user: &[u8], now: Timestamp) -> Option<u64> {
        match brake.consider(from, user, now) {
            Verdict::Go => Some(0),
            Verdict::Wait(until, _) => Some(until - now),
            Verdict::Refuse => None,
        }
    }

    fn fail(brake: &Arc<Brake>, from: IpAddr, user: &[u8], times: u32) {
        (0..times).for_each(|_| brake.failed(from, user, Timestamp(0)));
    }

    #[test]
    fn who_fails_again_and_again_waits_longer_and_longer() {
        let brake = Arc::new(Brake::default());
        let now = Timestamp(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(wait_of(&brake, HERE, b"guest", now).unwrap());
            brake.failed(HERE, b"guest", now);
        }
        assert_eq!(waits[..9], [0, 0, 0, 0, 0, 250, 500, 1000, 2000]);
        assert_eq!(waits[10..], [5000, 5000]);
        assert_eq!(wait_of(&brake, THERE, b"guest", now), Some(0));
        assert_eq!(wait_of(&brake, HERE, b"other", now), Some(0));
        assert_eq!(wait_of(&brake, HERE, b"guest", now + FORGOTTEN_MS), Some(0));
        brake.succeeded(HERE, b"guest");
        assert_eq!(wait_of(&brake, HERE, b"guest", now), Some(0));
    }

    #[test]
    fn who_tries_many_names_waits_but_who_was_there_before_does_not() {
        let brake = Arc::new(Brake::default());
        brake.succeeded(HERE, b"shop");
        for number in 0..1000_u32 {
            brake.failed(HERE, &number.to_be_bytes(), Timestamp(0));
        }
        assert_eq!(wait_of(&brake, HERE, b"new", Timestamp(0)), Some(5000));
        assert_eq!(wait_of(&brake, HERE, b"shop", Timestamp(0)), Some(0));
    }

    #[test]
    fn who_is_guessed_at_from_everywhere_gets_in_from_elsewhere() {
        let brake = Arc::new(Brake::default());
        for last in 0..200 {
            fail(&brake, IpAddr::from([10, 1, 0, last]), b"guest", 1);
        }
        let again = IpAddr::from([10, 1, 0, 7]);
        assert_eq!(wait_of(&brake, again, b"guest", Timestamp(0)), Some(5000));
        assert_eq!(wait_of(&brake, HERE, b"guest", Timestamp(0)), Some(0));
    }

    #[test]
    fn only_so_many_wait() {
        let brake = Arc::new(Brake::default());
        fail(&brake, HERE, b"guest", 50);
        let consider = |from| brake.consider(from, b"guest", Timestamp(0));
        let waiting: Vec<Verdict> = (0..WAITING_MAX).map(|_| consider(HERE)).collect();
        assert!(waiting.iter().all(|it| matches!(it, Verdict::Wait(..))));
        assert!(matches!(consider(HERE), Verdict::Refuse));
        assert!(matches!(consider(THERE), Verdict::Go));
        drop(waiting);
        assert!(matches!(consider(HERE), Verdict::Wait(..)));
        assert!(brake.known.lock().waiting.is_empty());
    }

    #[test]
    fn who_comes_behind_many_stands_in_line() {
        let brake = Arc::new(Brake::default());
        fail(&brake, HERE, b"guest", 50);
        let now = Timestamp(1_000);
        let due = |verdict: &Verdict| match verdict {
            Verdict::Wait(until, _) => *until - now,
            other => panic!("{other:?}"),
        };
        let mut line: Vec<Verdict> = (0..3 * TURN)
            .map(|_| brake.consider(HERE, b"guest", now))
            .collect();
        let waits: Vec<u64> = line.iter().map(due).collect();
        let expected = [1, 2, 3].map(|turn| [turn * WAIT_MAX_MS; TURN as usize]);
        assert_eq!(waits, expected.as_flattened());
        // The first have had their turn: who comes now waits for the second.
        line.drain(..TURN as usize);
        let last = brake.consider(HERE, b"guest", now);
        assert_eq!(due(&last), 3 * WAIT_MAX_MS);
        line.drain(..TURN as usize);
        let last = brake.consider(HERE, b"guest", now);
        assert_eq!(due(&last), 2 * WAIT_MAX_MS);
    }

    #[test]
    fn who_was_there_before_finds_a_place_among_those_that_wait() {
        let brake = Arc::new(Brake::default());
        brake.succeeded(HERE, b"shop");
        fail(&brake, HERE, b"root", 50);
        let consider = |user| brake.consider(HERE, user, Timestamp(0));
        let waiting: Vec<Verdict> = (0..WAITING_MAX).map(|_| consider(b"root")).collect();
        assert!(matches!(consider(b"root"), Verdict::Refuse));
        // A slip of its own, and it waits as anybody, but is not turned away for the others.
        brake.failed(HERE, b"shop", Timestamp(0));
        assert!(matches!(consider(b"shop"), Verdict::Wait(..)));
        assert!(matches!(consider(b"new"), Verdict::Refuse));
        let shops: Vec<Verdict> = (0..WAITING_MAX).map(|_| consider(b"shop")).collect();
        assert!(matches!(consider(b"shop"), Verdict::Refuse));
        drop((waiting, shops));
        assert!(brake.known.lock().waiting.is_empty());
    }

    #[test]
    fn a_network_is_one_address_and_little_is_kept() {
        let brake = Arc::new(Brake::default());
        for last in 0..3 * u32::try_from(KEPT).unwrap() {
            let from = format!("2001:db8::{:x}:{:x}", last >> 16, last & 0xffff);
            brake.failed(from.parse().unwrap(), &last.to_be_bytes(), Timestamp(0));
            brake.succeeded(HERE, &last.to_be_bytes());
        }
        let next = "2001:db8::ffff:1".parse().unwrap();
        assert_eq!(wait_of(&brake, next, b"x", Timestamp(0)), Some(5000));
        let known = brake.known.lock();
        assert_eq!(known.addresses.young.len(), 1);
        for kept in [&known.users, &known.both] {
            assert!(kept.young.len() + kept.old.len() <= 2 * KEPT);
        }
        assert!(known.welcome.young.len() + known.welcome.old.len() <= 2 * KEPT);
    }
}
