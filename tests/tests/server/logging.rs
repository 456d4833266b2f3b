//! The log: what it says of connections, and that it harms nobody when it cannot be written.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::time::Duration;

use leveret_tests::{Leveret, PATIENCE, Stopwatch, eventually};

use leveret_tests::process::{
    PROTOCOL_HEADER, connect, log_in, read_method, read_to_end, try_log_in, write_method, write_on,
};

/// The longest a stop may take.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Logins that fail, at the address and from many connections at once.
fn fail_to_log_in(broker: &Leveret, times: usize) {
    let mut sockets: Vec<_> = (0..times).map(|_| connect(broker.addr())).collect();
    for socket in &mut sockets {
        socket.write_all(PROTOCOL_HEADER).unwrap();
    }
    for socket in &mut sockets {
        read_method(socket);
        // A frame that is none of the handshake's: refused without a word.
        write_method(socket, 10, 11, b"\0\0\0\0\x05WRONG\0\0\0\0\x05en_US");
        read_to_end(socket);
    }
}

/// Has strangers fill the log while a client works, then stops the broker.
fn survives(log: impl Into<std::os::fd::OwnedFd>) {
    let mut broker = Leveret::start_logging_to(log.into(), &["--in-memory", "--log", "debug"]);
    let client = log_in(broker.addr());
    // More than are written of one kind, and again.
    for _ in 0..3 {
        fail_to_log_in(&broker, 110);
        drop(log_in(broker.addr()));
    }
    drop(client);
    let stopping = Stopwatch::start();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(stopping.elapsed() < STOP_MAX, "{:?}", stopping.elapsed());
}

#[test]
fn a_full_disk_under_the_log_harms_nobody() {
    survives(File::options().write(true).open("/dev/full").unwrap());
}

#[test]
fn a_closed_log_harms_nobody() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    survives(writer);
}

#[test]
fn a_log_that_nobody_reads_harms_nobody() {
    let (mut reader, mut writer) = pipe().unwrap();
    // As much as Linux takes into a pipe; less where it was set to less, and the broker soon fills what is left.
    let filled = 60_000;
    writer.write_all(&vec![b'\n'; filled]).unwrap();
    let mut broker = Leveret::start_logging_to(
        writer.try_clone().unwrap().into(),
        &["--in-memory", "--log", "trace"],
    );
    let mut client = log_in(broker.addr());
    fail_to_log_in(&broker, 1000);
    // close: 200, "bye"
    write_method(&mut client, 10, 50, b"\x00\xc8\x03bye\0\0\0\0");
    assert_eq!(read_method(&mut client).1, 51);
    let stopping = Stopwatch::start();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(stopping.elapsed() < STOP_MAX, "{:?}", stopping.elapsed());
    drop((broker, writer));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read.len() > filled);
}

#[test]
fn what_one_peer_does_again_and_again_is_counted() {
    let mut broker = Leveret::start(&["--in-memory"]);
    fail_to_log_in(&broker, 300);
    let lines = |log: &str| log.matches("login refused").count();
    assert!(lines(&broker.log()) <= 101, "{}", broker.log());
    assert!(
        eventually(PATIENCE, || broker
            .log()
            .contains("more like this from 127.0.0.1: login refused")
            .then_some(()))
        .is_some(),
        "{}",
        broker.log()
    );
    assert!(broker.terminate().success());
}

/// Waits until the log has a line with all of `texts`.
fn await_line(broker: &Leveret, texts: &[&str]) {
    let found = eventually(PATIENCE, || {
        let log = broker.log();
        let mut lines = log.lines();
        lines
            .any(|line| texts.iter().all(|text| line.contains(text)))
            .then_some(())
    });
    assert!(
        found.is_some(),
        "no line with {texts:?} in\n{}",
        broker.log()
    );
}

#[test]
fn other_protocols_are_named() {
    let broker = Leveret::start(&["--in-memory"]);
    for (greeting, name) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP"),
        (b"AMQP\x03\x01\x00\x00", "AMQP 1.0"),
        (b"AMQP\x00\x01\x00\x00", "AMQP 1.0"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", "TLS"),
        (b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc", "MQTT"),
        (b"CONNECT\naccept-version:1.2\n\n\0", "STOMP"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "PROXY protocol"),
        (b"CONNECT broker:5672 HTTP/1.1\r\n\r\n", "HTTP CONNECT"),
        (b"EHLO example.org\r\n", "unknown"),
    ] {
        let mut socket = connect(broker.addr());
        let peer = socket.local_addr().unwrap().to_string();
        socket.write_all(greeting).unwrap();
        read_to_end(&mut socket);
        await_line(&broker, &[name, &peer, "AMQP 0-9-1"]);
    }
}

#[test]
fn the_end_of_a_connection_is_told_with_its_reason() {
    let mut broker = Leveret::start(&["--in-memory"]);
    let mut closed = log_in(broker.addr());
    let peer = |socket: &std::net::TcpStream| socket.local_addr().unwrap().to_string();
    let of_closed = peer(&closed);
    write_method(&mut closed, 10, 50, b"\x00\xc8\x03bye\0\0\0\0");
    read_method(&mut closed);
    let ended = "connection ended";
    await_line(
        &broker,
        &[
            ended,
            &of_closed,
            "\"guest\"",
            "vhost=\"/\"",
            "closed by the client: 200 bye",
        ],
    );

    let mut failed = log_in(broker.addr());
    let of_failed = peer(&failed);
    write_method(&mut failed, 10, 50, b"\x02\x1d\x07trouble\0\0\0\0");
    read_method(&mut failed);
    await_line(
        &broker,
        &[
            "WARN",
            ended,
            &of_failed,
            "closed by the client: 541 trouble",
        ],
    );

    let mut unknown = log_in(broker.addr());
    let of_unknown = peer(&unknown);
    write_method(&mut unknown, 10, 99, b"");
    read_to_end(&mut unknown);
    await_line(&broker, &[ended, &of_unknown, "unknown method", "99"]);

    let mut hasty = connect(broker.addr());
    let of_hasty = peer(&hasty);
    hasty.write_all(PROTOCOL_HEADER).unwrap();
    read_method(&mut hasty);
    write_on(&mut hasty, 1, 20, 10, b"\0");
    read_to_end(&mut hasty);
    await_line(
        &broker,
        &[
            "closing connection",
            &of_hasty,
            "no place before connection.open",
        ],
    );

    let lost = log_in(broker.addr());
    let of_lost = peer(&lost);
    drop(lost);
    await_line(&broker, &[ended, &of_lost, "closed its socket"]);

    let mut wrong = log_in(broker.addr());
    let of_wrong = peer(&wrong);
    // tune, which is the server's
    write_method(&mut wrong, 10, 30, &[0; 8]);
    await_line(
        &broker,
        &["closing connection", &of_wrong, "guest", "code=504"],
    );
    await_line(&broker, &[ended, &of_wrong, "504"]);

    let forced = log_in(broker.addr());
    let of_forced = peer(&forced);
    broker.signal("TERM");
    await_line(&broker, &[ended, &of_forced, "shutdown"]);
    drop(forced);
    broker.wait();
}

#[test]
fn a_refused_login_names_who() {
    let broker = Leveret::start(&["--in-memory"]);
    assert!(!try_log_in(broker.addr(), "guest", "wrong", "/"));
    await_line(
        &broker,
        &[
            "login refused",
            "user=\"guest\"",
            "peer=127.0.0.1:",
            "reason=\"invalid credentials\"",
        ],
    );
    assert!(!try_log_in(broker.addr(), "guest", "guest", "nowhere"));
    await_line(
        &broker,
        &[
            "closing connection",
            "user=\"guest\"",
            "vhost nowhere not found",
        ],
    );
}
