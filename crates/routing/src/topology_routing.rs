//! The data plane of the topology: which queues a message goes to.

use crate::exchange::Exchange;
use crate::route::{Route, RouteInput};
use crate::topology::Topology;

impl Topology {
    /// Finds the queues that a message published to `exchange` goes to, each once, along
    /// exchange-to-exchange bindings and alternate exchanges, cycles included. False, and an empty
    /// route, when there is no such exchange.
    pub fn route(&self, exchange: &str, input: &RouteInput<'_>, route: &mut Route) -> bool {
        self.route_past(exchange, input, route, &mut |_| true)
    }

    /// As [`Self::route`], and asks `goes_on` at each exchange that
    /// [is stateful](crate::Exchange::is_stateful). Where it says no the message ends, as far as
    /// this exchange is concerned: neither its bindings nor its alternate exchange see it. That is how
    /// the broker delays messages, drops duplicates, and keeps a recent history, also where such an
    /// exchange is reached through another.
    pub fn route_past(
        &self,
        exchange: &str,
        input: &RouteInput<'_>,
        route: &mut Route,
        goes_on: &mut dyn FnMut(&Exchange) -> bool,
    ) -> bool {
        let Some(start) = self.index(exchange) else {
            route.clear();
            return false;
        };
        route.begin(start);
        route.cacheable = input.more_keys.is_empty();
        let mut position = 0;
        while let Some(at) = route.reached(position) {
            position += 1;
            let Some(node) = self.node(at).filter(|it| !it.leaving) else {
                continue;
            };
            route.cacheable &= !node.stateful && node.matcher.is_cacheable();
            if node.stateful && !goes_on(&node.exchange) {
                continue;
            }
            // rabbitmq: the alternate exchange is for what this exchange's own bindings did not take,
            // whatever other exchanges did with the message.
            if !node.matcher.collect(input, at, route)
                && let Some(alternate) = node
                    .exchange
                    .alternate
                    .as_deref()
                    .and_then(|name| self.index(name))
            {
                route.visit(alternate);
            }
        }
        true
    }
}
