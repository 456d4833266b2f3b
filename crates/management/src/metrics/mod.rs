//! Metrics in Prometheus' text format: RabbitMQ's endpoints, families and labels, and what only Leveret knows under names
//! of its own.
//!
//! | endpoint | has |
//! |---|---|
//! | `/metrics` | the broker as a whole, and sums over all queues, see `leveret_broker::census` |
//! | `/metrics/per-object` | the same of each queue, connection and channel |
//! | `/metrics/detailed?family=&vhost=&queue=` | the families that are asked for, of these |
//! | `/metrics/memory-breakdown` | where memory goes |
//!
//! They are served where nobody logs in, on a listener of their own, and beside the API for who may monitor.

mod broker;
mod connections;
mod node;
mod queues;
mod scrape;
mod select;
mod text;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::routing::get;

use crate::api::{Api, Table};
use crate::door::Monitor;
use crate::http::answer::{Answer, Refusal};
use crate::http::ask::{Ask, Reply};
use crate::http::body;
use crate::http::query::Query;
use scrape::{Endpoint, Scrape};
use select::Selection;

/// rabbitmq: as it says it
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// Who may have them, and what is asked.
trait Entry: FromRequestParts<Arc<Api>, Rejection = Refusal> + Send + 'static {
    fn into_parts(self) -> (Arc<Api>, Query);
}

impl Entry for Ask<Monitor> {
    fn into_parts(self) -> (Arc<Api>, Query) {
        (self.api, self.query)
    }
}

/// Whoever reaches the listener.
struct Anyone {
    api: Arc<Api>,
    query: Query,
}

impl FromRequestParts<Arc<Api>> for Anyone {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        Ok(Self {
            api: Arc::clone(api),
            query: Query::of(&parts.uri)?,
        })
    }
}

impl Entry for Anyone {
    fn into_parts(self) -> (Arc<Api>, Query) {
        (self.api, self.query)
    }
}

/// For who has logged in.
pub(crate) fn table() -> Table {
    endpoints::<Ask<Monitor>>()
}

/// For anybody.
pub(crate) fn open_table() -> Table {
    endpoints::<Anyone>()
}

fn endpoints<E: Entry>() -> Table {
    Table::new()
        .route("/metrics", get(aggregated::<E>))
        .route("/metrics/per-object", get(per_object::<E>))
        .route("/metrics/detailed", get(detailed::<E>))
        .route("/metrics/memory-breakdown", get(memory_breakdown::<E>))
}

async fn aggregated<E: Entry>(entry: E) -> Reply {
    let (api, _query) = entry.into_parts();
    answer(Scrape::new(api, Endpoint::Aggregated)).await
}

async fn per_object<E: Entry>(entry: E) -> Reply {
    let (api, _query) = entry.into_parts();
    answer(Scrape::new(api, Endpoint::PerObject)).await
}

async fn detailed<E: Entry>(entry: E) -> Reply {
    let (api, query) = entry.into_parts();
    let selection = Selection::of(&query)?;
    answer(Scrape::new(api, Endpoint::Detailed(selection))).await
}

async fn memory_breakdown<E: Entry>(entry: E) -> Reply {
    let (api, _query) = entry.into_parts();
    answer(Scrape::new(api, Endpoint::MemoryBreakdown)).await
}

async fn answer(scrape: Scrape) -> Result<Answer, Refusal> {
    let desk = scrape.desk();
    let body = body::built(&desk, scrape).await?;
    let mut answer = Answer::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    Ok(answer)
}
