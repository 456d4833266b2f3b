//! What processes use, as the kernel tells it: CPU time, memory, wake-ups, disk.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Use of a process and its children at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    cpu_ticks: u64,
    rss_bytes: u64,
    rss_peak_bytes: u64,
    switches: u64,
    processes: usize,
}

/// `/proc/PID/stat` from the state on, which follows the name in brackets.
fn stat(process: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The number after `key`, of a line of `/proc/PID/status`.
fn field(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn tree(root: u32) -> Vec<String> {
    let mut children: HashMap<String, Vec<String>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.file_name().to_string_lossy().into_owned();
        let is_process = process.bytes().all(|octet| octet.is_ascii_digit());
        if let Some(parent) = stat(&process).filter(|_| is_process)
            && let Some(parent) = parent.get(1)
        {
            children.entry(parent.clone()).or_default().push(process);
        }
    }
    let mut found = vec![root.to_string()];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let more = children.remove(process).unwrap_or_default();
        found.extend(more);
        next += 1;
    }
    found
}

impl Usage {
    /// That of `process` and its children.
    pub(crate) fn of(process: u32) -> Self {
        let mut usage = Self::default();
        for process in tree(process) {
            let Some(fields) = stat(&process) else {
                continue;
            };
            // utime and stime, and those of children that have ended
            let ticks = fields.get(11..15).unwrap_or_default();
            usage.cpu_ticks += ticks
                .iter()
                .filter_map(|ticks| ticks.parse::<u64>().ok())
                .sum::<u64>();
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            usage.rss_bytes += field(&status, "VmRSS:") * 1024;
            usage.rss_peak_bytes += field(&status, "VmHWM:") * 1024;
            usage.switches += switches(&process);
            usage.processes += 1;
        }
        usage
    }

    /// Seconds of CPU since `before`.
    #[allow(clippy::cast_precision_loss, reason = "a figure to show")]
    pub(crate) fn cpu_since(&self, before: &Usage) -> f64 {
        self.cpu_ticks.saturating_sub(before.cpu_ticks) as f64 / clock_ticks_per_second() as f64
    }

    /// How often a thread was woken since `before`.
    pub(crate) fn switches_since(&self, before: &Usage) -> u64 {
        self.switches.saturating_sub(before.switches)
    }

    /// Resident memory in millions of bytes.
    pub(crate) fn rss_mb(&self) -> f64 {
        megabytes(self.rss_bytes)
    }

    /// What was used since `before`, altogether and for each message.
    #[allow(clippy::cast_precision_loss, reason = "a figure to show")]
    pub(crate) fn report(&self, before: &Usage, published: u64, consumed: u64) -> Value {
        let cpu = self.cpu_since(before);
        let each = |count: u64| (count > 0).then(|| round(cpu * 1e6 / count as f64, 3));
        json!({
            "cpu_s": round(cpu, 2),
            "cpu_us_per_published": each(published),
            "cpu_us_per_consumed": each(consumed),
            "rss_mb": self.rss_mb(),
            "peak_rss_mb": megabytes(self.rss_peak_bytes),
            "processes": self.processes,
        })
    }
}

/// Times a thread of the process had waited for something and it came.
fn switches(process: &str) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let each = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        field(&status, "voluntary_ctxt_switches:")
    };
    threads.into_iter().flatten().flatten().map(each).sum()
}

/// Begins the highest memory anew, where that is permitted.
pub(crate) fn reset_peak(process: u32) {
    for process in tree(process) {
        drop(fs::write(format!("/proc/{process}/clear_refs"), "5"));
    }
}

/// CPU seconds of all cores, of whoever used them.
#[allow(clippy::cast_precision_loss, reason = "a figure to show")]
pub(crate) fn machine_cpu() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut fields = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let mut take = |count: usize| -> u64 {
        let numbers = fields
            .by_ref()
            .take(count)
            .filter_map(|number| number.parse::<u64>().ok());
        numbers.sum()
    };
    // user nice system, not idle and iowait, irq softirq
    let before = take(3);
    take(2);
    (before + take(2)) as f64 / clock_ticks_per_second() as f64
}

/// Bytes of disk below `path`, files with several names once.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut total = 0;
    while let Some(path) = waiting.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if found.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
        if seen.insert((found.dev(), found.ino())) {
            total += found.blocks() * 512;
        }
    }
    total
}

/// Lets this process have `count` files open, as far as permitted.
pub(crate) fn allow_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(limit.maximum.map_or(count, |maximum| maximum.min(count)));
        // Where it is not permitted, the connections that fail say so.
        let _raised = setrlimit(Resource::Nofile, limit);
    }
}

/// So many digits after the point.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Millions of bytes.
#[allow(clippy::cast_precision_loss, reason = "a figure to show")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    round(bytes as f64 / 1e6, 1)
}
