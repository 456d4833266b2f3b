//! Methods: those by hand against `amq-protocol`'s generated ones, and control methods through both.

use leveret_codec::protocol::{AMQPClass, basic, channel, connection, exchange, queue};
use leveret_codec::{
    ChannelNumber, ConsumerTag, DeliveryTag, FrameKind, Method, MethodError, Publish,
    decode_method, write_ack, write_deliver, write_get_ok, write_method, write_nack, write_names,
    write_return,
};
use proptest::prelude::*;

use crate::arbitrary::{only_frame, short_string, table};

/// The payload of the method frame that `write` appends.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    let frame = only_frame(&out[6..]);
    assert_eq!(frame.kind, FrameKind::Method);
    frame.payload.to_vec()
}

fn by_amq_protocol(method: basic::AMQPMethod) -> Vec<u8> {
    written(|out| write_method(out, ChannelNumber(1), &AMQPClass::Basic(method)))
}

fn names(exchange: &str, routing_key: &str) -> Vec<u8> {
    let mut names = Vec::new();
    write_names(&mut names, exchange.as_bytes(), routing_key.as_bytes());
    names
}

fn check_control(method: AMQPClass) {
    let payload = written(|out| write_method(out, ChannelNumber(1), &method));
    assert_eq!(
        decode_method(&payload),
        Ok(Method::Control(Box::new(method)))
    );
    for length in 4..payload.len() {
        assert!(decode_method(&payload[..length]).is_err());
    }
}

proptest! {
    #[test]
    fn publish(
        exchange in short_string(), routing_key in short_string(), mandatory: bool, immediate: bool,
    ) {
        let payload = by_amq_protocol(basic::AMQPMethod::Publish(basic::Publish {
            exchange: exchange.clone(), routing_key: routing_key.clone(), mandatory, immediate,
        }));
        let expected = Publish {
            exchange: exchange.as_str().as_bytes(),
            routing_key: routing_key.as_str().as_bytes(),
            names: &names(exchange.as_str(), routing_key.as_str()),
            mandatory,
            immediate,
        };
        prop_assert_eq!(decode_method(&payload), Ok(Method::Publish(expected)));
    }

    #[test]
    fn ack_nack_reject(delivery_tag: u64, multiple: bool, requeue: bool) {
        let ack = by_amq_protocol(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }));
        prop_assert_eq!(decode_method(&ack), Ok(Method::Ack { delivery_tag: DeliveryTag(delivery_tag), multiple }));
        prop_assert_eq!(written(|out| write_ack(out, ChannelNumber(1), DeliveryTag(delivery_tag), multiple)), ack);

        let nack = basic::Nack { delivery_tag, multiple, requeue };
        let nack = by_amq_protocol(basic::AMQPMethod::Nack(nack));
        prop_assert_eq!(decode_method(&nack), Ok(Method::Nack { delivery_tag: DeliveryTag(delivery_tag), multiple, requeue }));
        prop_assert_eq!(written(|out| write_nack(out, ChannelNumber(1), DeliveryTag(delivery_tag), multiple, requeue)), nack);

        let reject = basic::Reject { delivery_tag, requeue };
        let reject = by_amq_protocol(basic::AMQPMethod::Reject(reject));
        prop_assert_eq!(decode_method(&reject), Ok(Method::Reject { delivery_tag: DeliveryTag(delivery_tag), requeue }));
    }

    #[test]
    fn qos(prefetch_size: u32, prefetch_count: u16, global: bool) {
        let qos = basic::Qos { prefetch_count, global };
        let mut payload = by_amq_protocol(basic::AMQPMethod::Qos(qos));
        payload[4..8].copy_from_slice(&prefetch_size.to_be_bytes());
        let expected = Method::Qos { prefetch_size, prefetch_count, global };
        prop_assert_eq!(decode_method(&payload), Ok(expected));
    }

    #[test]
    fn deliver(
        exchange in short_string(), routing_key in short_string(), consumer_tag in short_string(),
        delivery_tag: u64, redelivered: bool,
    ) {
        let names = names(exchange.as_str(), routing_key.as_str());
        let tag = consumer_tag.as_str().as_bytes().to_vec();
        let payload =
            written(|out| write_deliver(out, ChannelNumber(1), ConsumerTag(&tag), DeliveryTag(delivery_tag), redelivered, &names));
        let expected = AMQPClass::Basic(basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag, delivery_tag, redelivered, exchange, routing_key,
        }));
        prop_assert_eq!(decode_method(&payload), Ok(Method::Control(Box::new(expected))));
    }

    #[test]
    fn get_ok(
        exchange in short_string(), routing_key in short_string(),
        delivery_tag: u64, redelivered: bool, message_count: u32,
    ) {
        let names = names(exchange.as_str(), routing_key.as_str());
        let payload =
            written(|out| write_get_ok(out, ChannelNumber(1), DeliveryTag(delivery_tag), redelivered, &names, message_count));
        let expected = AMQPClass::Basic(basic::AMQPMethod::GetOk(basic::GetOk {
            delivery_tag, redelivered, exchange, routing_key, message_count,
        }));
        prop_assert_eq!(decode_method(&payload), Ok(Method::Control(Box::new(expected))));
    }

    #[test]
    fn returned(
        exchange in short_string(), routing_key in short_string(),
        reply_code: u16, reply_text in short_string(),
    ) {
        let names = names(exchange.as_str(), routing_key.as_str());
        let payload =
            written(|out| write_return(out, ChannelNumber(1), reply_code, reply_text.as_str(), &names));
        let expected = AMQPClass::Basic(basic::AMQPMethod::Return(basic::Return {
            reply_code, reply_text, exchange, routing_key,
        }));
        prop_assert_eq!(decode_method(&payload), Ok(Method::Control(Box::new(expected))));
    }

    #[test]
    fn control_methods_with_tables(
        arguments in table(), name in short_string(), other in short_string(), flags: [bool; 5],
    ) {
        let [passive, durable, exclusive, auto_delete, nowait] = flags;
        check_control(AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: name.clone(), passive, durable, exclusive, auto_delete, nowait,
            arguments: arguments.clone(),
        })));
        check_control(AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
            destination: name.clone(), source: other.clone(), routing_key: other.clone(), nowait,
            arguments: arguments.clone(),
        })));
        check_control(AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
            queue: name, consumer_tag: other.clone(), no_local: passive, no_ack: durable,
            exclusive, nowait, arguments: arguments.clone(),
        })));
        check_control(AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
            client_properties: arguments, mechanism: other.clone(), response: b"\0a\0b".into(),
            locale: other,
        })));
    }
}

#[test]
fn names_of_a_publish_may_be_any_bytes() {
    let payload = b"\x00\x3c\x00\x28\x00\x00\x02\xff\xfe\x01\x80\x01";
    let Ok(Method::Publish(publish)) = decode_method(payload) else {
        panic!("no publish")
    };
    assert_eq!(
        (publish.exchange, publish.routing_key),
        (&b"\xff\xfe"[..], &b"\x80"[..])
    );
    assert_eq!(publish.names, b"\x02\xff\xfe\x01\x80");
    assert!(publish.mandatory && !publish.immediate);
}

#[test]
fn a_name_in_a_control_method_that_is_not_utf8_is_an_error() {
    let cancel = b"\x00\x3c\x00\x1e\x02\xff\xfe\x00";
    assert_eq!(decode_method(cancel), Err(MethodError::NotUtf8));
    let declare = b"\x00\x32\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x03\x01\xffV";
    assert_eq!(decode_method(declare), Err(MethodError::NotUtf8));
}

#[test]
fn unknown_methods_are_told_from_unknown_classes() {
    assert_eq!(
        decode_method(&[0, 99, 0, 1]),
        Err(MethodError::UnknownClass(99))
    );
    // rabbitmq: of the class access only the request and its answer are known.
    for class in [30, 60] {
        let unknown = MethodError::UnknownMethod {
            class: u16::from(class),
            method: 99,
        };
        assert_eq!(decode_method(&[0, class, 0, 99]), Err(unknown));
    }
    assert!(decode_method(&[0, 30, 0, 10, 1, b'/', 0]).is_ok());
}

#[test]
fn undecodable_arguments_are_shown_as_rabbitmq_shows_them() {
    for payload in [
        &[0, 50, 0, 10, 0, 0][..],
        &[0, 60, 0, 80, 0, 0],
        &[0, 60, 0, 40, 0, 0],
    ] {
        let error = decode_method(payload).unwrap_err();
        assert_eq!(error.to_string(), "cannot decode <<0,0>>");
    }
    let too_long = decode_method(&[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 7]).unwrap_err();
    assert_eq!(
        too_long.to_string(),
        "cannot decode <<0,0,0,0,0,0,0,1,0,7>>"
    );
}

#[test]
fn strings_that_are_too_long_are_cut_and_leave_the_frame_whole() {
    let long = "x".repeat(300);
    let returned = written(|out| write_return(out, ChannelNumber(1), 312, &long, b"\0\0"));
    let deliver = written(|out| {
        write_deliver(
            out,
            ChannelNumber(1),
            ConsumerTag(long.as_bytes()),
            DeliveryTag(1),
            false,
            b"\0\0",
        );
    });
    for payload in [returned, deliver] {
        assert!(matches!(decode_method(&payload), Ok(Method::Control(_))));
    }
}

#[test]
fn methods_without_arguments() {
    check_control(AMQPClass::Channel(channel::AMQPMethod::CloseOk(
        channel::CloseOk {},
    )));
    check_control(AMQPClass::Channel(channel::AMQPMethod::Open(
        channel::Open {},
    )));
}
