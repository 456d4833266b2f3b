//! Where a publish goes.

use leveret_access::grant::Grant;
use leveret_access::permission::{Access, Resource};
use leveret_broker::vhost::{Targets, carbon_copies};
use leveret_codec::{ContentHeader, ReplyCode, split_names};
use leveret_deduplication::Number;
use leveret_message::error::{ChannelError, Failure};
use leveret_queue::shortcuts::Shortcut;
use leveret_routing::QueueId;

use super::Publishing;
use crate::assembly::WholePublish;
use crate::route_cache::RouteNumber;

/// Where a publish goes.
pub(super) enum Way {
    /// To the same queues as the publish before it.
    AsBefore,
    /// Along a known route.
    Known(RouteNumber),
    /// To these, like every publish with the same names.
    ByNames(Targets),
    /// To these; the next one with the same names may go elsewhere.
    ThisOnce(Targets),
    /// To very many, in steps.
    Wide(Vec<QueueId>),
    /// Past exchanges that keep something, or by its producer's number.
    Stateful(Box<StatefulTargets>),
}

/// What is known of a way that is decided for each message by itself.
pub(super) struct StatefulTargets {
    /// Its queues if all exchanges let it pass.
    pub(super) targets: Targets,
    /// What its producer says.
    pub(super) number: Option<Number>,
}

impl Publishing {
    /// Where a publish goes, if its sender may send it there.
    #[inline]
    pub(super) fn way(&mut self, whole: &WholePublish<'_>, grant: &Grant) -> Result<Way, Failure> {
        let names = whole.names;
        let headers = whole.header.properties.headers;
        let is_copied = headers
            .is_some_and(|headers| headers.get(b"CC").is_some() || headers.get(b"BCC").is_some());
        let by_names = !is_copied && Shortcut::KnownRoutes.is_open();
        if by_names {
            if !names.is_empty() && self.batch.latest_names == names {
                return Ok(Way::AsBefore);
            }
            if let Some(route) = self.routes.get(names, whole.behind) {
                return Ok(Way::Known(route));
            }
        }
        self.look_up(names, whole.header, grant, by_names)
    }

    #[inline(never)]
    fn look_up(
        &mut self,
        names: &[u8],
        header: &ContentHeader<'_>,
        grant: &Grant,
        by_names: bool,
    ) -> Result<Way, Failure> {
        let (exchange, routing_key) = split_names(names).unwrap_or_default();
        let name = String::from_utf8_lossy(exchange);
        grant.check(Access::Write, Resource::Exchange(&name))?;
        if grant.restricts_topics(&name) && self.vhost.has_topic_exchange(&name) {
            check_topics(grant, &name, routing_key, header)?;
        }
        let random = self.batch.next_random();
        let routed =
            self.vhost
                .route(exchange, routing_key, header, random, &mut self.batch.route)?;
        if routed.stateful {
            let (targets, number) = (routed.targets, None);
            return Ok(Way::Stateful(Box::new(StatefulTargets { targets, number })));
        }
        if routed.wide {
            let queues = std::mem::take(&mut self.batch.route.queues).into_vec();
            return Ok(Way::Wide(queues));
        }
        if routed.cacheable && !routed.targets.is_empty() && by_names {
            self.routes.insert(names, &routed.targets);
            self.let_forgotten_go();
            return Ok(Way::ByNames(routed.targets));
        }
        Ok(Way::ThisOnce(routed.targets))
    }

    /// The queues at the end of a way.
    pub(super) fn targets(&self, way: &Way) -> Targets {
        match way {
            Way::AsBefore => self.batch.latest_queues(),
            Way::Known(route) => self.routes.targets(*route).into(),
            Way::Wide(queues) => self.vhost.handles(queues),
            Way::ByNames(targets) | Way::ThisOnce(targets) => targets.clone(),
            Way::Stateful(stateful) => stateful.targets.clone(),
        }
    }
}

/// Whether there is no way for the exchange's sake, not for that of the headers.
pub(super) fn is_about_exchange(way: &Result<Way, Failure>) -> bool {
    match way {
        Ok(_) => false,
        Err(Failure::Channel(error)) => error.code != ReplyCode::PreconditionFailed,
        Err(_) => true,
    }
}

/// Checks every routing key of a publish, those in CC and BCC too.
fn check_topics(
    grant: &Grant,
    exchange: &str,
    routing_key: &[u8],
    header: &ContentHeader<'_>,
) -> Result<(), ChannelError> {
    let copies = carbon_copies(header.properties.headers)?;
    for key in std::iter::once(routing_key).chain(copies) {
        grant.check_topic(Access::Write, exchange, key)?;
    }
    Ok(())
}
