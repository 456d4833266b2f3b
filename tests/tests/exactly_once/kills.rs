//! `kill -9` at random moments: of the binary that is shipped, and of one with a small journal, in which checkpoints,
//! compaction and new segments are always at work. 10 kills each, or `LEVERET_KILLS`.

use leveret_tests::Leveret;

use crate::scene::{OPTIONS, Scene, kills, moment};

fn killed_at_random(broker: Leveret) {
    let mut scene = Scene::new(broker);
    for _ in 0..kills() {
        let workload = scene.work();
        let events = if scene.dice.percent(20) {
            scene.dice.between(1, 50)
        } else {
            scene.dice.between(500, 8000)
        };
        scene.happen(usize::try_from(events).unwrap());
        scene.kill(workload);
        if scene.dice.percent(20) {
            let moment = moment(&mut scene.dice);
            scene.broker.start_and_kill(moment);
        }
        scene.broker.start_again();
        scene.started();
    }
    let tried = scene.end();
    let each = [
        tried.sent_again,
        tried.confirmed_again,
        tried.refused,
        tried.read,
        tried.rejected_in_transactions,
        tried.requeued_in_transactions,
        tried.unknown_commits,
    ];
    assert!(each.iter().all(|times| *times > 0), "{tried:?}");
    assert!(tried.kills >= kills(), "{tried:?}");
    #[allow(clippy::print_stderr, reason = "how hard the test was")]
    {
        eprintln!("{tried:?}");
    }
}

#[test]
fn the_shipped_binary_keeps_its_word() {
    killed_at_random(Leveret::start(&OPTIONS));
}

#[test]
fn a_small_journal_keeps_its_word() {
    let small = [("LEVERET_FAILPOINT_SMALL_JOURNAL", "yes")];
    killed_at_random(Leveret::start_with_failpoints(&OPTIONS, &small));
}
