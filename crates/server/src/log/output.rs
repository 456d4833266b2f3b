//! Lines on their way to a descriptor that may be slow, full or gone: whoever has a line puts it into a bounded buffer,
//! one thread writes. Nobody waits for the reader, and no error of the descriptor reaches who had the line; what finds
//! no room or cannot be written is left out and counted.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes that may wait to be written.
const BYTES_MAX: usize = 1 << 20;
/// A buffer that grew beyond this in a burst is given back.
const BYTES_KEPT: usize = 16 << 10;
const STACK_BYTES: usize = 256 << 10;

/// What the writing thread asks whoever the lines are from.
pub(crate) trait Source: Send + 'static {
    /// In how long [`Source::tick`] wants to be called; None for not at all.
    fn due(&self) -> Option<Duration>;
    /// Called at that time, and earlier too.
    fn tick(&self);
    /// Lines are written again; so many were left out since they last were.
    fn left_out(&self, lines: u64);
}

/// The way to the descriptor. All clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Output(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    written: Condvar,
    writer: OnceLock<ThreadId>,
    bytes_max: usize,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines without room.
    left_out: u64,
    /// The thread has taken bytes and is not done with them.
    writing: bool,
}

impl Output {
    /// Starts the thread `name`, which writes to `descriptor` as long as the process lives.
    pub(crate) fn start(
        name: &str,
        descriptor: OwnedFd,
        source: impl Source,
    ) -> io::Result<Output> {
        Self::with_room(name, descriptor, source, BYTES_MAX)
    }

    fn with_room(
        name: &str,
        descriptor: OwnedFd,
        source: impl Source,
        bytes_max: usize,
    ) -> io::Result<Output> {
        let output = Output(Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            writer: OnceLock::new(),
            bytes_max,
        }));
        let shared = Arc::clone(&output.0);
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.run(&descriptor, &source))?;
        Ok(output)
    }

    /// Puts whole lines in, or counts them as left out.
    pub(crate) fn put(&self, lines: &[u8]) {
        // What the thread itself has to say is little and must not be lost to what it tells of.
        let own = self.0.writer.get() == Some(&thread::current().id());
        let mut waiting = self.0.lock();
        if own || waiting.bytes.len() + lines.len() <= self.0.bytes_max {
            waiting.bytes.extend_from_slice(lines);
        } else {
            waiting.left_out += count(lines);
        }
        drop(waiting);
        self.0.filled.notify_one();
    }

    /// Waits until all is written, but no longer than `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        let waiting = self.0.lock();
        drop(
            self.0
                .written
                .wait_timeout_while(waiting, patience, |it| it.writing || !it.bytes.is_empty()),
        );
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, descriptor: &OwnedFd, source: &impl Source) {
        self.writer.get_or_init(|| thread::current().id());
        let mut taken = Vec::new();
        let (mut left_out, mut torn) = (0, false);
        loop {
            source.tick();
            left_out += self.take(&mut taken, source.due());
            if taken.is_empty() {
                continue;
            }
            if torn {
                taken.insert(0, b'\n');
            }
            let written = write(descriptor, &taken);
            torn = taken
                .get(..written)
                .and_then(<[u8]>::last)
                .map_or(torn, |last| *last != b'\n');
            let rest = taken.get(written..).unwrap_or_default();
            left_out += count(rest);
            if rest.is_empty() && left_out > 0 {
                source.left_out(std::mem::take(&mut left_out));
            }
            taken.clear();
            taken.shrink_to(BYTES_KEPT);
            let mut waiting = self.lock();
            waiting.writing = false;
            waiting.bytes.shrink_to(BYTES_KEPT);
            drop(waiting);
            self.written.notify_all();
        }
    }

    /// Waits for lines, at most for `patience`, and swaps them into `taken`; answers how many were left out meanwhile.
    fn take(&self, taken: &mut Vec<u8>, patience: Option<Duration>) -> u64 {
        let waiting = self.lock();
        let mut waiting = match patience {
            None => self
                .filled
                .wait_while(waiting, |it| it.bytes.is_empty())
                .unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                self.filled
                    .wait_timeout_while(waiting, patience, |it| it.bytes.is_empty())
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        std::mem::swap(taken, &mut waiting.bytes);
        waiting.writing = !taken.is_empty();
        std::mem::take(&mut waiting.left_out)
    }
}

/// Writes as much as the descriptor takes before it fails, however long it takes for that; answers how much.
fn write(descriptor: &OwnedFd, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(descriptor, rest) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut room = [PollFd::new(descriptor, PollFlags::OUT)];
                // Interrupted or not, the next write tells.
                let _ready = poll(&mut room, None);
            }
            Err(_) => break,
        }
    }
    written
}

fn count(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(ends).unwrap_or(u64::MAX)
}

/// A descriptor of our own for standard output or error, which nothing else in the process closes or locks.
pub(crate) fn descriptor(of: impl AsFd) -> io::Result<OwnedFd> {
    of.as_fd().try_clone_to_owned()
}

/// Writes one line by a thread of its own, which is waited for no longer than `patience`.
pub(crate) fn write_line(descriptor: OwnedFd, line: String, patience: Duration) -> io::Result<()> {
    let (done, written) = mpsc::channel();
    thread::Builder::new()
        .name("leveret-line".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            write(&descriptor, line.as_bytes());
            // Whoever waited may have gone on.
            let _ = done.send(());
        })?;
    let _ = written.recv_timeout(patience);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Asks for nothing.
    struct Plain;

    impl Source for Plain {
        fn due(&self) -> Option<Duration> {
            None
        }

        fn tick(&self) {}

        fn left_out(&self, _lines: u64) {}
    }

    /// Tells a test what was left out.
    struct Told(Sender<u64>);

    impl Source for Told {
        fn due(&self) -> Option<Duration> {
            None
        }

        fn tick(&self) {}

        fn left_out(&self, lines: u64) {
            self.0.send(lines).unwrap();
        }
    }

    #[test]
    fn lines_arrive_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::start("test", writer.into(), Plain).unwrap();
        output.put(b"one\n");
        output.put(b"two\n");
        output.flush(PATIENCE);
        let mut read = [0; 8];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"one\ntwo\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_who_does_not_read_and_what_had_no_room_is_counted() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let full = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        writer.write_all(&vec![b' '; full]).unwrap();
        let (told, lines) = channel();
        let output = Output::with_room("test", writer.into(), Told(told.clone()), 1000).unwrap();
        for _ in 0..10_000 {
            output.put(b"a line\n");
        }
        output.flush(Duration::from_millis(1));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                told.send(count(&piece[..length])).unwrap();
            }
        });
        let mut written_and_left_out = 0;
        while written_and_left_out < 10_000 {
            written_and_left_out += lines.recv_timeout(PATIENCE).unwrap();
        }
        assert_eq!(written_and_left_out, 10_000);
    }

    #[test]
    fn a_descriptor_that_takes_nothing_harms_nobody() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (reader, gone) = io::pipe().unwrap();
        drop(reader);
        let read_only = File::open("/dev/null").unwrap();
        for descriptor in [full.into(), gone.into(), OwnedFd::from(read_only)] {
            let output = Output::start("test", descriptor, Plain).unwrap();
            for _ in 0..1000 {
                output.put(b"a line\n");
            }
            output.flush(PATIENCE);
        }
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        let output = Output::start("test", writer.into(), Plain).unwrap();
        let sent = vec![b'x'; 3 * size];
        output.put(&sent);
        let mut read = vec![0; sent.len()];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, sent);
    }
}
