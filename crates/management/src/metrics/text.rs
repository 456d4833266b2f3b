//! Prometheus' text format, version 0.0.4, as it is written.

use std::fmt::{Display, Write};

/// What a family is to Prometheus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    Histogram,
    /// rabbitmq: what says something by its labels alone, and alarms
    Untyped,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
            Type::Untyped => "untyped",
        }
    }
}

/// A part of an answer.
#[derive(Debug, Default)]
pub(super) struct Text {
    written: String,
    /// The family that is being written.
    name: String,
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.written.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.written.into_bytes()
    }

    /// What follows is of this family.
    pub(super) fn family(&mut self, prefix: &str, name: &str, of: Type, help: &str) {
        self.resume(prefix, name);
        let (name, of) = (&self.name, of.name());
        // Writing to a string cannot fail.
        let _ = writeln!(self.written, "# TYPE {name} {of}\n# HELP {name} {help}");
    }

    /// What follows is of a family that was begun in the part before.
    pub(super) fn resume(&mut self, prefix: &str, name: &str) {
        self.name.clear();
        self.name.extend([prefix, name]);
    }

    /// A sample with labels, of which names are written as they are.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample_of("", labels, value);
    }

    /// A sample of a histogram.
    pub(super) fn sample_of(&mut self, part: &str, labels: &[(&str, &str)], value: impl Display) {
        self.written.extend([self.name.as_str(), part]);
        let mut before = '{';
        for (label, said) in labels {
            self.written.push(before);
            self.written.extend([label, "=\""]);
            escape(said, &mut self.written);
            self.written.push('"');
            before = ',';
        }
        if before == ',' {
            self.written.push('}');
        }
        let _ = writeln!(self.written, " {value}");
    }

    /// A family with one sample and no labels.
    pub(super) fn single(
        &mut self,
        prefix: &str,
        name: &str,
        of: Type,
        help: &str,
        value: impl Display,
    ) {
        self.family(prefix, name, of, help);
        self.sample(&[], value);
    }

    /// A histogram: bounds and how many were below, all of them, and their sum.
    pub(super) fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        below: impl Iterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        for (le, below) in below {
            self.bucket(labels, &le.to_string(), below);
        }
        self.bucket(labels, "+Inf", count);
        self.sample_of("_sum", labels, sum);
        self.sample_of("_count", labels, count);
    }

    fn bucket(&mut self, labels: &[(&str, &str)], le: &str, below: u64) {
        let labels = [labels, &[("le", le)]].concat();
        self.sample_of("_bucket", &labels, below);
    }
}

/// A label's value. What is in names may be anything.
fn escape(text: &str, written: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (before, from) = rest.split_at(at);
        written.push_str(before);
        written.push_str(match from.as_bytes().first() {
            Some(b'\n') => "\\n",
            Some(b'"') => "\\\"",
            _ => "\\\\",
        });
        rest = from.get(1..).unwrap_or_default();
    }
    written.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.single("a_", "b", Type::Gauge, "Some help", 1.5);
        text.family("a_", "c_total", Type::Counter, "More");
        text.sample(&[("queue", "a\"b\\c\nd"), ("vhost", "/")], u64::MAX);
        text.family("", "t", Type::Histogram, "Times");
        text.histogram(
            &[("x", "y")],
            [(0.5, 1), (4194.304, 2)].into_iter(),
            3,
            7.25,
        );
        let written = String::from_utf8(text.into_bytes()).unwrap();
        assert_eq!(
            written,
            "# TYPE a_b gauge\n# HELP a_b Some help\na_b 1.5\n\
             # TYPE a_c_total counter\n# HELP a_c_total More\n\
             a_c_total{queue=\"a\\\"b\\\\c\\nd\",vhost=\"/\"} 18446744073709551615\n\
             # TYPE t histogram\n# HELP t Times\n\
             t_bucket{x=\"y\",le=\"0.5\"} 1\nt_bucket{x=\"y\",le=\"4194.304\"} 2\n\
             t_bucket{x=\"y\",le=\"+Inf\"} 3\nt_sum{x=\"y\"} 7.25\nt_count{x=\"y\"} 3\n"
        );
    }
}
