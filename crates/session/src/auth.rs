//! SASL mechanisms: who the client is.

use leveret_broker::inventory::is_loopback;
use leveret_codec::{RawTable, RawValue};

use super::link::Link;

/// An authenticated user.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    /// Kept to check `connection.update-secret`, whose new secret is the same user's password.
    pub(crate) mechanism: Mechanism,
}

/// The SASL mechanisms known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mechanism {
    Plain,
    AmqPlain,
    External,
    Anonymous,
}

impl Mechanism {
    pub(crate) fn parse(name: &str) -> Option<Mechanism> {
        match name {
            "PLAIN" => Some(Mechanism::Plain),
            "AMQPLAIN" => Some(Mechanism::AmqPlain),
            "EXTERNAL" => Some(Mechanism::External),
            "ANONYMOUS" => Some(Mechanism::Anonymous),
            _ => None,
        }
    }
}

impl Mechanism {
    /// As `connection.start-ok` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::AmqPlain => "AMQPLAIN",
            Mechanism::External => "EXTERNAL",
            Mechanism::Anonymous => "ANONYMOUS",
        }
    }
}

/// The mechanisms that work on this connection, as `connection.start` lists them.
pub(crate) fn offered(link: &Link) -> String {
    let mut mechanisms = String::from("PLAIN AMQPLAIN");
    if link.peer.tls_identity.is_some() {
        mechanisms.push_str(" EXTERNAL");
    }
    if link.broker.config().anonymous.is_some() {
        mechanisms.push_str(" ANONYMOUS");
    }
    mechanisms
}

/// Why a login fails.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Wrong name or password, or a mechanism that does not apply; the name that was given, if any.
    Credentials(String),
    /// The user may only connect from this machine.
    NotLoopback(String),
}

/// Checks the response of `connection.start-ok`.
pub(crate) fn login(link: &Link, mechanism: Mechanism, response: &[u8]) -> Result<Login, Refusal> {
    let users = &link.broker.users;
    let checked = |name: &[u8], password: &[u8]| {
        let name = std::str::from_utf8(name).ok()?;
        users.authenticate(name, password).then(|| name.to_owned())
    };
    let mut given = None;
    let check = |(name, password): (&[u8], &[u8])| {
        given = Some(String::from_utf8_lossy(name).into_owned());
        checked(name, password)
    };
    let user = match mechanism {
        Mechanism::Plain => plain(response).and_then(check),
        Mechanism::AmqPlain => amqplain(response).and_then(check),
        Mechanism::External => link
            .peer
            .tls_identity
            .clone()
            .filter(|name| users.get(name).is_some()),
        Mechanism::Anonymous => link
            .broker
            .config()
            .anonymous
            .clone()
            .filter(|name| users.get(name).is_some()),
    };
    let user = user.ok_or_else(|| Refusal::Credentials(given.unwrap_or_default()))?;
    let loopback_only = link.broker.config().loopback_users.contains(&user);
    if loopback_only && !is_loopback(link.peer.remote.ip()) {
        return Err(Refusal::NotLoopback(user));
    }
    Ok(Login { user, mechanism })
}

/// The name that a response gives, where the mechanism has one with a password.
pub(crate) fn given_name(mechanism: Mechanism, response: &[u8]) -> Option<&[u8]> {
    let (name, _) = match mechanism {
        Mechanism::Plain => plain(response)?,
        Mechanism::AmqPlain => amqplain(response)?,
        Mechanism::External | Mechanism::Anonymous => return None,
    };
    Some(name)
}

/// `authzid NUL authcid NUL password` (RFC 4616).
fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.splitn(3, |&byte| byte == 0);
    let (_authzid, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, password))
}

/// A field table without its length: LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let table = RawTable::from_encoded(response);
    let field = |name: &[u8]| match table.get(name) {
        Some(RawValue::LongString(text)) => Some(text),
        _ => None,
    };
    Some((field(b"LOGIN")?, field(b"PASSWORD")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_takes_passwords_with_any_bytes() {
        assert_eq!(
            plain(b"\0guest\0gu\0est"),
            Some((&b"guest"[..], &b"gu\0est"[..]))
        );
        assert_eq!(plain(b"\0guest"), None);
        assert_eq!(plain(b""), None);
    }
}
