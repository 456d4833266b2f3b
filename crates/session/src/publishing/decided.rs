//! The third step of a publish: who has it next.

use leveret_message::Message;
use leveret_routing::QueueId;

use super::Publishing;
use super::batched::Batched;
use super::routed::Routed;
use super::way::Way;
use crate::body_memory::BodyMemory;
use crate::channel::{Channel, PublishMode};
use crate::large_publish::LargePublish;
use crate::link::Link;
use crate::stateful_publish::StatefulPublish;
use crate::transaction::Kept;

/// Who has a publish next.
pub(crate) enum Decided<'a> {
    /// The batch, with what else one read brings.
    Batched(Batched<'a>),
    /// Exchanges on its way that keep something, or whoever knows its producer's numbers: it is published by itself.
    KeptByExchange(StatefulPublish),
    /// The channel's transaction, until that is committed.
    InTransaction(Kept),
    /// The store, which writes its bytes before it is in its queues.
    WrittenAhead(Box<LargePublish>),
    /// Very many queues, in steps.
    Spread(Message, Vec<QueueId>),
}

impl Publishing {
    /// Decides who has a publish next; `memory` is what its body takes until then.
    #[inline]
    pub(crate) fn decide<'a>(
        &mut self,
        link: &Link,
        channel: &Channel,
        routed: Routed<'a>,
        memory: &mut Option<BodyMemory>,
    ) -> Decided<'a> {
        if let Way::Stateful(stateful) = routed.way {
            return Decided::KeptByExchange(StatefulPublish {
                message: routed.message,
                mandatory: routed.mandatory,
                routable: !stateful.targets.is_empty(),
                number: stateful.number,
            });
        }
        if let PublishMode::Transaction(_) = channel.mode {
            let message = routed.message;
            return Decided::InTransaction(match routed.way {
                Way::Wide(queues) => Kept::Wide { message, queues },
                way => Kept::Plain {
                    targets: self.targets(&way),
                    message,
                    mandatory: routed.mandatory,
                },
            });
        }
        if routed.header.body_size >= self.vhost.services.write_ahead_bytes_min
            && let Some(large) = self.write_ahead(link, channel.number, &routed, memory)
        {
            return Decided::WrittenAhead(large);
        }
        if let Way::Wide(queues) = routed.way {
            return Decided::Spread(routed.message, queues);
        }
        Decided::Batched(Batched {
            message: routed.message,
            way: routed.way,
            names: routed.names,
            mandatory: routed.mandatory,
            rewritten: routed.rewritten,
        })
    }
}
