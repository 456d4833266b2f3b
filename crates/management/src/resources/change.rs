//! Changes of what an administrator sets: carried out as a definitions file of one thing is, which checks all of it
//! first, and answered when they are durable.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;

use crate::api::Api;
use crate::http::answer::{Answer, Refusal, empty, no_content};
use crate::http::ask::Reply;
use crate::view::{CommitPoint, View};

/// How long a change may take to be durable before the client is told that it is not yet.
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// Carries out definitions.
pub(super) async fn import(api: &Arc<Api>, definitions: &Value) -> Result<(), Refusal> {
    import_text(api, definitions.to_string().into_bytes()).await
}

/// Carries out definitions that are still text.
pub(super) async fn import_text(api: &Arc<Api>, text: Vec<u8>) -> Result<(), Refusal> {
    let view = api.view.clone();
    let imported = api.desk.work(move || view.import(&text)).await?;
    durable(&api.view, imported.map_err(Refusal::bad)?).await
}

/// Answers what was taken away, or that there was none.
pub(super) async fn taken(view: &View, point: Option<CommitPoint>) -> Reply {
    durable(view, point.ok_or(Refusal::NotFound)?).await?;
    Ok(no_content())
}

/// 201 for what is new, 204 for what was there.
pub(super) fn set(was_there: bool) -> Answer {
    empty(if was_there {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CREATED
    })
}

/// Waits until everything up to `point` is on stable storage.
pub(super) async fn durable(view: &View, point: CommitPoint) -> Result<(), Refusal> {
    let durable = poll_fn(|task| {
        if view.wake_when_durable(point, task.waker()) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    let waited = tokio::time::timeout(DURABLE_WITHIN, durable).await;
    waited.map_err(|_| {
        Refusal::Unavailable(
            "done, but not on stable storage yet: the disk is full or very slow".to_owned(),
        )
    })
}
