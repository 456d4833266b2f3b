//! The first step of a publish: there is a way for it, its sender may send it, and its properties are in order.

use leveret_deduplication::number_of_producer;
use leveret_message::error::Failure;

use super::Publishing;
use super::sender::Sender;
use super::way::{StatefulTargets, Way, is_about_exchange};
use crate::assembly::WholePublish;

/// A publish that may be taken.
pub(crate) struct Checked<'a> {
    pub(super) whole: WholePublish<'a>,
    pub(super) way: Way,
}

impl Publishing {
    /// Checks a publish.
    ///
    /// # Errors
    /// rabbitmq: an exchange that is missing or closed to the user is told first, then what is wrong with properties,
    /// and then what is wrong with the headers.
    #[inline]
    pub(crate) fn check<'a>(
        &mut self,
        whole: WholePublish<'a>,
        sender: &Sender<'_>,
    ) -> Result<Checked<'a>, Failure> {
        let way = self.way(&whole, sender.grant);
        if !is_about_exchange(&way) {
            sender.check_properties(whole.header)?;
        }
        let mut way = way?;
        if let Some(number) = number_of_producer(whole.header.properties.headers) {
            let (targets, number) = (self.targets(&way), Some(number));
            way = Way::Stateful(Box::new(StatefulTargets { targets, number }));
        }
        Ok(Checked { whole, way })
    }
}
