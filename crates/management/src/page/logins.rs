//! Who is logged in on the page: a browser has a random number in a cookie that no script can read. Each request with it
//! logs in anew with what was given then, so that a password that was changed, or a user who is gone, ends it at once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::header::{COOKIE, HOST};
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::answer::Refusal;
use crate::view;

/// Each change by cookie needs this header, which no other site can have a browser send.
pub(crate) const OWN_HEADER: &str = "x-leveret";
/// So many at a time; whoever was not seen for longest is logged out for a new one.
const LOGINS_MAX: usize = 256;

/// Who was logged in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Login {
    token: String,
    pub(crate) name: String,
    pub(crate) password: Vec<u8>,
}

/// All of them, last seen last.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<Vec<Login>>);

impl Logins {
    /// A new login; answers its cookie.
    pub(crate) fn begin(
        &self,
        headers: &HeaderMap,
        name: &str,
        password: &[u8],
    ) -> Result<String, Refusal> {
        let random = view::random().map_err(Refusal::Unavailable)?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let mut logins = self.lock();
        if logins.len() >= LOGINS_MAX {
            logins.remove(0);
        }
        logins.push(Login {
            token: token.clone(),
            name: name.to_owned(),
            password: password.to_vec(),
        });
        Ok(cookie(headers, &token))
    }

    /// Who a request is from, if it has a cookie of somebody who is logged in.
    ///
    /// # Errors
    /// It would change something, and may come from another site.
    pub(crate) fn of(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Login>, Refusal> {
        let Some(token) = token(headers) else {
            return Ok(None);
        };
        let mut logins = self.lock();
        let Some(at) = logins.iter().position(|login| login.token == token) else {
            return Ok(None);
        };
        let login = logins.remove(at);
        logins.push(login.clone());
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && !headers.contains_key(OWN_HEADER) {
            return Err(Refusal::Elsewhere);
        }
        Ok(Some(login))
    }

    /// Logs the browser out; answers the cookie that takes the other's place.
    pub(crate) fn end(&self, headers: &HeaderMap) -> String {
        let token = token(headers);
        self.lock()
            .retain(|login| Some(&login.token) != token.as_ref());
        cookie(headers, "") + "; Max-Age=0"
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Login>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cookie(headers: &HeaderMap, token: &str) -> String {
    let name = cookie_name(headers);
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict")
}

/// Cookies do not know ports: two brokers on one machine need two names.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let port = host
        .and_then(|host| host.rsplit_once(':'))
        .map(|(_, port)| port);
    let port = port.filter(|port| port.parse::<u16>().is_ok());
    format!("leveret-{}", port.unwrap_or("http"))
}

fn token(headers: &HeaderMap) -> Option<String> {
    let name = cookie_name(headers);
    let lines = headers.get_all(COOKIE).iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(known, _)| *known == name);
    found.map(|(_, token)| token.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::header::HeaderValue;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost:15672"));
        let pair = cookie.split(';').next().unwrap_or_default();
        headers.insert(
            COOKIE,
            HeaderValue::from_str(&format!("a=b; {pair}")).unwrap(),
        );
        headers
    }

    #[test]
    fn a_browser_is_known_until_it_logs_out() {
        let logins = Logins::default();
        let cookie = logins.begin(&headers(""), "ada", b"secret").unwrap();
        assert!(cookie.contains("; HttpOnly; SameSite=Strict"));
        let browser = headers(&cookie);
        let who = |headers: &HeaderMap| logins.of(&Method::GET, headers).unwrap();
        assert_eq!(who(&browser).map(|it| it.name).as_deref(), Some("ada"));
        assert_eq!(who(&headers("leveret-15672=")), None);
        assert_eq!(who(&headers("leveret-15673=x")), None);
        logins.end(&browser);
        assert_eq!(who(&browser), None);
    }

    #[test]
    fn another_site_changes_nothing() {
        let logins = Logins::default();
        let cookie = logins.begin(&headers(""), "ada", b"secret").unwrap();
        let mut browser = headers(&cookie);
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(logins.of(&method, &browser), Err(Refusal::Elsewhere));
        }
        browser.insert(OWN_HEADER, HeaderValue::from_static("page"));
        assert!(logins.of(&Method::POST, &browser).unwrap().is_some());
    }

    #[test]
    fn who_was_not_seen_for_longest_makes_room() {
        let logins = Logins::default();
        let begin = || headers(&logins.begin(&headers(""), "ada", b"secret").unwrap());
        let (first, second) = (begin(), begin());
        let who = |headers: &HeaderMap| logins.of(&Method::GET, headers).unwrap();
        assert!(who(&first).is_some());
        for _ in 2..=LOGINS_MAX {
            begin();
        }
        assert!(who(&first).is_some() && who(&second).is_none());
    }
}
