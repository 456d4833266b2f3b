//! Sockets whose peers are no AMQP clients, or slow ones.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use leveret_tests::{Leveret, PATIENCE, Stopwatch, eventually};

use crate::process::{
    PROTOCOL_HEADER, connect, log_in, read_method, read_to_end, say_nothing_for, write_method,
};

#[test]
fn other_protocols_are_answered_with_ours_and_closed() {
    let broker = Leveret::start(&["--in-memory"]);
    for greeting in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"AMQP\x03\x01\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
    ] {
        let mut socket = connect(broker.addr());
        socket.write_all(greeting).unwrap();
        assert_eq!(read_to_end(&mut socket), PROTOCOL_HEADER);
    }
}

#[test]
fn the_answer_arrives_even_if_the_peer_is_still_sending() {
    let broker = Leveret::start(&["--in-memory"]);
    let mut socket = connect(broker.addr());
    let long = [b"POST / HTTP/1.1\r\n\r\n", &vec![b'x'; 1 << 20][..]].concat();
    socket.write_all(&long).unwrap();
    say_nothing_for(Duration::from_millis(50));
    socket.write_all(b"more").unwrap();
    let mut answer = [0; 8];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, PROTOCOL_HEADER);
}

#[test]
fn a_client_that_does_not_log_in_is_cut_off() {
    let broker = Leveret::start(&["--in-memory", "--handshake-timeout", "300ms"]);
    let mut silent = connect(broker.addr());
    let mut half_way = connect(broker.addr());
    half_way.write_all(PROTOCOL_HEADER).unwrap();
    let waited = Stopwatch::start();
    assert!(read_to_end(&mut silent).is_empty());
    assert!(
        waited.elapsed() >= Duration::from_millis(200),
        "{:?}",
        waited.elapsed()
    );
    read_to_end(&mut half_way);
    assert!(
        waited.elapsed() < Duration::from_secs(5),
        "{:?}",
        waited.elapsed()
    );
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let broker = Leveret::start(&["--in-memory"]);
    let mut socket = connect(broker.addr());
    socket.set_nodelay(true).unwrap();
    for byte in PROTOCOL_HEADER {
        socket.write_all(&[*byte]).unwrap();
        say_nothing_for(Duration::from_millis(1));
    }
    let (class, method, _) = read_method(&mut socket);
    assert_eq!((class, method), (10, 10));
}

#[test]
fn a_close_is_answered_before_the_socket_closes() {
    let broker = Leveret::start(&["--in-memory"]);
    for _ in 0..20 {
        let mut socket = log_in(broker.addr());
        // close: 200, "bye"; and bytes behind it that nobody will read
        write_method(&mut socket, 10, 50, b"\x00\xc8\x03bye\0\0\0\0");
        let _ = socket.write_all(&[0; 4096]);
        let (class, method, _) = read_method(&mut socket);
        assert_eq!((class, method), (10, 51));
        assert!(read_to_end(&mut socket).is_empty());
    }
}

#[test]
fn sockets_are_given_back() {
    let broker = Leveret::start(&["--in-memory"]);
    let open_files = || {
        std::fs::read_dir(format!("/proc/{}/fd", broker.pid()))
            .unwrap()
            .count()
    };
    let before = open_files();
    let sockets: Vec<_> = (0..200).map(|_| log_in(broker.addr())).collect();
    assert!(open_files() >= before + 200);
    let half_closed = &sockets[0];
    half_closed.shutdown(Shutdown::Write).unwrap();
    drop(sockets);
    assert!(
        eventually(PATIENCE, || (open_files() <= before).then_some(())).is_some(),
        "{} > {before}",
        open_files()
    );
}

#[test]
fn running_out_of_descriptors_is_survived_without_spinning() {
    let broker = Leveret::start(&["--in-memory", "--handshake-timeout", "60s"]);
    let open_files = std::fs::read_dir(format!("/proc/{}/fd", broker.pid()))
        .unwrap()
        .count();
    let limit = (open_files + 20).to_string();
    let pid = broker.pid().to_string();
    let set = std::process::Command::new("prlimit")
        .args(["--pid", &pid, &format!("--nofile={limit}:{limit}")])
        .status();
    if !set.is_ok_and(|status| status.success()) {
        // No prlimit on this machine.
        return;
    }
    let mut sockets: Vec<_> = (0..40).map(|_| connect(broker.addr())).collect();
    assert!(
        eventually(PATIENCE, || broker
            .log()
            .contains("cannot accept connections")
            .then_some(()))
        .is_some()
    );
    say_nothing_for(Duration::from_millis(500));
    assert!(broker.log().matches("cannot accept connections").count() < 20);
    sockets.truncate(1);
    drop(log_in(broker.addr()));
    drop(sockets);
}
