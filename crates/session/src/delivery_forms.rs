//! How deliveries are written, and what those to one consumer have in common.

use leveret_codec::{
    AMQPValue, ChannelNumber, DeliveryPattern, DeliveryTag, FRAME_OVERHEAD, write_deliver,
};
use leveret_message::{Message, MessageForm};
use leveret_queue::mailbox::{ConsumerSlot, InFlight};
use leveret_queue::shortcuts::Shortcut;

use super::consumers::Consumer;
use super::link::Link;
use super::patience::Patience;
use super::stamp;
use super::stream::header_with_offset;

/// The form of a delivery that those after it may have, too.
pub(super) struct DeliveryForm {
    pub(super) slot: ConsumerSlot,
    pub(super) message: MessageForm,
    pub(super) pattern: DeliveryPattern,
}

/// Writes deliveries: those that differ from one before in nothing but their bodies from what that one was.
#[derive(Default)]
pub(super) struct DeliveryForms {
    pub(super) form: Option<Box<DeliveryForm>>,
    pub(super) patience: Patience,
}

impl DeliveryForms {
    #[inline]
    pub(super) fn write(
        &mut self,
        link: &mut Link,
        slot: ConsumerSlot,
        consumer: &Consumer,
        tag: DeliveryTag,
        in_flight: &InFlight,
    ) {
        let message = &in_flight.message;
        let as_published = !consumer.of_stream
            && in_flight.delivery_count.is_none()
            && Shortcut::DeliveryForms.is_open();
        if as_published && let Some(form) = self.form.as_deref_mut() {
            if form.slot == slot
                && let Some(body) = form.message.small_body(message)
                && fits_one_frame(body, link.frame_max)
            {
                let out = link.output.buffer();
                form.pattern.write(out, tag, in_flight.redelivered, body);
                self.patience.reward();
                return;
            }
            if self.patience.fails() {
                self.form = None;
            }
        }
        if as_published && self.patience.tries() {
            self.keep(slot, consumer, message);
        }
        write_deliver(
            link.output.buffer(),
            consumer.channel,
            consumer.tag(),
            tag,
            in_flight.redelivered,
            message.names(),
        );
        write_content(link, consumer.channel, in_flight, consumer.of_stream);
    }

    #[cold]
    pub(super) fn keep(&mut self, slot: ConsumerSlot, consumer: &Consumer, message: &Message) {
        let form = MessageForm::of(message);
        let (names, properties) = (form.names(), form.properties());
        let pattern = DeliveryPattern::new(consumer.channel, consumer.tag(), names, properties);
        self.form = Some(Box::new(DeliveryForm {
            slot,
            message: form,
            pattern,
        }));
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        *self = DeliveryForms::default();
    }
}

/// Whether `body` is one frame, no more and no less.
#[inline]
pub(super) fn fits_one_frame(body: &[u8], frame_max: u32) -> bool {
    !body.is_empty() && (frame_max == 0 || body.len() + FRAME_OVERHEAD <= frame_max as usize)
}

/// The content header of a delivery that says more than the message does: at which offset it stands,
/// or how often it came back.
pub(super) fn delivered_header(in_flight: &InFlight, of_stream: bool) -> Option<Vec<u8>> {
    let message = &in_flight.message;
    if of_stream {
        return Some(header_with_offset(message, in_flight.sequence.0));
    }
    (!in_flight.delivery_count.is_none()).then(|| {
        let count = AMQPValue::LongLongInt(i64::from(in_flight.delivery_count.told()));
        stamp::with_entry(message, stamp::DELIVERY_COUNT, count)
    })
}

/// Content header and body of a delivery.
pub(super) fn write_content(
    link: &mut Link,
    channel: ChannelNumber,
    in_flight: &InFlight,
    of_stream: bool,
) {
    let message = &in_flight.message;
    match delivered_header(in_flight, of_stream) {
        None => link.output.write_content(channel, link.frame_max, message),
        Some(header) => {
            link.output
                .write_content_with(&header, channel, link.frame_max, message);
        }
    }
}
