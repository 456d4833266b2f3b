//! One thread for any number of connections: waits until something can be done, and has it done.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::clock::{self, Timer};
use crate::error::Error;

/// How often everybody is looked at, whatever happens, in nanoseconds.
const TICK: u64 = 20_000_000;

const TIMER: u64 = u64::MAX;
const EVENTS_MAX: usize = 256;

/// When a peer wants its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// As soon as the others had theirs.
    Again,
    /// At this time, or with an event of its socket.
    At(u64),
    /// With an event of its socket.
    OnEvent,
    /// Never: it has done all it had to.
    Done,
}

/// Something at the other end of a connection with the broker.
pub(crate) trait Peer {
    /// Its socket.
    fn stream(&self) -> &TcpStream;

    /// Does what can be done without waiting. `readable` says that bytes have come since it last read all there were.
    fn step(&mut self, now: u64, readable: bool) -> Result<Next, Error>;

    /// Comes by every 20 ms.
    fn tick(&mut self, now: u64) -> Result<(), Error>;
}

/// Runs peers until all are done or `stop` is set.
pub(crate) fn run<P: Peer>(peers: &mut [P], stop: &AtomicBool) -> Result<(), Error> {
    let mut turns = Turns::new(peers)?;
    let mut next_tick = 0;
    while turns.left > 0 && !stop.load(Ordering::Relaxed) {
        let now = clock::now();
        if now >= next_tick {
            next_tick = now + TICK;
            for peer in peers.iter_mut() {
                peer.tick(now)?;
            }
        }
        turns.take_due(now);
        for turn in std::mem::take(&mut turns.now) {
            let Some(peer) = peers.get_mut(turn.peer) else {
                continue;
            };
            let next = peer.step(clock::now(), turn.readable)?;
            turns.note(turn.peer, next);
        }
        turns.wait(next_tick)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    peer: usize,
    readable: bool,
}

/// Whose turn it is, now and later.
struct Turns {
    epoll: OwnedFd,
    timer: Timer,
    /// When the timer is set to.
    timer_at: u64,
    now: Vec<Turn>,
    later: BinaryHeap<Reverse<(u64, usize)>>,
    /// For each peer the time it asked for last; other entries of `later` are void.
    due: Vec<u64>,
    left: usize,
    events: Vec<epoll::Event>,
}

impl Turns {
    fn new<P: Peer>(peers: &[P]) -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = Timer::new()?;
        let data = epoll::EventData::new_u64(TIMER);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, timer.descriptor(), data, flags)?;
        for (peer, number) in peers.iter().zip(0..) {
            peer.stream().set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number);
            epoll::add(&epoll, peer.stream(), data, flags | epoll::EventFlags::OUT)?;
        }
        let everybody = (0..peers.len()).map(|peer| Turn {
            peer,
            readable: true,
        });
        Ok(Self {
            epoll,
            timer,
            timer_at: 0,
            now: everybody.collect(),
            later: BinaryHeap::new(),
            due: vec![0; peers.len()],
            left: peers.len(),
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    fn take_due(&mut self, now: u64) {
        while let Some(&Reverse((at, peer))) = self.later.peek()
            && at <= now
        {
            self.later.pop();
            if let Some(due) = self.due.get_mut(peer).filter(|due| **due == at) {
                *due = 0;
                self.now.push(Turn {
                    peer,
                    readable: false,
                });
            }
        }
    }

    fn note(&mut self, peer: usize, next: Next) {
        match next {
            Next::Again => self.now.push(Turn {
                peer,
                readable: false,
            }),
            Next::At(at) => {
                if let Some(due) = self.due.get_mut(peer).filter(|due| **due != at) {
                    *due = at;
                    self.later.push(Reverse((at, peer)));
                }
            }
            Next::OnEvent => {}
            Next::Done => self.left -= 1,
        }
    }

    /// Waits for events, but not where somebody has a turn, and no longer than to `until`.
    fn wait(&mut self, until: u64) -> Result<(), Error> {
        let no_time = Timespec::default();
        let timeout = if self.now.is_empty() && self.left > 0 {
            let at = self
                .later
                .peek()
                .map_or(until, |first| first.0.0.min(until));
            if at != self.timer_at {
                self.timer.set(at)?;
                self.timer_at = at;
            }
            None
        } else {
            Some(&no_time)
        };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (flags, data) = (event.flags, event.data);
            let Ok(peer) = usize::try_from(data.u64()) else {
                continue;
            };
            let ended = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            let readable = flags.intersects(epoll::EventFlags::IN | ended);
            if peer < self.due.len() {
                self.now.push(Turn { peer, readable });
            }
        }
        Ok(())
    }
}
