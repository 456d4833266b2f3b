//! From the protocol header to `connection.open-ok`.

use std::sync::Arc;

use leveret_codec::protocol::{AMQPClass, connection as wire};
use leveret_codec::{
    AMQPValue, FRAME_MIN_SIZE, FieldTable, Frame, FrameKind, Method, MethodError, PROTOCOL_HEADER,
    ProtocolHeader, ReplyCode, decode_method, protocol_header,
};

use super::auth::{self, Login, Mechanism, Refusal};
use super::connection::Connection;
use super::places::ConnectionPlace;
use super::{Farewell, Phase, Session};
use crate::config::BrokerConfig;
use crate::error::{ConnectionError, Failure};
use crate::time::Timestamp;

impl Session {
    /// Takes the protocol header; anything else is answered with ours, and the end.
    pub(super) fn receive_header(&mut self, rest: &[u8]) -> Option<usize> {
        match protocol_header(rest) {
            ProtocolHeader::Incomplete => None,
            ProtocolHeader::Unknown => {
                self.link
                    .output
                    .buffer()
                    .extend_from_slice(&PROTOCOL_HEADER);
                self.leave(Farewell::Nothing);
                Some(rest.len())
            }
            ProtocolHeader::Amqp091 => {
                let start = wire::Start {
                    version_major: 0,
                    version_minor: 9,
                    server_properties: server_properties(&self.link.broker.config),
                    mechanisms: auth::offered(&self.link).into_bytes().into(),
                    locales: b"en_US".to_vec().into(),
                };
                self.link
                    .send(0, &AMQPClass::Connection(wire::AMQPMethod::Start(start)));
                self.phase = Phase::AwaitStartOk;
                Some(PROTOCOL_HEADER.len())
            }
        }
    }

    /// One frame before the connection is open.
    pub(super) fn handle_handshake(
        &mut self,
        frame: &Frame<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match frame.kind {
            FrameKind::Heartbeat => return Ok(()),
            FrameKind::Method if frame.channel == 0 => {}
            // rabbitmq: nothing but connection methods may come before connection.open-ok
            _ => return Err(Failure::Abort),
        }
        let class = match decode_method(frame.payload) {
            Ok(Method::Control(class)) => *class,
            Ok(_) | Err(MethodError::UnknownClass(_) | MethodError::UnknownMethod { .. }) => {
                return Err(Failure::Abort);
            }
            Err(error) => return Err(ConnectionError::undecodable(&error).into()),
        };
        let AMQPClass::Connection(method) = class else {
            return Err(Failure::Abort);
        };
        match (&self.phase, method) {
            (_, wire::AMQPMethod::Close(_)) => {
                self.answer_close();
                Ok(())
            }
            (Phase::AwaitStartOk, wire::AMQPMethod::StartOk(start_ok)) => self.start_ok(start_ok),
            (Phase::AwaitTuneOk(login), wire::AMQPMethod::TuneOk(tune_ok)) => {
                let login = login.clone();
                self.tune_ok(&tune_ok, login)
            }
            (Phase::AwaitOpen(login), wire::AMQPMethod::Open(open)) => {
                let login = login.clone();
                self.open(open.virtual_host.as_str(), login, now)
            }
            _ => Err(
                ConnectionError::channel_error("unexpected method in this connection state").into(),
            ),
        }
    }

    fn start_ok(&mut self, start_ok: wire::StartOk) -> Result<(), Failure> {
        self.read_client_capabilities(&start_ok.client_properties);
        self.link.note_client(&start_ok.client_properties);
        let mechanism = start_ok.mechanism.as_str();
        let known = Mechanism::parse(mechanism).filter(|_| {
            auth::offered(&self.link)
                .split(' ')
                .any(|offered| offered == mechanism)
        });
        let Some(known) = known else {
            return self.refuse_login(&format!(
                "unsupported authentication mechanism '{mechanism}'"
            ));
        };
        match auth::login(&self.link, known, start_ok.response.as_bytes()) {
            Ok(login) => {
                self.link.tell_authentication(&login.user, mechanism, None);
                let config = &self.link.broker.config;
                let tune = wire::Tune {
                    channel_max: config.channel_max,
                    frame_max: config.frame_max,
                    heartbeat: config.heartbeat_s,
                };
                self.link
                    .send(0, &AMQPClass::Connection(wire::AMQPMethod::Tune(tune)));
                self.phase = Phase::AwaitTuneOk(login);
                Ok(())
            }
            Err(Refusal::Credentials(user)) => {
                let error = format!("user '{user}' - invalid credentials");
                self.link
                    .tell_authentication(&user, mechanism, Some(&error));
                self.refuse_login(&format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                ))
            }
            Err(Refusal::NotLoopback(user)) => {
                tracing::warn!(user, peer = %self.link.peer.remote, "user can only connect via localhost");
                let error = format!("user '{user}' can only connect via localhost");
                self.link
                    .tell_authentication(&user, mechanism, Some(&error));
                self.refuse_login(&format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                ))
            }
        }
    }

    /// rabbitmq: the reason is told to clients that can take it, others see the socket close.
    fn refuse_login(&mut self, text: &str) -> Result<(), Failure> {
        tracing::warn!(peer = %self.link.peer.remote, text, "login refused");
        if self.link.tells_authentication_failure {
            Err(ConnectionError::new(ReplyCode::AccessRefused, text).into())
        } else {
            Err(Failure::Abort)
        }
    }

    fn read_client_capabilities(&mut self, properties: &FieldTable) {
        let Some(AMQPValue::FieldTable(capabilities)) = properties.inner().get("capabilities")
        else {
            return;
        };
        let has = |name: &str| {
            matches!(
                capabilities.inner().get(name),
                Some(AMQPValue::Boolean(true))
            )
        };
        self.link.tells_authentication_failure = has("authentication_failure_close");
        self.link.understands_blocked = has("connection.blocked");
        self.link.understands_cancel = has("consumer_cancel_notify");
    }

    /// rabbitmq: a client may lower what was offered, never raise it; 0, which would mean no limit, is
    /// more than what was offered.
    fn tune_ok(&mut self, tune_ok: &wire::TuneOk, login: Login) -> Result<(), Failure> {
        let config = &self.link.broker.config;
        let refused = |what: &str, value: u64, limit: &str| {
            ConnectionError::not_allowed(format_args!("negotiated {what} = {value} is {limit}"))
        };
        let (frame_max, channel_max) = (tune_ok.frame_max, tune_ok.channel_max);
        let frame_max_ok = (FRAME_MIN_SIZE..=config.frame_max).contains(&frame_max);
        if !frame_max_ok || !(1..=config.channel_max).contains(&channel_max) {
            let error = if frame_max_ok {
                refused(
                    "channel_max",
                    channel_max.into(),
                    "outside the range allowed",
                )
            } else {
                refused("frame_max", frame_max.into(), "outside the range allowed")
            };
            tracing::warn!(peer = %self.link.peer.remote, error.text, "tuning refused");
            return Err(Failure::Abort);
        }
        self.link.frame_max = frame_max;
        self.link.channel_max = channel_max;
        self.link.heartbeat_ms = u64::from(tune_ok.heartbeat) * 1000;
        self.phase = Phase::AwaitOpen(login);
        Ok(())
    }

    fn open(&mut self, name: &str, login: Login, now: Timestamp) -> Result<(), Failure> {
        let broker = Arc::clone(&self.link.broker);
        let Some(vhost) = broker.vhost(name) else {
            return Err(
                ConnectionError::not_allowed(format_args!("vhost {name} not found")).into(),
            );
        };
        let refused = || {
            ConnectionError::not_allowed(format_args!(
                "access to vhost '{name}' refused for user '{}'",
                login.user
            ))
        };
        let grant = broker.users.grant(name, &login.user).ok_or_else(refused)?;
        let place = ConnectionPlace::take(&broker, &vhost, &login.user)?;
        self.link.deadline = None;
        self.link.last_received = now;
        tracing::info!(peer = %self.link.peer.remote, user = login.user, vhost = name, "connection opened");
        let connection = Connection::new(vhost, login, grant, place);
        connection.tell_opened(&self.link, now);
        self.phase = Phase::Open(Box::new(connection));
        self.link.send(
            0,
            &AMQPClass::Connection(wire::AMQPMethod::OpenOk(wire::OpenOk {})),
        );
        if let (Some(reason), Phase::Open(connection)) = (broker.blocked_reason(), &mut self.phase)
        {
            connection.set_blocked(&mut self.link, Some(&reason));
        }
        Ok(())
    }
}

/// `server-properties`: clients choose their behaviour by product, version and capabilities.
fn server_properties(config: &BrokerConfig) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let leveret = concat!("Leveret ", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("product", config.product.as_str()),
        ("version", config.version.as_str()),
        ("cluster_name", config.cluster_name.as_str()),
        ("platform", leveret),
        ("broker", leveret),
        ("copyright", "Copyright (c) the Leveret maintainers"),
        (
            "information",
            "Leveret, an AMQP 0-9-1 broker. Licensed under the Apache License 2.0.",
        ),
    ] {
        properties.insert(
            name.into(),
            AMQPValue::LongString(value.as_bytes().to_vec().into()),
        );
    }
    properties
}
