//! What a user does by AMQP: declares, binds, deletes, publishes, takes.

use leveret_codec::protocol::{basic, confirm, exchange, queue};
use leveret_codec::{AMQPClass, AMQPProperties, FieldTable, ShortString, encode_header};

use super::inside::{Inside, Refused, Said, short};
use super::{Caller, View};

/// So much of the bodies of messages is taken out at a time.
const TAKEN_BYTES_MAX: usize = 64 << 20;

/// A queue to declare.
pub(crate) struct QueueSpec {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: FieldTable,
}

/// An exchange to declare.
pub(crate) struct ExchangeSpec {
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: FieldTable,
}

/// A binding to add or to remove.
pub(crate) struct BindingSpec {
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) to_exchange: bool,
    pub(crate) routing_key: String,
    pub(crate) arguments: FieldTable,
}

/// How messages are taken from a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// At most so many.
    pub(crate) count: usize,
    /// So much of each body; None: all.
    pub(crate) truncate: Option<usize>,
    /// What becomes of them.
    pub(crate) then: Then,
}

/// What becomes of messages that were taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    /// They are gone.
    Acknowledge,
    /// They go back where they were.
    Requeue,
    /// They are rejected, which may make dead letters of them.
    Reject,
}

/// A message that was taken.
pub(crate) struct Got {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) redelivered: bool,
    /// Messages left in the queue behind it.
    pub(crate) message_count: u32,
    /// The payload of the content header.
    pub(crate) header: Vec<u8>,
    pub(crate) body_bytes: u64,
    /// As much of the body as is wanted.
    pub(crate) body: Vec<u8>,
}

impl View {
    /// Declares a queue.
    pub(crate) async fn declare_queue(
        &self,
        by: &Caller,
        vhost: &str,
        name: &str,
        spec: QueueSpec,
    ) -> Result<(), Refused> {
        let method = queue::AMQPMethod::Declare(queue::Declare {
            queue: short(name)?,
            passive: false,
            durable: spec.durable,
            exclusive: spec.exclusive,
            auto_delete: spec.auto_delete,
            nowait: false,
            arguments: spec.arguments,
        });
        self.once(by, vhost, AMQPClass::Queue(method)).await
    }

    /// Deletes a queue.
    pub(crate) async fn delete_queue(
        &self,
        by: &Caller,
        vhost: &str,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(), Refused> {
        let method = queue::AMQPMethod::Delete(queue::Delete {
            queue: short(name)?,
            if_unused,
            if_empty,
            nowait: false,
        });
        self.once(by, vhost, AMQPClass::Queue(method)).await
    }

    /// Empties a queue.
    pub(crate) async fn purge_queue(
        &self,
        by: &Caller,
        vhost: &str,
        name: &str,
    ) -> Result<(), Refused> {
        let method = queue::AMQPMethod::Purge(queue::Purge {
            queue: short(name)?,
            nowait: false,
        });
        self.once(by, vhost, AMQPClass::Queue(method)).await
    }

    /// Declares an exchange.
    pub(crate) async fn declare_exchange(
        &self,
        by: &Caller,
        vhost: &str,
        name: &str,
        spec: ExchangeSpec,
    ) -> Result<(), Refused> {
        let method = exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: short(name)?,
            kind: short(&spec.kind)?,
            passive: false,
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            nowait: false,
            arguments: spec.arguments,
        });
        self.once(by, vhost, AMQPClass::Exchange(method)).await
    }

    /// Deletes an exchange.
    pub(crate) async fn delete_exchange(
        &self,
        by: &Caller,
        vhost: &str,
        name: &str,
        if_unused: bool,
    ) -> Result<(), Refused> {
        let method = exchange::AMQPMethod::Delete(exchange::Delete {
            exchange: short(name)?,
            if_unused,
            nowait: false,
        });
        self.once(by, vhost, AMQPClass::Exchange(method)).await
    }

    /// Adds a binding.
    pub(crate) async fn bind(
        &self,
        by: &Caller,
        vhost: &str,
        spec: BindingSpec,
    ) -> Result<(), Refused> {
        let (source, destination) = (short(&spec.source)?, short(&spec.destination)?);
        let routing_key = short(&spec.routing_key)?;
        let arguments = spec.arguments;
        let method = if spec.to_exchange {
            AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
                destination,
                source,
                routing_key,
                nowait: false,
                arguments,
            }))
        } else {
            AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                queue: destination,
                exchange: source,
                routing_key,
                nowait: false,
                arguments,
            }))
        };
        self.once(by, vhost, method).await
    }

    /// Removes a binding.
    pub(crate) async fn unbind(
        &self,
        by: &Caller,
        vhost: &str,
        spec: BindingSpec,
    ) -> Result<(), Refused> {
        let (source, destination) = (short(&spec.source)?, short(&spec.destination)?);
        let routing_key = short(&spec.routing_key)?;
        let arguments = spec.arguments;
        let method = if spec.to_exchange {
            AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
                destination,
                source,
                routing_key,
                nowait: false,
                arguments,
            }))
        } else {
            AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
                queue: destination,
                exchange: source,
                routing_key,
                arguments,
            }))
        };
        self.once(by, vhost, method).await
    }

    /// Publishes a message and waits until it is confirmed; answers whether it reached a queue.
    pub(crate) async fn publish(
        &self,
        by: &Caller,
        vhost: &str,
        names: (&str, &str),
        properties: &AMQPProperties,
        body: &[u8],
    ) -> Result<bool, Refused> {
        let publish = AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
            exchange: short(names.0)?,
            routing_key: short(names.1)?,
            mandatory: true,
            immediate: false,
        }));
        let mut inside = Inside::open(self, by, vhost).await?;
        let routed = publish_on(&mut inside, &publish, properties, body).await;
        inside.close().await;
        routed
    }

    /// Takes messages from a queue; those that are to be given back are back when this answers.
    pub(crate) async fn take(
        &self,
        by: &Caller,
        vhost: &str,
        queue: &str,
        take: Take,
    ) -> Result<Vec<Got>, Refused> {
        let queue = short(queue)?;
        let mut inside = Inside::open(self, by, vhost).await?;
        let got = take_on(&mut inside, &queue, take).await;
        inside.close().await;
        got
    }

    /// Does one thing on a connection for it alone.
    async fn once(&self, by: &Caller, vhost: &str, method: AMQPClass) -> Result<(), Refused> {
        let mut inside = Inside::open(self, by, vhost).await?;
        let answer = inside.call(method).await;
        inside.close().await;
        answer.map(drop)
    }
}

async fn publish_on(
    inside: &mut Inside,
    publish: &AMQPClass,
    properties: &AMQPProperties,
    body: &[u8],
) -> Result<bool, Refused> {
    let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
    inside.call(AMQPClass::Confirm(select)).await?;
    inside.tell(publish);
    let header = encode_header(body.len() as u64, properties);
    inside.tell_content(&header, body);
    let mut returned = false;
    loop {
        match inside.next().await? {
            Said::Confirmed(true) => return Ok(!returned),
            // rabbitmq: what a queue does not take counts as not routed
            Said::Confirmed(false) => return Ok(false),
            Said::Method(method) => {
                returned |= matches!(*method, AMQPClass::Basic(basic::AMQPMethod::Return(_)));
            }
            // Of the message that is returned.
            Said::Header(_) | Said::Body(_) => {}
        }
    }
}

async fn take_on(
    inside: &mut Inside,
    queue: &ShortString,
    take: Take,
) -> Result<Vec<Got>, Refused> {
    let (mut taken, mut bytes, mut last_tag) = (Vec::new(), 0, 0);
    while taken.len() < take.count && bytes < TAKEN_BYTES_MAX {
        let get = basic::AMQPMethod::Get(basic::Get {
            queue: queue.clone(),
            no_ack: take.then == Then::Acknowledge,
        });
        let answer = inside.call(AMQPClass::Basic(get)).await?;
        let AMQPClass::Basic(basic::AMQPMethod::GetOk(found)) = answer else {
            break;
        };
        let got = content(inside, &found, take.truncate).await?;
        bytes += got.body.len();
        taken.push(got);
        last_tag = found.delivery_tag;
    }
    // All at once at the end: what went back before would be taken again.
    if last_tag > 0 && take.then != Then::Acknowledge {
        let nack = basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag: last_tag,
            multiple: true,
            requeue: take.then == Then::Requeue,
        });
        inside.tell(&AMQPClass::Basic(nack));
    }
    Ok(taken)
}

/// Reads the content behind `get-ok`.
async fn content(
    inside: &mut Inside,
    found: &basic::GetOk,
    truncate: Option<usize>,
) -> Result<Got, Refused> {
    let Said::Header(header) = inside.next().await? else {
        return Err(Refused::Late);
    };
    let size = header.get(4..12).and_then(|size| size.try_into().ok());
    let body_bytes = size.map(u64::from_be_bytes).ok_or(Refused::Late)?;
    let most = truncate.unwrap_or(usize::MAX);
    let (mut body, mut read) = (Vec::new(), 0);
    while read < body_bytes {
        let Said::Body(part) = inside.next().await? else {
            return Err(Refused::Late);
        };
        read += part.len() as u64;
        let wanted = part.len().min(most - body.len());
        body.extend_from_slice(part.get(..wanted).unwrap_or_default());
    }
    Ok(Got {
        exchange: found.exchange.to_string(),
        routing_key: found.routing_key.to_string(),
        redelivered: found.redelivered,
        message_count: found.message_count,
        header,
        body_bytes,
        body,
    })
}
