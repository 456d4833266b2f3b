//! From a request to its answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request};
use leveret_broker::Broker;
use leveret_broker::permission::Access;
use leveret_broker::users::User;
use leveret_broker::vhost::VirtualHost;
use serde_json::Value;

use super::answer::{Answer, Refusal, json_of, no_content};
use super::exchanges::{self, ExchangeItem};
use super::list::{self, Item, broken};
use super::query::Query;
use super::queues::{self, QueueItem};
use super::route::{self, Resource};
use super::{Management, delayed, door, overview};

/// Answers one request. Its body is not read: nothing here takes one, and hyper closes the connection after the answer if
/// one is on its way.
pub(super) async fn answer(
    management: &Arc<Management>,
    from: IpAddr,
    request: &Request<Incoming>,
) -> Result<Answer, Infallible> {
    let answered = try_answer(management, from, request).await;
    Ok(answered.unwrap_or_else(Answer::from))
}

async fn try_answer(
    management: &Arc<Management>,
    from: IpAddr,
    request: &Request<Incoming>,
) -> Result<Answer, Refusal> {
    let broker = &management.shared.broker;
    let user = door::enter(&management.shared, request.headers(), from)?;
    let resource = route::parse(request.uri().path())?;
    let query = Query::parse(request.uri().query())?;
    if let Some(vhost) = resource.vhost() {
        door::check_vhost(broker, &user, vhost)?;
    }
    match *request.method() {
        Method::GET | Method::HEAD => get(management, user, resource, &query).await,
        Method::DELETE => delete(management, &user, resource).await,
        Method::PUT | Method::POST => Err(unsupported(&resource)),
        _ => Err(Refusal::MethodNotAllowed(methods(&resource))),
    }
}

/// What can be done with a resource.
fn methods(resource: &Resource) -> &'static str {
    match resource {
        Resource::DelayedMessage { .. } => "DELETE",
        _ => "GET, HEAD",
    }
}

/// A method that is not there: RabbitMQ has it, or nobody.
fn unsupported(resource: &Resource) -> Refusal {
    match resource {
        Resource::Queue { .. } | Resource::Exchange { .. } => Refusal::NotImplemented(
            "queues and exchanges are declared and deleted by AMQP, not by HTTP yet".to_owned(),
        ),
        _ => Refusal::MethodNotAllowed(methods(resource)),
    }
}

async fn get(
    management: &Arc<Management>,
    user: User,
    resource: Resource,
    query: &Query,
) -> Result<Answer, Refusal> {
    let broker = Arc::clone(&management.shared.broker);
    let (desk, now) = (&management.desk, management.shared.clock.now());
    match resource {
        Resource::Overview => {
            let columns = query.columns();
            let management = Arc::clone(management);
            let shown = desk.work(move || columns.cut(overview::show(&management, &user)));
            shown.await.map(|shown| json_of(&shown)).ok_or_else(broken)
        }
        Resource::Queues(vhost) => {
            let vhosts = vhosts(management, &user, vhost.as_deref())?;
            let collect = move || queues::of(&vhosts, &node(&broker), now);
            list::answer(desk, query.list()?, collect).await
        }
        Resource::Exchanges(vhost) => {
            let vhosts = vhosts(management, &user, vhost.as_deref())?;
            let collect = move || exchanges::of(&broker, &vhosts);
            list::answer(desk, query.list()?, collect).await
        }
        Resource::Queue { vhost, name } => {
            let vhost = broker.vhost(&vhost).ok_or(Refusal::NotFound)?;
            let queue = vhost.queue(&name).map_err(|_| Refusal::NotFound)?;
            let node = node(&broker);
            let item = QueueItem {
                vhost,
                queue,
                node,
                now,
            };
            one(management, item, query).await
        }
        Resource::Exchange { vhost, name } => {
            let vhost = broker.vhost(&vhost).ok_or(Refusal::NotFound)?;
            let item = ExchangeItem {
                broker,
                vhost,
                name,
            };
            one(management, item, query).await
        }
        Resource::DelayedMessages { vhost, exchange } => {
            door::check_exchange(&broker, &user, &vhost, Access::Read, &exchange)?;
            let part = delayed::Part::parse(query)?;
            let list = move || delayed::list(&broker, &vhost, &exchange, part, now);
            desk.work(list)
                .await
                .ok_or_else(broken)?
                .map(|it| json_of(&it))
        }
        Resource::DelayedMessage { .. } => Err(Refusal::MethodNotAllowed(methods(&resource))),
    }
}

/// The virtual hosts whose lists a user gets: one by name, or all it may connect to; a monitor gets all there are.
fn vhosts(
    management: &Management,
    user: &User,
    name: Option<&str>,
) -> Result<Vec<Arc<VirtualHost>>, Refusal> {
    let broker = &management.shared.broker;
    match name {
        Some(name) => Ok(vec![broker.vhost(name).ok_or(Refusal::NotFound)?]),
        None => {
            let mut vhosts = broker.vhosts();
            vhosts.retain(|vhost| user.is_monitor() || broker.may_enter(vhost.name(), &user.name));
            Ok(vhosts)
        }
    }
}

/// What this node is called. There is but one, which is the cluster.
fn node(broker: &Broker) -> Arc<str> {
    Arc::from(broker.config().cluster_name.as_str())
}

/// Answers one thing.
async fn one(management: &Management, item: impl Item, query: &Query) -> Result<Answer, Refusal> {
    let columns = query.columns();
    let show = move || item.show().map(|shown: Value| columns.cut(shown));
    let shown = management.desk.work(show).await.ok_or_else(broken)?;
    shown.map(|shown| json_of(&shown)).ok_or(Refusal::NotFound)
}

async fn delete(
    management: &Arc<Management>,
    user: &User,
    resource: Resource,
) -> Result<Answer, Refusal> {
    let Resource::DelayedMessage {
        vhost,
        exchange,
        id,
    } = resource
    else {
        return Err(unsupported(&resource));
    };
    let broker = Arc::clone(&management.shared.broker);
    // As for deleting the exchange, which takes all of them.
    door::check_exchange(&broker, user, &vhost, Access::Configure, &exchange)?;
    tracing::info!(
        vhost,
        exchange,
        id,
        user = user.name,
        "cancelling a delayed message"
    );
    let cancel = {
        let broker = Arc::clone(&broker);
        move || delayed::cancel(&broker, &vhost, &exchange, id)
    };
    let point = management.desk.work(cancel).await.ok_or_else(broken)??;
    delayed::durable(&broker, point).await?;
    Ok(no_content())
}
