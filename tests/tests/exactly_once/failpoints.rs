//! Death at named places, with clients at work; and that the binary which is shipped has no such places.

use leveret_tests::wire::Client;
use leveret_tests::{Leveret, binary};

use crate::scene::{OPTIONS, Scene};
use crate::workload;

const SMALL: (&str, &str) = ("LEVERET_FAILPOINT_SMALL_JOURNAL", "yes");
/// How often the broker dies at each place.
const DEATHS: u64 = 2;

/// How often a start is tried that should die, but may have too little to read back.
const STARTS: u64 = 20;

fn scene() -> Scene {
    Scene::new(Leveret::start_with_failpoints(&OPTIONS, &[SMALL]))
}

/// Dies at each of these places, at a visit below the number beside it.
fn dies_at_work(places: &[(&str, u64)]) {
    let mut scene = scene();
    for (place, visits) in places {
        for _ in 0..DEATHS {
            let visit = scene.dice.between(1, *visits);
            work_and_kill(&mut scene);
            // A start may come by the place, too.
            if !starts_and_dies(&mut scene, place, visit) {
                let workload = scene.work();
                scene.dies(workload, place);
            }
            start_calmly(&mut scene);
        }
    }
    let _ = scene.end();
}

/// Dies at each of these places while it starts. How much there is to read back is a matter of when the last checkpoint
/// was: the visit asked for comes down until there is enough.
fn dies_at_start(places: &[(&str, u64)]) {
    let mut scene = scene();
    for (place, visits) in places {
        for _ in 0..DEATHS {
            let mut visit = scene.dice.between(1, *visits);
            work_and_kill(&mut scene);
            let died = (0..STARTS).any(|_| {
                let died = starts_and_dies(&mut scene, place, visit);
                if !died {
                    work_and_kill(&mut scene);
                    visit = (visit / 2).max(1);
                }
                died
            });
            assert!(died, "{place} was never reached");
            start_calmly(&mut scene);
        }
    }
    let _ = scene.end();
}

fn work_and_kill(scene: &mut Scene) {
    let workload = scene.work();
    scene.happen(300);
    scene.kill(workload);
}

/// Starts the broker, which dies at this visit of the place if it comes to it; otherwise it runs.
fn starts_and_dies(scene: &mut Scene, place: &str, visit: u64) -> bool {
    let value = format!("{place}=after:{visit}");
    scene
        .broker
        .set_variables(&[SMALL, ("LEVERET_FAILPOINT", &value)]);
    let died = scene.broker.try_start_again().is_some();
    if !died {
        scene.started();
    }
    died
}

fn start_calmly(scene: &mut Scene) {
    scene.broker.set_variables(&[SMALL]);
    scene.broker.start_again();
    scene.started();
}

#[test]
fn around_the_write_of_a_record() {
    dies_at_work(&[
        ("before-write", 200),
        ("in-write", 200),
        ("before-sync", 200),
        ("after-write", 200),
        ("after-confirm", 200),
    ]);
}

/// Of messages with 64 KiB and more, which have files of their own here.
#[test]
fn around_a_large_message() {
    dies_at_work(&[("in-body", 20), ("after-body", 4), ("after-front", 4)]);
}

#[test]
fn in_checkpoints_and_compaction() {
    dies_at_work(&[
        ("new-segment", 3),
        ("in-checkpoint", 4),
        ("before-free", 4),
        ("in-free", 3),
        ("in-give-back", 3),
        ("in-compaction", 3),
    ]);
}

#[test]
fn during_recovery() {
    dies_at_start(&[("in-replay", 20), ("before-settle", 2), ("after-settle", 2)]);
}

#[test]
fn between_commit_and_visibility() {
    dies_at_work(&[("before-reveal", 30), ("in-reveal", 60)]);
}

#[test]
fn around_a_dead_letter() {
    dies_at_work(&[("before-dead-letter", 30), ("after-dead-letter", 30)]);
}

#[test]
fn the_shipped_binary_has_no_such_places() {
    let bytes = std::fs::read(binary()).unwrap();
    for word in [
        "LEVERET_FAILPOINT",
        "before-reveal",
        "in-compaction",
        "after-dead-letter",
    ] {
        let found = bytes
            .windows(word.len())
            .any(|window| window == word.as_bytes());
        assert!(!found, "{word} is in the binary");
    }
    let every = "before-write=after:1,in-write=after:1,after-write=after:1,in-replay=after:1";
    let variables = [("LEVERET_FAILPOINT", every), SMALL];
    let mut broker = Leveret::start_with(&OPTIONS, &variables);
    let mut client = Client::connect(broker.addr()).unwrap();
    workload::declare(&mut client).unwrap();
    client.close().unwrap();
    assert!(broker.terminate().success());
}
