use std::collections::BTreeMap;

use leveret_codec::{ContentHeader, write_names};
use leveret_message::{Body, Message, MessageScratch};
use leveret_queue::queue::delivery_count::DeliveryCount;
use leveret_store_api::Sequence;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn unacked(tag: u64) -> Unacked<InFlight> {
    let mut names = Vec::new();
    write_names(&mut names, b"", b"queue");
    let header = ContentHeader::default();
    let mut scratch = MessageScratch::default();
    let message = Message::compose(&mut scratch, &names, &header, Body::Borrowed(&[]));
    Unacked {
        tag: DeliveryTag(tag),
        delivery: InFlight {
            message,
            sequence: Sequence(tag),
            expires_at: Timestamp::NEVER,
            delivery_count: DeliveryCount::NONE,
            level: 0,
            retries: 0,
            redelivered: false,
            stored: false,
        },
        queue: QueueNumber::default(),
        consumer: None,
        delivered_at: Timestamp(1),
        due: Timestamp::NEVER,
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many deliveries, the first of them after so many without acknowledgement.
    Push(u64, u64),
    Take(usize),
    TakeSome(usize, usize),
    /// A transaction takes what is up to one, and rolls back.
    TakeAndPutBack(usize),
    /// Messages leave memory in so many steps, but for some that the store does not have.
    Relieve(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![0u64..4, 900u64..6000];
    prop_oneof![
        (count, 0u64..3).prop_map(|(count, gap)| Step::Push(count, gap)),
        any::<usize>().prop_map(Step::Take),
        (any::<usize>(), 0usize..9000).prop_map(|(place, most)| Step::TakeSome(place, most)),
        any::<usize>().prop_map(Step::TakeAndPutBack),
        (1usize..20).prop_map(Step::Relieve),
    ]
}

#[test]
fn one_that_is_never_settled_does_not_keep_the_places_of_all_behind_it() {
    let mut ledger = Ledger::default();
    for tag in 1..=40_000 {
        ledger.push(unacked(tag));
    }
    for tag in 2..=40_000 {
        assert!(ledger.take(DeliveryTag(tag)).is_some());
    }
    // Tags of what was settled at hand, or needed no acknowledgement, have none.
    const LATER: u64 = 10_000_000;
    for tag in LATER..LATER + 9000 {
        ledger.push(unacked(tag));
    }
    let places = ledger.older.places();
    assert!(places < 8 * 1024, "{places}");
    assert!(ledger.contains(DeliveryTag(1)) && ledger.contains(DeliveryTag(LATER)));
    assert!(!ledger.contains(DeliveryTag(2)) && !ledger.contains(DeliveryTag(LATER - 1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_ledger_agrees_with_a_map(steps in vec(step(), 1..30)) {
        let bound = Arc::new(UnackedMemory::new(0));
        let mut ledger = Ledger::default();
        let mut model: BTreeMap<u64, ()> = BTreeMap::new();
        let mut last = 0;
        for step in steps {
            let nth = |place: usize| model.keys().nth(place % model.len().max(1)).copied();
            match step {
                Step::Push(count, gap) => {
                    last += gap;
                    for _ in 0..count {
                        last += 1;
                        ledger.push(unacked(last));
                        model.insert(last, ());
                    }
                }
                Step::Take(place) => {
                    if let Some(tag) = nth(place) {
                        prop_assert_eq!(ledger.take(DeliveryTag(tag)).map(|it| it.tag), Some(DeliveryTag(tag)));
                        prop_assert!(ledger.take(DeliveryTag(tag)).is_none());
                        model.remove(&tag);
                    }
                }
                Step::TakeSome(place, most) => {
                    let up_to = nth(place).unwrap_or(u64::MAX);
                    let mut taken = Vec::new();
                    let more = ledger.take_some(DeliveryTag(up_to), most, |it| taken.push(it.tag.0));
                    prop_assert!(taken.len() <= most);
                    for tag in taken {
                        prop_assert_eq!(model.pop_first().map(|(tag, ())| tag), Some(tag));
                    }
                    let first = model.keys().next().copied();
                    if !more {
                        prop_assert!(first.is_none_or(|first| first > up_to));
                    }
                }
                Step::TakeAndPutBack(place) => {
                    let up_to = nth(place).unwrap_or(u64::MAX);
                    let mut taken = Vec::new();
                    while ledger.take_some(DeliveryTag(up_to), 777, |it| taken.push(it)) {}
                    for unacked in taken {
                        ledger.put_back(unacked);
                    }
                }
                Step::Relieve(times) => {
                    ledger.is_to_be_relieved(1, &bound);
                    let mut point = 0;
                    for _ in 0..times {
                        let mut keep = |_, messages: &mut [&mut InFlight]| {
                            let tag = messages.first().map_or(0, |it| it.sequence.0);
                            for message in messages.iter_mut() {
                                message.stored = !message.sequence.0.is_multiple_of(7);
                            }
                            point += 1;
                            (!tag.is_multiple_of(3)).then_some(CommitPoint(point))
                        };
                        ledger.relieve(&bound, CommitPoint(times as u64 / 2), &mut keep);
                    }
                }
            }
            let at_hand = ledger.entries.iter().flatten().count();
            prop_assert_eq!(ledger.older.count() + at_hand, model.len());
            let dues: Vec<u64> = ledger.older.dues().map(|due| due.tag.0).collect();
            prop_assert_eq!(dues, model.keys().take(ledger.older.count()).copied().collect::<Vec<_>>());
            prop_assert_eq!(ledger.older.memory(), ledger.older.memory_of_blocks());
            for tag in model.keys().take(3).chain(model.keys().rev().take(3)) {
                prop_assert!(ledger.contains(DeliveryTag(*tag)));
            }
            prop_assert!(!ledger.contains(DeliveryTag(last + 1)));
            prop_assert!(!ledger.contains(DeliveryTag(0)));
        }
        let mut all = Vec::new();
        while ledger.take_some(DeliveryTag::LAST, 1000, |it| {
            assert_eq!(it.delivery.place().1, Sequence(it.tag.0), "another message");
            all.push(it.tag.0);
        }) {}
        prop_assert_eq!(all, model.into_keys().collect::<Vec<_>>());
        prop_assert_eq!((ledger.memory, ledger.older.memory()), (0, 0));
        prop_assert!(!bound.is_over());
    }
}
