//! Sockets whose peers are no AMQP clients, or slow ones.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use leveret_tests::{Leveret, PATIENCE, Stopwatch, eventually};

use leveret_tests::process::{
    PROTOCOL_HEADER, connect, log_in, read_method, read_on, read_to_end, say_nothing_for,
    write_frame, write_method, write_on,
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

/// Sets the limit of open files of a running broker.
fn limit_open_files(broker: &Leveret, limit: usize) {
    let files = rustix::process::Rlimit {
        current: Some(limit as u64),
        maximum: Some(limit as u64),
    };
    let pid = rustix::process::Pid::from_raw(broker.pid().try_into().unwrap());
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, files).unwrap();
}

fn await_log(broker: &Leveret, text: &str) {
    let found = eventually(PATIENCE, || broker.log().contains(text).then_some(()));
    assert!(found.is_some(), "{}", broker.log());
}

#[test]
fn running_out_of_descriptors_is_survived_without_spinning() {
    let broker = Leveret::start(&["--in-memory", "--handshake-timeout", "60s"]);
    let open_files = std::fs::read_dir(format!("/proc/{}/fd", broker.pid()))
        .unwrap()
        .count();
    limit_open_files(&broker, open_files + 20);
    let mut sockets: Vec<_> = (0..40).map(|_| connect(broker.addr())).collect();
    await_log(&broker, "no descriptors are left for more connections");
    say_nothing_for(Duration::from_millis(500));
    assert_eq!(broker.log().matches("no descriptors are left").count(), 1);
    sockets.truncate(1);
    drop(log_in(broker.addr()));
    await_log(&broker, "connections are accepted again");
    drop(sockets);
}

#[test]
fn silent_connections_leave_the_store_its_descriptors() {
    let broker = Leveret::start(&["--handshake-timeout", "120s"]);
    let mut client = log_in(broker.addr());
    limit_open_files(&broker, 256);
    let silent: Vec<_> = (0..300).map(|_| connect(broker.addr())).collect();
    await_log(&broker, "no descriptors are left for more connections");
    // Three segments of large persistent messages, each with a file of its own as well.
    declare_durable_queue(&mut client, "kept");
    let body = vec![7; 20 << 20];
    for _ in 0..10 {
        publish_confirmed(&mut client, "kept", &body);
    }
    drop(silent);
    await_log(&broker, "connections are accepted again");
    drop(log_in(broker.addr()));
    assert!(
        !broker.log().contains("store has failed"),
        "{}",
        broker.log()
    );
}

/// On channel 1, with confirms.
fn declare_durable_queue(client: &mut TcpStream, name: &str) {
    write_on(client, 1, 20, 10, b"\0");
    assert_eq!(read_on(client, 1), (20, 11));
    write_on(client, 1, 85, 10, b"\0");
    assert_eq!(read_on(client, 1), (85, 11));
    let name = [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    write_on(
        client,
        1,
        50,
        10,
        &[&[0, 0], &name[..], &[0b0000_0010], &[0; 4]].concat(),
    );
    assert_eq!(read_on(client, 1), (50, 11));
}

fn publish_confirmed(client: &mut TcpStream, queue: &str, body: &[u8]) {
    let name = [&[u8::try_from(queue.len()).unwrap()], queue.as_bytes()].concat();
    write_on(client, 1, 60, 40, &[&[0, 0, 0], &name[..], &[0]].concat());
    // A content header with delivery-mode 2 alone.
    let mut header = [0, 60, 0, 0].to_vec();
    header.extend((body.len() as u64).to_be_bytes());
    header.extend([0x10, 0x00, 2]);
    write_frame(client, 2, 1, &header);
    for piece in body.chunks(131_072 - 8) {
        write_frame(client, 3, 1, piece);
    }
    assert_eq!(read_on(client, 1), (60, 80));
}
