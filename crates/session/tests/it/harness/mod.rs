//! A whole broker and its clients in memory: frames in, frames out, a clock that is moved by hand,
//! and a store that commits when the test says so.
//!
//! Everything that a driver does (wakes, timers, paging) is done here after every step, until
//! nothing moves any more; what a test sees does not depend on the machine.

pub mod calls;
pub mod client;
pub mod held;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

#[cfg(debug_assertions)]
use leveret_broker::check::Outside;
use leveret_broker::{Broker, BrokerConfig};
use leveret_message::{Message, Timestamp};
use leveret_store_api::{CommitPoint, MemoryStore, SteppedStore};

use client::Wired;
pub use client::{Client, Dial, Properties};

/// A time like any other, so that nothing passes by being near zero.
const START: Timestamp = Timestamp(1_700_000_000_000);

/// Remembers that it was woken.
#[derive(Debug, Default)]
pub struct Woken(AtomicBool);

impl Woken {
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A broker, its clock, and everybody connected.
pub struct World {
    pub broker: Arc<Broker>,
    store: Option<Arc<SteppedStore<Message>>>,
    /// Whatever is staged is committed at once.
    commits: Cell<bool>,
    /// Paged messages are read back as soon as that is wanted.
    pages: Cell<bool>,
    stands_still: Cell<bool>,
    now: Cell<Timestamp>,
    pager: Arc<Woken>,
    clients: RefCell<Vec<Rc<RefCell<Wired>>>>,
    /// So many steps are not followed by [`World::check`].
    #[cfg(debug_assertions)]
    checks_later: Cell<usize>,
}

impl World {
    /// A broker that keeps nothing.
    pub fn volatile() -> Rc<World> {
        World::volatile_with(BrokerConfig::default())
    }

    pub fn volatile_with(config: BrokerConfig) -> Rc<World> {
        let store = Arc::new(MemoryStore::<Message>::new());
        let broker = Broker::open(config, store, START).expect("a new store opens");
        World::around(broker, None, START)
    }

    /// A broker with a store that commits at once, until [`World::hold_commits`].
    pub fn durable() -> Rc<World> {
        World::durable_with(BrokerConfig::default())
    }

    pub fn durable_with(config: BrokerConfig) -> Rc<World> {
        World::on(Arc::new(SteppedStore::new()), config, START)
    }

    /// Windows so small that nearly every message is paged out.
    pub fn paging(bytes: usize) -> Rc<World> {
        World::durable_with(BrokerConfig {
            queue_memory_bytes: bytes,
            ..BrokerConfig::default()
        })
    }

    pub fn on(
        store: Arc<SteppedStore<Message>>,
        config: BrokerConfig,
        now: Timestamp,
    ) -> Rc<World> {
        let shared: Arc<SteppedStore<Message>> = Arc::clone(&store);
        let broker = Broker::open(config, shared, now).expect("the store opens");
        World::around(broker, Some(store), now)
    }

    /// A broker opened elsewhere.
    pub fn around(
        broker: Arc<Broker>,
        store: Option<Arc<SteppedStore<Message>>>,
        now: Timestamp,
    ) -> Rc<World> {
        let pager = Arc::new(Woken::default());
        broker.set_pager_waker(Arc::clone(&pager).into());
        let world = Rc::new(World {
            broker,
            store,
            commits: Cell::new(true),
            pages: Cell::new(true),
            stands_still: Cell::new(false),
            now: Cell::new(now),
            pager,
            clients: RefCell::default(),
            #[cfg(debug_assertions)]
            checks_later: Cell::default(),
        });
        world.run();
        world
    }

    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    pub fn store(&self) -> &SteppedStore<Message> {
        self.store.as_ref().expect("a world with a store")
    }

    /// The broker as it is after a crash: what was not committed is gone, and so is everybody.
    pub fn restarted(&self) -> Rc<World> {
        let config = self.broker.config().clone();
        World::on(Arc::new(self.store().restarted()), config, self.now())
    }

    /// The broker as it is after a crash of the system.
    pub fn after_power_cut(&self) -> Rc<World> {
        let config = self.broker.config().clone();
        let store = self.store().restarted_after_power_cut();
        World::on(Arc::new(store), config, self.now())
    }

    /// As [`World::restarted`], with other settings.
    pub fn reconfigured(&self, config: BrokerConfig) -> Rc<World> {
        World::on(Arc::new(self.store().restarted()), config, self.now())
    }

    /// As [`World::restarted`], some time later.
    pub fn restarted_at(&self, now: Timestamp) -> Rc<World> {
        let config = self.broker.config().clone();
        World::on(Arc::new(self.store().restarted()), config, now)
    }

    /// From now on nothing is durable before [`World::commit`].
    pub fn hold_commits(&self) {
        self.commits.set(false);
    }

    /// Makes what is staged durable.
    pub fn commit(&self) {
        self.store().commit();
        self.run();
    }

    /// Makes durable what was staged up to `point`, and nothing that was staged later.
    pub fn commit_up_to(&self, point: CommitPoint) {
        self.store().commit_up_to(point);
        self.run();
    }

    /// Makes what is staged durable; no session has heard of it when this returns.
    pub fn commit_unheard(&self) {
        self.store().commit();
    }

    /// The commit point of what was staged last.
    pub fn staged_point(&self) -> CommitPoint {
        self.store().staged_point()
    }

    /// From now on paged messages are read back only by [`World::page`].
    pub fn hold_paging(&self) {
        self.pages.set(false);
    }

    /// The pager works by itself again.
    pub fn go_on_paging(&self) {
        self.pages.set(true);
        self.page();
    }

    /// Reads back what is paged and wanted, and does what else the pager is asked to.
    pub fn page(&self) {
        self.broker.run_pager(self.now());
        self.run();
    }

    /// A client with an open connection and channel 1.
    pub fn client(self: &Rc<Self>) -> Client {
        Client::connect(self, Dial::default()).with_channel(1)
    }

    /// Lets time pass; every deadline on the way is kept.
    pub fn pass(&self, milliseconds: u64) {
        let target = self.now() + milliseconds;
        while let Some(next) = self.next_deadline().filter(|next| *next <= target) {
            self.now.set(next.max(self.now()));
            self.handle_timeouts();
            self.run();
        }
        self.now.set(target);
        self.run();
    }

    /// Moves the clock, and nobody looks at it.
    pub fn wait(&self, milliseconds: u64) {
        self.now.set(self.now() + milliseconds);
    }

    /// Whether the pager was called since it last ran.
    pub fn calls_the_pager(&self) -> bool {
        self.pager.take()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let clients = self.clients.borrow();
        let sessions = clients
            .iter()
            .filter_map(|client| client.borrow().session.as_ref()?.poll_timeout());
        sessions.chain(self.broker.poll_timeout()).min()
    }

    fn handle_timeouts(&self) {
        let now = self.now();
        self.broker.handle_timeout(now);
        for client in self.everybody() {
            if let Some(session) = &mut client.borrow_mut().session
                && session.poll_timeout().is_some_and(|at| at <= now)
            {
                session.handle_timeout(now);
            }
        }
    }

    fn everybody(&self) -> Vec<Rc<RefCell<Wired>>> {
        self.clients.borrow().clone()
    }

    fn join(&self, client: &Rc<RefCell<Wired>>) {
        self.clients.borrow_mut().push(Rc::clone(client));
    }

    /// Does what drivers do until nothing moves, and counts everything anew then.
    pub fn run(&self) {
        const TURNS_MAX: usize = 100_000;
        if self.stands_still.get() {
            return;
        }
        for _ in 0..TURNS_MAX {
            if !self.turn() {
                #[cfg(debug_assertions)]
                self.check();
                return;
            }
        }
        panic!("the broker never comes to rest");
    }

    /// From now on other threads are at work too: what is seen of them need not balance.
    pub fn is_not_alone(&self) {
        #[cfg(debug_assertions)]
        self.checks_later.set(usize::MAX);
    }

    /// Everything balances. Where there is much to count, that is seen to less often.
    #[cfg(debug_assertions)]
    fn check(&self) {
        const FREE_OF_COST: usize = 512;
        if let Some(left) = self.checks_later.get().checked_sub(1) {
            self.checks_later.set(left);
            return;
        }
        let mut outside = Outside::default();
        for client in self.everybody() {
            if let Some(session) = &client.borrow().session {
                session.check(&mut outside);
            }
        }
        let (faults, looked_at) = self.broker.check(outside);
        assert!(faults.is_empty(), "does not balance: {faults:#?}");
        self.checks_later.set(looked_at / FREE_OF_COST);
    }

    /// From now on nothing moves but by [`World::turn`].
    pub fn stand_still(&self) {
        self.stands_still.set(true);
    }

    /// Everything moves by itself again.
    pub fn go_on(&self) {
        self.stands_still.set(false);
        self.run();
    }

    /// Does what drivers do once for everybody; true if anything moved.
    pub fn turn(&self) -> bool {
        if let Some(store) = self.store.as_ref().filter(|_| self.commits.get()) {
            store.commit();
        }
        let mut moved = false;
        if self.pages.get() && self.pager.take() {
            self.broker.run_pager(self.now());
            moved = true;
        }
        for client in self.everybody() {
            moved |= client.borrow_mut().turn(self.now());
        }
        moved
    }

    fn waker(&self) -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        (woken, waker)
    }
}
