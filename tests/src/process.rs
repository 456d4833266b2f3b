//! Runs the binary where it is not expected to serve, and says a few words of AMQP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use crate::{PATIENCE, binary};

/// What a client says first.
pub const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Runs the binary to its end in an empty directory.
pub fn run(options: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command
        .args(options)
        .env("LEVERET_MANAGEMENT_LISTEN", "none")
        .env("LEVERET_PROMETHEUS_LISTEN", "none")
        .envs(variables.iter().copied())
        .current_dir(directory.path());
    command.output().unwrap()
}

/// Runs the binary, which must refuse to start: exit code 1, nothing on standard output, one line on standard error.
/// Returns the line.
pub fn refusal(options: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(options, variables);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(output.stdout.is_empty());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("leveret: "), "{error}");
    error
}

/// Connects, with a bound on how long a read may take.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Everything the peer sends until it closes.
pub fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads a frame: its type, channel and payload.
pub fn read_frame(socket: &mut TcpStream) -> (u8, u16, Vec<u8>) {
    let mut head = [0; 7];
    socket.read_exact(&mut head).unwrap();
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut payload = vec![0; size + 1];
    socket.read_exact(&mut payload).unwrap();
    assert_eq!(payload.pop(), Some(0xCE));
    (head[0], u16::from_be_bytes([head[1], head[2]]), payload)
}

/// Reads a method on channel 0: its class, method and arguments.
pub fn read_method(socket: &mut TcpStream) -> (u16, u16, Vec<u8>) {
    let (kind, channel, payload) = read_frame(socket);
    assert_eq!((kind, channel), (1, 0));
    let (class, method) = (
        u16::from_be_bytes([payload[0], payload[1]]),
        u16::from_be_bytes([payload[2], payload[3]]),
    );
    (class, method, payload[4..].to_vec())
}

/// Reads a method on a channel: its class and method.
pub fn read_on(socket: &mut TcpStream, channel: u16) -> (u16, u16) {
    let (kind, on, payload) = read_frame(socket);
    assert_eq!((kind, on), (1, channel));
    (
        u16::from_be_bytes([payload[0], payload[1]]),
        u16::from_be_bytes([payload[2], payload[3]]),
    )
}

/// Writes a method on channel 0.
pub fn write_method(socket: &mut TcpStream, class: u16, method: u16, arguments: &[u8]) {
    write_on(socket, 0, class, method, arguments);
}

/// Writes a method on a channel.
pub fn write_on(socket: &mut TcpStream, channel: u16, class: u16, method: u16, arguments: &[u8]) {
    let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
    write_frame(socket, 1, channel, &payload);
}

/// Writes a frame.
pub fn write_frame(socket: &mut TcpStream, kind: u8, channel: u16, payload: &[u8]) {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    socket.write_all(&frame).unwrap();
}

/// Connects and logs in as guest, up to connection.open-ok.
pub fn log_in(address: SocketAddr) -> TcpStream {
    let mut socket = connect(address);
    socket.write_all(PROTOCOL_HEADER).unwrap();
    assert_eq!(next(&mut socket), (10, 10));
    // start-ok: no client properties, PLAIN, guest and guest, en_US
    write_method(
        &mut socket,
        10,
        11,
        b"\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US",
    );
    assert_eq!(next(&mut socket), (10, 30));
    // tune-ok: 2047 channels, 131072 bytes, no heartbeats
    write_method(&mut socket, 10, 31, &[0x07, 0xff, 0, 2, 0, 0, 0, 0]);
    write_method(&mut socket, 10, 40, b"\x01/\0\0");
    assert_eq!(next(&mut socket), (10, 41));
    socket
}

/// Connects and logs in; false where that is refused.
pub fn try_log_in(address: SocketAddr, user: &str, password: &str, vhost: &str) -> bool {
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let mut socket = connect(address);
    socket.write_all(PROTOCOL_HEADER).unwrap();
    assert_eq!(next(&mut socket), (10, 10));
    let response = format!("\0{user}\0{password}");
    let length = u32::try_from(response.len()).unwrap().to_be_bytes();
    let start_ok = [
        &[0; 4],
        &short("PLAIN")[..],
        &length,
        response.as_bytes(),
        &short("en_US"),
    ];
    write_method(&mut socket, 10, 11, &start_ok.concat());
    let mut tune = [0; 1];
    if socket.read(&mut tune).unwrap_or(0) == 0 {
        return false;
    }
    let mut rest = [0; 19];
    socket.read_exact(&mut rest).unwrap();
    write_method(&mut socket, 10, 31, &[0x07, 0xff, 0, 2, 0, 0, 0, 0]);
    write_method(&mut socket, 10, 40, &[&short(vhost)[..], &[0, 0]].concat());
    next(&mut socket) == (10, 41)
}

fn next(socket: &mut TcpStream) -> (u16, u16) {
    let (class, method, _) = read_method(socket);
    (class, method)
}

/// A pause that is part of what is tested, such as a client that says nothing for a while.
#[allow(
    clippy::disallowed_methods,
    reason = "silence is the stimulus here, not a wait for a state"
)]
pub fn say_nothing_for(time: Duration) {
    std::thread::sleep(time);
}
