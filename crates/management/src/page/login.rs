//! Logging in and out on the page.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::{HeaderValue, SET_COOKIE};
use axum::routing::get;
use serde_json::json;

use super::logins::OWN_HEADER;
use crate::api::{Api, Table};
use crate::door;
use crate::http::answer::{Answer, Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::User;

pub(crate) fn table() -> Table {
    Table::new().route("/api/leveret/login", get(who).post(log_in).delete(log_out))
}

async fn who(ask: Ask) -> Reply {
    Ok(show(&ask.caller.user))
}

fn show(user: &User) -> Answer {
    json_of(&json!({"name": user.name, "tags": user.tags}))
}

async fn log_in(
    State(api): State<Arc<Api>>,
    Extension(from): Extension<door::From>,
    headers: HeaderMap,
    fields: Fields,
) -> Reply {
    // Another site could log a browser in as somebody else.
    if !headers.contains_key(OWN_HEADER) {
        return Err(Refusal::Elsewhere);
    }
    let name = fields.text("name")?.unwrap_or_default();
    let password = fields.text("password")?.unwrap_or_default().as_bytes();
    door::take_turn(&api.view, name, from.0.ip()).await?;
    let caller = door::log_in(&api.view, name, password.to_vec(), from)?;
    let cookie = api.logins.begin(&headers, name, password)?;
    with_cookie(show(&caller.user), &cookie)
}

async fn log_out(State(api): State<Arc<Api>>, headers: HeaderMap) -> Reply {
    if !headers.contains_key(OWN_HEADER) {
        return Err(Refusal::Elsewhere);
    }
    with_cookie(no_content(), &api.logins.end(&headers))
}

fn with_cookie(mut answer: Answer, cookie: &str) -> Reply {
    let cookie = HeaderValue::from_str(cookie).map_err(|_| Refusal::broken())?;
    answer.headers_mut().insert(SET_COOKIE, cookie);
    Ok(answer)
}
