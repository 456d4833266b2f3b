//! Who is connected to the API, within bounds: so many in all, so many from one address. Who says nothing, or takes
//! nothing of its answer, gives way to who comes new, so that connections kept open keep nobody out; who is being
//! answered does not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections at a time.
const GUESTS_MAX: usize = 256;
/// Of them from one address.
const ADDRESS_MAX: usize = 64;

/// Who takes nothing of its answer for so long gives way.
const STALLED: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Guests(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    guests: HashMap<u64, Seat>,
    /// Numbers guests and moments alike.
    next: u64,
}

#[derive(Debug)]
struct Seat {
    address: IpAddr,
    /// Since when nothing is asked; None while a request is answered.
    silent_since: Option<u64>,
    /// Since when nothing is taken of an answer.
    stalled_since: Option<Instant>,
    leave: Arc<Notify>,
}

impl Seat {
    fn gives_way(&self, now: Instant) -> bool {
        let is_stalled = self
            .stalled_since
            .is_some_and(|since| now.saturating_duration_since(since) >= STALLED);
        self.silent_since.is_some() || is_stalled
    }
}

/// One connection; it has left when this is dropped.
#[derive(Debug)]
pub struct Guest {
    guests: Arc<Guests>,
    number: u64,
    leave: Arc<Notify>,
}

/// Tells whether the guest takes what it is sent.
#[derive(Debug)]
pub(crate) struct Taking {
    guests: Arc<Guests>,
    number: u64,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Asking {
    guests: Arc<Guests>,
    number: u64,
}

impl Guests {
    /// Lets somebody in, for whom somebody silent may have to go; None if all are being answered.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        self.enter_at(address, Instant::now())
    }

    fn enter_at(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Guest> {
        let address = address.to_canonical();
        let mut inside = self.lock();
        let of_address = inside.count(address);
        if of_address >= ADDRESS_MAX {
            inside.send_away(now, |seat| seat.address == address)?;
        } else if inside.guests.len() >= GUESTS_MAX {
            inside.send_away(now, |_| true)?;
        }
        let (number, leave) = (inside.moment(), Arc::<Notify>::default());
        let seat = Seat {
            address,
            silent_since: Some(number),
            stalled_since: None,
            leave: Arc::clone(&leave),
        };
        inside.guests.insert(number, seat);
        Some(Guest {
            guests: Arc::clone(self),
            number,
            leave,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn moment(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn count(&self, address: IpAddr) -> usize {
        let seats = self.guests.values();
        seats.filter(|seat| seat.address == address).count()
    }

    /// Has the one go who has been silent for longest, of those that `may`; else one who takes nothing.
    fn send_away(&mut self, now: Instant, may: impl Fn(&Seat) -> bool) -> Option<()> {
        let seats = self.guests.iter().filter(|(_, seat)| may(seat));
        let (_, number) = seats
            .filter(|(_, seat)| seat.gives_way(now))
            .map(|(number, seat)| (seat.silent_since.unwrap_or(u64::MAX), *number))
            .min()?;
        let seat = self.guests.remove(&number)?;
        tracing::debug!(peer = %seat.address, "a management connection gives way to a new one");
        seat.leave.notify_one();
        Some(())
    }
}

impl Guest {
    /// Returns when the guest has to go.
    pub(crate) async fn sent_away(&self) {
        self.leave.notified().await;
    }

    /// A request has come.
    pub(crate) fn ask(&self) -> Asking {
        self.set(None);
        Asking {
            guests: Arc::clone(&self.guests),
            number: self.number,
        }
    }

    /// For who writes to it.
    pub(crate) fn taking(&self) -> Taking {
        Taking {
            guests: Arc::clone(&self.guests),
            number: self.number,
        }
    }

    fn set(&self, silent_since: Option<u64>) {
        if let Some(seat) = self.guests.lock().guests.get_mut(&self.number) {
            seat.silent_since = silent_since;
        }
    }
}

impl Taking {
    /// Nothing has been taken `since`; None: all is.
    pub(crate) fn stalls(&self, since: Option<Instant>) {
        if let Some(seat) = self.guests.lock().guests.get_mut(&self.number) {
            seat.stalled_since = since;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().guests.remove(&self.number);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut inside = self.guests.lock();
        let now = inside.moment();
        if let Some(seat) = inside.guests.get_mut(&self.number) {
            seat.silent_since = Some(now);
        }
    }
}

/// A body during which the guest counts as being answered.
pub(crate) struct Answered<B> {
    pub(crate) body: B,
    pub(crate) _asking: Asking,
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> IpAddr {
        format!("10.0.{}.{}", last >> 8, last & 0xff)
            .parse()
            .unwrap()
    }

    fn is_inside(guests: &Guests, guest: &Guest) -> bool {
        guests.lock().guests.contains_key(&guest.number)
    }

    #[tokio::test]
    async fn who_was_silent_for_longest_gives_way() {
        let guests = Arc::<Guests>::default();
        let mut here: Vec<Guest> = (0..GUESTS_MAX)
            .map(|last| guests.enter(address(last)).unwrap())
            .collect();
        let asking = here[0].ask();
        let late = guests.enter(address(1000)).unwrap();
        assert!(is_inside(&guests, &here[0]));
        assert!(!is_inside(&guests, &here[1]));
        here[1].sent_away().await;
        drop(asking);
        drop(guests.enter(address(1001)).unwrap());
        assert!(!is_inside(&guests, &here[2]));
        let newest = guests.enter(address(1002)).unwrap();
        assert!(is_inside(&guests, &here[3]), "a place was free");
        here.clear();
        drop((late, newest));
        assert!(guests.lock().guests.is_empty());
    }

    #[test]
    fn who_takes_nothing_of_its_answer_gives_way_after_a_while() {
        let guests = Arc::<Guests>::default();
        let now = Instant::now();
        let enter = |at| guests.enter_at(address(1), at);
        let many: Vec<Guest> = (0..ADDRESS_MAX).map(|_| enter(now).unwrap()).collect();
        let _asking: Vec<Asking> = many.iter().map(Guest::ask).collect();
        let taking = [many[3].taking(), many[5].taking()];
        taking.iter().for_each(|it| it.stalls(Some(now)));
        taking[0].stalls(None);
        assert!(enter(now + STALLED / 2).is_none());
        assert!(enter(now + STALLED).is_some());
        assert!(is_inside(&guests, &many[3]));
        assert!(!is_inside(&guests, &many[5]));
    }

    #[test]
    fn one_address_has_a_part_of_the_places() {
        let guests = Arc::<Guests>::default();
        let other = guests.enter(address(0)).unwrap();
        let many: Vec<Guest> = (0..3 * ADDRESS_MAX)
            .map(|_| guests.enter(address(1)).unwrap())
            .collect();
        assert_eq!(guests.lock().guests.len(), ADDRESS_MAX + 1);
        assert!(is_inside(&guests, &other));
        let asking: Vec<Asking> = many.iter().map(Guest::ask).collect();
        assert!(guests.enter(address(1)).is_none(), "all are being answered");
        assert!(guests.enter(address(2)).is_some());
        drop(asking);
        assert!(guests.enter(address(1)).is_some());
    }
}
