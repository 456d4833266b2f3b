//! Sends spans to a collector, by OTLP over HTTP with JSON. One task, which sleeps until there are some; what a collector
//! does not take is lost, and told in the log.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use leveret_broker::Broker;
use leveret_broker::spans::{Role, Said, Span, Spans};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::config::values::OtlpEndpoint;

/// Spans sent at once.
const SPANS_MAX: usize = 512;
/// How long spans are gathered.
const GATHERED: Duration = Duration::from_millis(200);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure nothing is sent for so long.
const PAUSE: Duration = Duration::from_secs(5);

/// Rung when there is something to send.
#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Refused(hyper::StatusCode),
    #[error("it did not answer in time")]
    Late,
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
}

/// Watches messages of traces and sends what is seen, for good. To be spawned.
pub(crate) async fn send_spans(endpoint: OtlpEndpoint, broker: Arc<Broker>) {
    let bell = Arc::<Bell>::default();
    let spans = Arc::<Spans>::default();
    spans.set_waker(Waker::from(Arc::clone(&bell)));
    broker.watch(Arc::clone(&spans));
    let resource = resource(&broker.config().cluster_name);
    tracing::info!(endpoint = %endpoint, "messages of sampled traces are watched");
    loop {
        bell.0.notified().await;
        sleep(GATHERED).await;
        loop {
            let (taken, lost) = spans.take(SPANS_MAX);
            if lost > 0 {
                tracing::warn!(lost, "spans were lost: the collector takes them too slowly");
            }
            if taken.is_empty() {
                break;
            }
            let count = taken.len();
            let body = body(&resource, &taken);
            let sent = timeout(PATIENCE, post(&endpoint, body)).await;
            if let Err(error) = sent.unwrap_or(Err(SendError::Late)) {
                tracing::warn!(lost = count, endpoint = %endpoint, %error, "spans were lost: they cannot be sent");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn post(endpoint: &OtlpEndpoint, body: Bytes) -> Result<(), SendError> {
    let socket = TcpStream::connect((endpoint.host(), endpoint.port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::post(&endpoint.path)
        .header(HOST, &endpoint.authority)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(Full::new(body))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(SendError::Refused(status)),
        }
    };
    // The connection is driven until the answer's head is here; then both are done with.
    tokio::select! {
        answer = answer => answer,
        ended = connection => match ended {
            Ok(()) => Err(SendError::Late),
            Err(error) => Err(error.into()),
        },
    }
}

/// What all spans are of.
fn resource(cluster: &str) -> Value {
    let attributes = [
        ("service.name", "leveret"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", cluster),
    ];
    let attributes =
        attributes.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    json!({"attributes": attributes})
}

/// The request. Identities are hexadecimal and 64-bit numbers texts, as OTLP's JSON has them.
fn body(resource: &Value, spans: &[Span]) -> Bytes {
    let spans: Value = spans.iter().map(show).collect();
    let scope = json!({"name": "leveret", "version": env!("CARGO_PKG_VERSION")});
    let request = json!({"resourceSpans": [{
        "resource": resource,
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]});
    Bytes::from(request.to_string())
}

fn show(span: &Span) -> Value {
    let kind = match span.role {
        Role::Inside => 1,
        Role::Takes => 2,
        Role::Gives => 4,
    };
    let said = span.said.iter().map(|(key, value)| {
        let value = match value {
            Said::Text(text) => json!({"stringValue": text}),
            Said::Number(number) => json!({"intValue": number.to_string()}),
        };
        json!({"key": key, "value": value})
    });
    let system = json!({"key": "messaging.system", "value": {"stringValue": "rabbitmq"}});
    let attributes: Value = std::iter::once(system).chain(said).collect();
    json!({
        "traceId": format!("{:032x}", span.place.trace),
        "spanId": format!("{:016x}", span.place.span),
        "parentSpanId": format!("{:016x}", span.parent),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": format!("{}000000", span.begin.0),
        "endTimeUnixNano": format!("{}000000", span.end.0),
        "attributes": attributes,
    })
}

#[cfg(test)]
mod tests {
    use leveret_broker::spans::Place;
    use leveret_message::Timestamp;

    use super::*;

    #[test]
    fn spans_are_shown_as_otlp_has_them() {
        let span = Span {
            place: Place {
                trace: 0xabc,
                span: 1,
            },
            parent: 2,
            name: "publish x".to_owned(),
            role: Role::Takes,
            begin: Timestamp(1_700_000_000_000),
            end: Timestamp(1_700_000_000_005),
            said: vec![("leveret.queues", Said::Number(3))],
        };
        let body = body(&resource("c"), &[span]);
        let request: Value = serde_json::from_slice(&body).unwrap();
        let shown = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(shown["traceId"], "00000000000000000000000000000abc");
        assert_eq!(
            (&shown["spanId"], &shown["parentSpanId"]),
            (&json!("0000000000000001"), &json!("0000000000000002"))
        );
        assert_eq!(shown["endTimeUnixNano"], "1700000000005000000");
        assert_eq!(shown["attributes"][1]["value"]["intValue"], "3");
    }
}
