//! SIGTERM and SIGINT: clients are told, the process ends soon, with exit code 0.

use std::time::Duration;

use leveret_tests::{Leveret, Stopwatch};

use leveret_tests::process::{connect, log_in, read_method, read_to_end, write_method};

/// The longest a stop may take.
const STOP_MAX: Duration = Duration::from_secs(5);

#[test]
fn sigterm_and_sigint_stop_an_idle_broker_at_once() {
    for signal in ["TERM", "INT"] {
        let mut broker = Leveret::start(&[]);
        let stopping = Stopwatch::start();
        broker.signal(signal);
        assert_eq!(broker.wait().code(), Some(0));
        assert!(
            stopping.elapsed() < Duration::from_secs(2),
            "{:?}",
            stopping.elapsed()
        );
        assert!(!broker.directory().join("ready.json").exists());
    }
}

#[test]
fn clients_are_told_and_waited_for() {
    let mut broker = Leveret::start(&[]);
    let mut client = log_in(broker.addr());
    let stopping = Stopwatch::start();
    broker.signal("TERM");
    let (class, method, arguments) = read_method(&mut client);
    assert_eq!((class, method), (10, 50));
    assert_eq!(arguments[..2], 320u16.to_be_bytes());
    let text = String::from_utf8_lossy(&arguments[3..3 + usize::from(arguments[2])]);
    assert_eq!(
        text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    write_method(&mut client, 10, 51, &[]);
    assert!(read_to_end(&mut client).is_empty());
    drop(client);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(
        stopping.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopping.elapsed()
    );
}

#[test]
fn clients_that_say_nothing_do_not_hold_it_up() {
    let mut broker = Leveret::start(&[]);
    let silent = log_in(broker.addr());
    let never_began = connect(broker.addr());
    let stopping = Stopwatch::start();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(stopping.elapsed() < STOP_MAX, "{:?}", stopping.elapsed());
    drop((silent, never_began));
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut broker = Leveret::start(&[]);
    let mut silent = log_in(broker.addr());
    broker.signal("TERM");
    assert_eq!(read_method(&mut silent).1, 50);
    let second = Stopwatch::start();
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(128 + 15));
    assert!(
        second.elapsed() < Duration::from_secs(1),
        "{:?}",
        second.elapsed()
    );
}

#[test]
fn it_starts_again_on_the_same_port_after_a_stop_and_after_a_crash() {
    let mut broker = Leveret::start(&[]);
    let address = broker.addr();
    let client = log_in(address);
    broker.restart();
    assert_eq!(broker.addr(), address);
    drop(log_in(address));
    broker.kill9();
    broker.start_again();
    drop(log_in(address));
    drop(client);
}
