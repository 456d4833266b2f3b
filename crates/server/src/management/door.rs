//! Who asks, and whether it may see what it asks for: HTTP Basic authentication against the broker's users, RabbitMQ's
//! tags, and permissions. Texts are RabbitMQ's.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use leveret_broker::inventory::LoginError;
use leveret_broker::permission::{Access, Resource};
use leveret_broker::users::User;
use leveret_broker::{Broker, Verdict};
use tokio::time::sleep;

use super::answer::Refusal;
use crate::shared::Shared;

/// Holds up whoever tries to log in after too many have failed: until it is time, or not at all where too many wait.
pub(super) async fn hold(
    shared: &Shared,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<(), Refusal> {
    let Some((name, _)) = credentials(headers) else {
        return Ok(());
    };
    let now = shared.clock.now();
    match shared.broker.consider_login(&name, from, now) {
        Verdict::Go => Ok(()),
        Verdict::Wait(until, _waiting) => {
            sleep(Duration::from_millis(until - now)).await;
            Ok(())
        }
        Verdict::Refuse => {
            tracing::warn!(user = name, %from, "HTTP access denied: too many failed logins wait already");
            Err(Refusal::TooManyLogins)
        }
    }
}

/// The user who asks.
///
/// rabbitmq: there is no way in without one of the management tags
pub(super) fn enter(shared: &Shared, headers: &HeaderMap, from: IpAddr) -> Result<User, Refusal> {
    let (name, password) = credentials(headers).ok_or(Refusal::Unauthenticated)?;
    let refused = |reason: &str| {
        tracing::warn!(user = name, %from, reason, "HTTP access denied");
        Refusal::NotAuthorised(reason.to_owned())
    };
    let now = shared.clock.now();
    match shared.broker.log_in(&name, &password, from, now) {
        Ok(user) if user.is_management() => Ok(user),
        Ok(_) => Err(refused("Not management user")),
        Err(LoginError::NotLoopback) => Err(refused("User can only log in via localhost")),
        Err(LoginError::Credentials) => {
            tracing::warn!(user = name, %from, "HTTP access denied: invalid credentials");
            Err(Refusal::Unauthenticated)
        }
    }
}

/// Name and password of HTTP Basic authentication (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let password = decoded.split_off(colon + 1);
    decoded.pop();
    Some((String::from_utf8(decoded).ok()?, password))
}

/// rabbitmq: what is in a virtual host is for those who may connect to it, for administrators and for monitors
pub(super) fn check_vhost(broker: &Broker, user: &User, vhost: &str) -> Result<(), Refusal> {
    // One that does not exist is told as such.
    if broker.vhost(vhost).is_none() || user.is_monitor() || broker.may_enter(vhost, &user.name) {
        return Ok(());
    }
    Err(Refusal::NotAuthorised(
        "User not authorised to access virtual host".to_owned(),
    ))
}

/// Checks a permission on an exchange, as for AMQP: administrators need it too. There must be one.
pub(super) fn check_exchange(
    broker: &Broker,
    user: &User,
    vhost: &str,
    access: Access,
    exchange: &str,
) -> Result<(), Refusal> {
    let there = broker
        .vhost(vhost)
        .and_then(|vhost| vhost.exchange(exchange));
    if there.is_none() {
        return Err(Refusal::NotFound);
    }
    broker
        .check_access(vhost, &user.name, access, Resource::Exchange(exchange))
        .map_err(|error| Refusal::NotAuthorised(error.text))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn of(value: &'static str) -> Option<(String, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        credentials(&headers)
    }

    #[test]
    fn basic_credentials_are_read() {
        let guest = Some(("guest".to_owned(), b"gu:est".to_vec()));
        assert_eq!(of("Basic Z3Vlc3Q6Z3U6ZXN0"), guest);
        assert_eq!(of("basic Z3Vlc3Q6Z3U6ZXN0"), guest);
        for wrong in [
            "",
            "Basic",
            "Basic !",
            "Basic Z3Vlc3Q=",
            "Bearer Z3Vlc3Q6Z3U6ZXN0",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
