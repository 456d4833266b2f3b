//! Who asks, and whether it may see what it asks for: HTTP Basic authentication against the broker's users, or the
//! page's cookie, RabbitMQ's tags, and permissions. Texts are RabbitMQ's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::sleep;

use crate::api::Api;
use crate::http::answer::Refusal;
use crate::view::{Access, Caller, LoginError, User, Verdict, View};

/// The address a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From(pub(crate) SocketAddr);

/// What somebody must be to be answered.
pub(crate) trait Level: Send + 'static {
    /// Refuses who is not.
    fn check(user: &User) -> Result<(), Refusal>;
}

/// Anybody with one of the tags of the API.
pub(crate) struct Management;

impl Level for Management {
    fn check(user: &User) -> Result<(), Refusal> {
        demand(user, user.is_management(), "Not management user")
    }
}

/// Who may see what concerns all virtual hosts.
pub(crate) struct Monitor;

impl Level for Monitor {
    fn check(user: &User) -> Result<(), Refusal> {
        demand(user, user.is_monitor(), "Not monitor user")
    }
}

/// Who may set policies.
pub(crate) struct Policymaker;

impl Level for Policymaker {
    fn check(user: &User) -> Result<(), Refusal> {
        let is_one = user.is_policymaker() || user.is_administrator();
        demand(user, is_one, "User not authorised to access object")
    }
}

/// Who may do all.
pub(crate) struct Administrator;

impl Level for Administrator {
    fn check(user: &User) -> Result<(), Refusal> {
        demand(user, user.is_administrator(), "Not administrator user")
    }
}

fn demand(user: &User, is_one: bool, text: &str) -> Result<(), Refusal> {
    if is_one {
        return Ok(());
    }
    tracing::warn!(user = user.name, reason = text, "HTTP access denied");
    Err(Refusal::NotAuthorised(text.to_owned()))
}

/// Holds up whoever tries to log in after too many have failed: until it is time, or not at all where too many wait.
pub(crate) async fn hold(view: &View, headers: &HeaderMap, from: IpAddr) -> Result<(), Refusal> {
    let Some((name, _)) = credentials(headers) else {
        return Ok(());
    };
    take_turn(view, &name, from).await
}

/// The same for somebody of this name.
pub(crate) async fn take_turn(view: &View, name: &str, from: IpAddr) -> Result<(), Refusal> {
    let now = view.now();
    match view.consider_login(name, from) {
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
pub(crate) fn enter(api: &Api, parts: &Parts) -> Result<Caller, Refusal> {
    let from = parts.extensions.get::<From>().copied();
    let from = from.ok_or(Refusal::Unauthenticated)?;
    if let Some((name, password)) = credentials(&parts.headers) {
        return log_in(&api.view, &name, password, from);
    }
    let known = api.logins.of(&parts.method, &parts.headers)?;
    let known = known.ok_or(Refusal::Unauthenticated)?;
    let entered = log_in(&api.view, &known.name, known.password, from);
    if entered.is_err() {
        // What was given then is of no use any more.
        api.logins.end(&parts.headers);
    }
    entered
}

/// The user of that name and password.
pub(crate) fn log_in(
    view: &View,
    name: &str,
    password: Vec<u8>,
    from: From,
) -> Result<Caller, Refusal> {
    let refused = |reason: &str| {
        tracing::warn!(user = name, from = %from.0.ip(), reason, "HTTP access denied");
        Refusal::NotAuthorised(reason.to_owned())
    };
    match view.log_in(name, password, from.0) {
        Ok(caller) if caller.user.is_management() => Ok(caller),
        Ok(_) => Err(refused("Not management user")),
        Err(LoginError::NotLoopback) => Err(refused("User can only log in via localhost")),
        Err(LoginError::Credentials) => {
            tracing::warn!(user = name, from = %from.0.ip(), "HTTP access denied: invalid credentials");
            Err(Refusal::Unauthenticated)
        }
    }
}

/// Who somebody claims to be, or is by the page's cookie.
pub(crate) fn claimed_name(api: &Api, method: &Method, headers: &HeaderMap) -> Option<String> {
    if let Some((name, _)) = credentials(headers) {
        return Some(name);
    }
    let known = api.logins.of(method, headers).ok().flatten();
    known.map(|known| known.name)
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
pub(crate) fn check_vhost(view: &View, user: &User, vhost: &str) -> Result<(), Refusal> {
    // One that does not exist is told as such.
    if !view.has_vhost(vhost) || user.is_monitor() || view.may_enter(vhost, user) {
        return Ok(());
    }
    Err(Refusal::NotAuthorised(
        "User not authorised to access virtual host".to_owned(),
    ))
}

/// rabbitmq: what belongs to a connection is for its user, and for monitors to see
pub(crate) fn check_owner(user: &User, owner: &str) -> Result<(), Refusal> {
    match user.is_monitor() {
        true => Ok(()),
        false => check_owner_only(user, owner),
    }
}

/// As [`check_owner`], to change it.
pub(crate) fn check_owner_only(user: &User, owner: &str) -> Result<(), Refusal> {
    if user.name == owner || user.is_administrator() {
        return Ok(());
    }
    Err(Refusal::NotAuthorised(
        "User not authorised to access object".to_owned(),
    ))
}

/// Checks a permission on an exchange, as for AMQP: administrators need it too. There must be one.
pub(crate) fn check_exchange(
    view: &View,
    user: &User,
    vhost: &str,
    access: Access,
    exchange: &str,
) -> Result<(), Refusal> {
    if !view.has_exchange(vhost, exchange) {
        return Err(Refusal::NotFound);
    }
    view.check_exchange(vhost, user, access, exchange)
        .map_err(Refusal::NotAuthorised)
}

#[cfg(test)]
mod tests {
    use axum::http::header::HeaderValue;

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
