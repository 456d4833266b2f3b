//! The legal values of single options: each type can only be made from a text or number that is in range, and its
//! error says what would have been. Owns no option names and no defaults.

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use leveret_broker::ConsumerTimeoutAction;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Why a text is not a legal value: what would have been one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ValueError {
    /// What a legal value looks like, with an example.
    expected: String,
}

impl ValueError {
    fn new(expected: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
        }
    }
}

/// An address and port to listen on: `ADDR:PORT`, `[ADDR6]:PORT`, or for IPv4 and IPv6 alike `localhost:PORT` or a port
/// alone, which is every interface. Port 0 lets the system choose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenAddress {
    /// The address that is listened on.
    pub address: SocketAddr,
    /// Its IPv6 counterpart with the same port is listened on too, where the machine has IPv6.
    pub and_ipv6: Option<Ipv6Addr>,
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if let Ok(address) = text.parse() {
            return Ok(Self {
                address,
                and_ipv6: None,
            });
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse::<u16>().map_err(|_| Self::expected())?;
        match host {
            "" | "*" => Ok(Self::everywhere(port)),
            "localhost" => Ok(Self {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                and_ipv6: Some(Ipv6Addr::LOCALHOST),
            }),
            _ => Err(Self::expected()),
        }
    }
}

impl ListenAddress {
    /// Every interface.
    #[must_use]
    pub fn everywhere(port: u16) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            and_ipv6: Some(Ipv6Addr::UNSPECIFIED),
        }
    }

    fn expected() -> ValueError {
        ValueError::new("ADDRESS:PORT, such as 0.0.0.0:5672 or [::1]:5672, or a port alone")
    }
}

/// Where to serve HTTP: an address as in [`ListenAddress`], or `none`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HttpAddress {
    /// Nowhere.
    Nowhere,
    /// There.
    At(ListenAddress),
}

impl FromStr for HttpAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.trim() == "none" {
            return Ok(Self::Nowhere);
        }
        text.parse().map(Self::At).map_err(|_| {
            ValueError::new("ADDRESS:PORT, such as 127.0.0.1:15672, a port alone, or none")
        })
    }
}

/// Where spans are sent: `http://collector:4318`, with `/v1/traces` unless there is another path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OtlpEndpoint {
    /// Host and port, as they were given.
    pub authority: String,
    /// The port.
    pub port: u16,
    /// The path.
    pub path: String,
}

impl OtlpEndpoint {
    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':');
        let host = host.map_or(self.authority.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for OtlpEndpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let expected = || {
            ValueError::new("http://HOST:PORT, such as http://localhost:4318; there is no https")
        };
        let rest = text.strip_prefix("http://").ok_or_else(expected)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = authority.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let is_clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_clean(rest) {
            return Err(expected());
        }
        let path = match path {
            "" | "/" => "/v1/traces",
            path => path,
        };
        Ok(Self {
            authority: authority.to_owned(),
            port: port.ok_or_else(expected)?,
            path: path.to_owned(),
        })
    }
}

impl std::fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// A number of bytes: `131072`, `64KiB`, `16MiB`, `1GiB`, or in powers of ten `64KB`, `16MB`, `1GB`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let expected =
            || ValueError::new("a number of bytes above 0, such as 131072, 64KiB or 16MB");
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            _ => return Err(expected()),
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor));
        bytes
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or_else(expected)
    }
}

/// A part of a disk: a number of bytes as in [`ByteSize`], or of a hundred of it, `5%`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskShare {
    /// So many bytes.
    Bytes(u64),
    /// So many per cent.
    PerCent(u8),
}

impl DiskShare {
    /// The part of a disk of this size.
    #[must_use]
    pub fn of(self, disk_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::PerCent(part) => disk_bytes / 100 * u64::from(part),
        }
    }
}

impl FromStr for DiskShare {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let expected = || {
            ValueError::new("a number of bytes, such as 64MiB, or per cent of the disk, 1% to 90%")
        };
        let Some(part) = text.trim().strip_suffix('%') else {
            let bytes = text.parse::<ByteSize>();
            return bytes.map(|it| Self::Bytes(it.0)).map_err(|_| expected());
        };
        let part = part.trim().parse().ok();
        part.filter(|part| (1..=90).contains(part))
            .map(Self::PerCent)
            .ok_or_else(expected)
    }
}

/// A span of time in milliseconds, written with its unit: `500ms`, `10s`, `2m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// Milliseconds, above 0.
    pub milliseconds: u64,
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let expected = || ValueError::new("a time above 0 with its unit, such as 500ms, 10s or 2m");
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return Err(expected()),
        };
        let milliseconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor));
        milliseconds
            .filter(|span| *span > 0)
            .map(|milliseconds| Self { milliseconds })
            .ok_or_else(expected)
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Number<MIN, MAX> {
    /// The number, or the nearest one a `u16` can say; exact for every `MAX` up to 65535.
    #[must_use]
    pub fn to_u16(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Number<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text
            .trim()
            .parse::<u32>()
            .ok()
            .filter(|number| (MIN..=MAX).contains(number));
        number
            .map(Self)
            .ok_or_else(|| ValueError::new(format!("a whole number from {MIN} to {MAX}")))
    }
}

/// The name of a user, virtual host or the like: 1 to 255 bytes, as AMQP's short strings can carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name(pub String);

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.len() > 255 {
            return Err(ValueError::new("a name of 1 to 255 bytes"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Names separated by commas, or `none`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names(pub Vec<String>);

impl FromStr for Names {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text == "none" {
            return Ok(Self::default());
        }
        let names: Result<Vec<Name>, _> = text.split(',').map(|name| name.trim().parse()).collect();
        let names = names.map_err(|_| ValueError::new("names separated by commas, or none"))?;
        Ok(Self(names.into_iter().map(|name| name.0).collect()))
    }
}

/// Which log lines are kept, in the notation of `tracing`: `info`, `debug`, `info,leveret_session=trace`.
///
/// A word alone is a level. `tracing` takes any other for a part of the program, so that `warning` would keep nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(pub String);

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut parts = text.split(',').filter(|part| !part.is_empty()).peekable();
        let is_sound = parts.peek().is_some()
            && parts.all(|part| part.contains('=') || part.parse::<LevelFilter>().is_ok())
            && EnvFilter::builder().parse(text).is_ok();
        is_sound.then(|| Self(text.to_owned())).ok_or_else(|| {
            ValueError::new(
                "a log filter: error, warn, info, debug, trace or off, or by part, such as \
                 info,leveret_session=trace",
            )
        })
    }
}

/// The form of the log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people: one line of text an event.
    #[default]
    Text,
    /// For machines: one JSON object an event.
    Json,
}

impl FromStr for LogFormat {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ValueError::new("text or json")),
        }
    }
}

/// What becomes of a consumer that does not acknowledge in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeoutAction(pub ConsumerTimeoutAction);

impl FromStr for TimeoutAction {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "close" => Ok(Self(ConsumerTimeoutAction::Close)),
            "cancel" => Ok(Self(ConsumerTimeoutAction::Cancel)),
            _ => Err(ValueError::new("close or cancel")),
        }
    }
}

/// Cuts `10s` into `10` and `s`.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

/// Reads a value from a file's string or whole number, through the same `FromStr` as flags and environment.
struct FromText<T>(PhantomData<T>);

impl<T: FromStr<Err = ValueError>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse()
            .map_err(|error| E::custom(format!("bad value `{text}`: {error}")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! deserialize_from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(FromText(PhantomData))
            }
        }
    )*};
}

deserialize_from_text!(
    ListenAddress,
    HttpAddress,
    OtlpEndpoint,
    ByteSize,
    DiskShare,
    Span,
    Name,
    Names,
    LogFilter,
    LogFormat,
    TimeoutAction
);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FromText(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }

    #[test]
    fn otlp_endpoints() {
        let shown =
            |text| parsed::<OtlpEndpoint>(text).map(|it| (it.to_string(), it.host().to_owned()));
        let is = |url: &str, host: &str| Some((url.to_owned(), host.to_owned()));
        assert_eq!(shown("http://c:4318"), is("http://c:4318/v1/traces", "c"));
        assert_eq!(shown("http://[::1]:1/x"), is("http://[::1]:1/x", "::1"));
        for wrong in [
            "",
            "c:4318",
            "https://c:4318",
            "http://c",
            "http://:1",
            "http://c:0",
            "http://c:1/a b",
        ] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn listen_addresses() {
        let check = |text, expected: Option<(&str, Option<&str>)>| {
            let address = parsed::<ListenAddress>(text).map(|it| {
                let ipv6 = it.and_ipv6.map(|address| address.to_string());
                (it.address.to_string(), ipv6)
            });
            let address = address
                .as_ref()
                .map(|(address, ipv6)| (address.as_str(), ipv6.as_deref()));
            assert_eq!(address, expected, "{text}");
        };
        check("127.0.0.1:5672", Some(("127.0.0.1:5672", None)));
        check("0.0.0.0:5672", Some(("0.0.0.0:5672", None)));
        check("[::1]:0", Some(("[::1]:0", None)));
        check("localhost:5673", Some(("127.0.0.1:5673", Some("::1"))));
        for everywhere in ["5673", ":5673", "*:5673"] {
            check(everywhere, Some(("0.0.0.0:5673", Some("::"))));
        }
        check("127.0.0.1", None);
        check("127.0.0.1:70000", None);
        check("example.org:5672", None);
        check("", None);
    }

    #[test]
    fn sizes_and_spans() {
        let size = |text| parsed::<ByteSize>(text).map(|size| size.0);
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("64KiB"), Some(65536));
        assert_eq!(size("2 GiB"), Some(2 << 30));
        assert_eq!(size("1MB"), Some(1_000_000));
        assert_eq!(size("0"), None);
        assert_eq!(size("-1"), None);
        assert_eq!(size("99999999999GiB"), None);
        assert_eq!(size("12 parsecs"), None);
        let share = |text| parsed::<DiskShare>(text).map(|share| share.of(1 << 30));
        assert_eq!(share("64MiB"), Some(64 << 20));
        assert_eq!(share("5%"), Some((1 << 30) / 100 * 5));
        assert_eq!(share("0%"), None);
        assert_eq!(share("91%"), None);
        assert_eq!(share("5"), Some(5));
        assert_eq!(share("a lot"), None);
        let span = |text| parsed::<Span>(text).map(|span| span.milliseconds);
        assert_eq!(span("500ms"), Some(500));
        assert_eq!(span("10s"), Some(10_000));
        assert_eq!(span("2m"), Some(120_000));
        assert_eq!(span("10"), None);
        assert_eq!(span("0s"), None);
    }

    #[test]
    fn numbers_names_and_filters() {
        assert_eq!(parsed::<Number<4096, 8192>>("4096"), Some(Number(4096)));
        assert_eq!(parsed::<Number<4096, 8192>>("4095"), None);
        assert_eq!(
            "x".parse::<Number<1, 9>>().unwrap_err().to_string(),
            "expected a whole number from 1 to 9"
        );
        assert_eq!(parsed::<Name>(""), None);
        assert_eq!(parsed::<Name>(&"x".repeat(256)), None);
        assert_eq!(parsed::<Names>("none"), Some(Names(vec![])));
        assert_eq!(
            parsed::<Names>("a, b"),
            Some(Names(vec!["a".into(), "b".into()]))
        );
        for sound in ["info,leveret_broker=trace", "OFF", "leveret_store=debug"] {
            assert!(parsed::<LogFilter>(sound).is_some(), "{sound}");
        }
        for wrong in [
            "info,=,,x=",
            "",
            ",",
            "warning",
            "none",
            "info,leveret_broker",
        ] {
            assert!(parsed::<LogFilter>(wrong).is_none(), "{wrong}");
        }
        assert_eq!(parsed::<LogFormat>("yaml"), None);
    }
}
