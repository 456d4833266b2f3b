//! Clients that work and note what they do, until the broker is gone or they are asked to stop.
//!
//! Producers publish through a fanout exchange into `in`, `copy` and the stream `log`, with confirms. Transformers take
//! from `in` and put into `out`, `count` and `log`, in transactions. Consumers take from everything else, some of `out` in
//! transactions, too; what they reject there dies into `dead`. Consumers that want to know whether their acknowledgements
//! are on stable storage publish a receipt. A reader follows `log`. Resenders publish with keys, one for each form of
//! deduplication, and send again.

mod consumer;
mod dice;
mod memory;
mod producer;
mod reader;
mod resender;
mod topology;
mod transformer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use leveret_tests::history::{
    ConsumerId, DeliveryId, Event, Ledger, MessageId, Outcome, QueueId, TransactionId,
};
use leveret_tests::wire::{Client, Delivery, is_gone};

use consumer::{Consumer, Odds};
pub(crate) use dice::Dice;
pub(crate) use memory::Memory;
use topology::{
    CACHED, COPY, COUNT, DEAD, IN, LOG, NUMBERED, OUT, OWN_NUMBERS, OWN_WINDOW, RECEIPTS, WINDOW,
    WINDOW_COPY, consume,
};
pub(crate) use topology::{declare, drain, facts, left};
use transformer::Transformer;

/// How long a client waits for something to do.
const IDLE: Duration = Duration::from_millis(20);

/// How a client's work with one connection ended.
pub(crate) enum Ended {
    /// It goes on with another connection.
    Again,
    /// It was asked to stop, and has said goodbye.
    Stopped,
}

/// What every client needs.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) ledger: Ledger,
    pub(crate) address: SocketAddr,
    memory: Arc<Memory>,
    stop: Arc<AtomicBool>,
}

impl Desk {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes a delivery, with what it is.
    pub(crate) fn delivered(
        &self,
        consumer: ConsumerId,
        queue: QueueId,
        delivery: &Delivery,
    ) -> DeliveryId {
        let id = DeliveryId(self.ledger.number());
        self.ledger.note(Event::Delivered {
            delivery: id,
            consumer,
            queue,
            message: message_of(&delivery.body),
            redelivered: delivery.redelivered,
            count: delivery.count,
        });
        id
    }

    pub(crate) fn settled(
        &self,
        delivery: DeliveryId,
        outcome: Outcome,
        transaction: Option<TransactionId>,
    ) {
        self.ledger.note(Event::Settled {
            delivery,
            outcome,
            transaction,
        });
    }

    pub(crate) fn closed(&self, consumer: ConsumerId) {
        self.ledger.note(Event::Closed { consumer });
    }
}

/// All clients, each in a thread.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workload {
    /// What a single client needs that works by hand.
    pub(crate) fn desk(ledger: &Ledger, address: SocketAddr, memory: &Arc<Memory>) -> Desk {
        Desk {
            ledger: ledger.clone(),
            address,
            memory: Arc::clone(memory),
            stop: Arc::default(),
        }
    }

    pub(crate) fn start(desk: &Desk, seed: u64) -> Self {
        let mut workload = Self {
            stop: Arc::clone(&desk.stop),
            threads: Vec::new(),
        };
        for number in 0..2 {
            workload.spawn(desk, seed + number, producer::work);
            workload.transform(
                desk,
                seed + 10 + number,
                IN,
                Odds::SOME_BACK,
                &[OUT, COUNT, LOG],
            );
        }
        workload.transform(desk, seed + 12, OUT, Odds::HALF_ACKED, &[LOG]);
        workload.spawn(desk, seed + 13, reader::work);
        for form in 0..resender::FORMS.len() {
            workload.spawn(desk, seed + 40 + form as u64, move |desk, dice| {
                resender::work(form, desk, dice)
            });
        }
        let consumers = [
            Consumer::of(COPY, Odds::ALL_ACKED).with_receipts(),
            Consumer::of(OUT, Odds::MIXED).with_receipts(),
            Consumer::of(COUNT, Odds::ALL_ACKED).with_receipts(),
            Consumer::of(DEAD, Odds::SOME_BACK).with_receipts(),
            Consumer::of(RECEIPTS, Odds::ALL_ACKED),
            Consumer::of(WINDOW, Odds::SOME_BACK).with_receipts(),
            Consumer::of(WINDOW_COPY, Odds::ALL_ACKED),
            Consumer::of(OWN_WINDOW, Odds::ALL_ACKED).with_receipts(),
            Consumer::of(CACHED, Odds::SOME_BACK).with_receipts(),
            Consumer::of(NUMBERED, Odds::ALL_ACKED).with_receipts(),
            Consumer::of(OWN_NUMBERS, Odds::SOME_BACK),
        ];
        for (number, consumer) in (20..).zip(consumers) {
            workload.spawn(desk, seed + number, move |desk, dice| {
                consumer.work(desk, dice)
            });
        }
        workload
    }

    fn transform(
        &mut self,
        desk: &Desk,
        seed: u64,
        from: QueueId,
        odds: Odds,
        into: &'static [QueueId],
    ) {
        let transformer = Transformer { from, odds, into };
        self.spawn(desk, seed, move |desk, dice| {
            transformer::work(transformer, desk, dice)
        });
    }

    /// Runs a client's work again and again, with one connection each.
    fn spawn(
        &mut self,
        desk: &Desk,
        seed: u64,
        work: impl Fn(&Desk, &mut Dice) -> io::Result<Ended> + Send + 'static,
    ) {
        let desk = desk.clone();
        self.threads.push(thread::spawn(move || {
            let mut dice = Dice::new(seed);
            loop {
                match work(&desk, &mut dice) {
                    Ok(Ended::Again) => {}
                    Ok(Ended::Stopped) => return,
                    Err(error) if is_gone(&error) => return,
                    Err(error) => panic!("a client cannot work: {error}"),
                }
            }
        }));
    }

    /// Waits until all clients have noticed that the broker is gone.
    pub(crate) fn gone(self) {
        for thread in self.threads {
            thread.join().expect("a client that works");
        }
    }

    /// Asks all clients to stop and waits for them.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.gone();
    }
}

/// The bytes of a message: all of them follow from its number.
pub(crate) fn body(message: MessageId) -> Vec<u8> {
    let MessageId(number) = message;
    let length = match number % 97 {
        0 => 150_000,
        1..8 => 12_000,
        other => 8 + other * 3,
    };
    let mut body = number.to_be_bytes().to_vec();
    body.extend((8..length).map(|at| (at.wrapping_mul(31).wrapping_add(number) % 251) as u8));
    body
}

/// Which message this is, if it is whole.
fn message_of(bytes: &[u8]) -> Option<MessageId> {
    let number = bytes.first_chunk::<8>()?;
    let message = MessageId(u64::from_be_bytes(*number));
    (body(message) == bytes).then_some(message)
}

/// A connection for a client.
fn connect(desk: &Desk) -> io::Result<Client> {
    Client::connect(desk.address)
}
