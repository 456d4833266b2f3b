//! From the protocol header to `connection.open-ok`.

use std::sync::Arc;

use leveret_access::brake::{Verdict, Waiting};
use leveret_broker::config::BrokerConfig;
use leveret_broker::roll::{ConnectionFacts, ConnectionIdentity};
use leveret_codec::protocol::{AMQPClass, connection as wire};
use leveret_codec::{
    AMQPValue, ChannelNumber, FRAME_MIN_SIZE, FieldTable, Frame, FrameKind, Method, MethodError,
    PROTOCOL_HEADER, ProtocolHeader, ReplyCode, decode_method, protocol_header,
};
use leveret_message::Timestamp;
use leveret_message::error::{ConnectionError, Failure};

use super::auth::{self, Login, Mechanism, Refusal};
use super::connection::Connection;
use super::ending::Ending;
use super::greeting::{Spoken, spoken};
use super::permits::ConnectionPermits;
use super::session::{Farewell, Phase, Session};

/// Class and method of `connection.start-ok`.
const START_OK: (u16, u16) = (10, 11);

/// A login that is looked at later, since too many before it failed.
pub(super) struct LateLogin {
    mechanism: Mechanism,
    response: Vec<u8>,
    pub(super) until: Timestamp,
    _waiting: Waiting,
}

impl Session {
    /// Takes the protocol header; anything else is answered with ours, and the end.
    pub(super) fn receive_header(&mut self, rest: &[u8]) -> Option<usize> {
        match protocol_header(rest) {
            ProtocolHeader::Incomplete => None,
            ProtocolHeader::Unknown => {
                let peer = self.link.peer.remote;
                match spoken(rest) {
                    Some(Spoken { name, advice }) => tracing::warn!(
                        %peer,
                        spoken = name,
                        advice,
                        "this port speaks AMQP 0-9-1, and a client spoke something else"
                    ),
                    None => tracing::debug!(%peer, "a client said nothing of use"),
                }
                self.link
                    .output
                    .buffer()
                    .extend_from_slice(&PROTOCOL_HEADER);
                self.leave(Farewell::Nothing, Ending::Aborted("another protocol"));
                Some(rest.len())
            }
            ProtocolHeader::Amqp091 => {
                let start = wire::Start {
                    version_major: 0,
                    version_minor: 9,
                    server_properties: server_properties(self.link.broker.config()),
                    mechanisms: auth::offered(&self.link).into_bytes().into(),
                    locales: b"en_US".to_vec().into(),
                };
                self.link.send(
                    ChannelNumber::CONNECTION,
                    &AMQPClass::Connection(wire::AMQPMethod::Start(start)),
                );
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
            FrameKind::Method if frame.channel == ChannelNumber::CONNECTION => {}
            // rabbitmq: nothing but connection methods may come before connection.open-ok; who has logged in is
            // told so
            _ if matches!(self.phase, Phase::AwaitOpen(_)) => {
                return Err(ConnectionError::frame_out_of_place(frame).into());
            }
            _ => return Err(out_of_place()),
        }
        let class = match decode_method(frame.payload) {
            Ok(Method::Control(class)) => *class,
            Ok(_) => return Err(out_of_place()),
            Err(error @ (MethodError::UnknownClass(_) | MethodError::UnknownMethod { .. })) => {
                return Err(Failure::Abort(Some(error.to_string())));
            }
            Err(error) => return Err(ConnectionError::undecodable(&error).into()),
        };
        let AMQPClass::Connection(method) = class else {
            return Err(out_of_place());
        };
        match (&self.phase, method) {
            (_, wire::AMQPMethod::Close(close)) => {
                self.answer_close(&close);
                Ok(())
            }
            (Phase::AwaitStartOk, wire::AMQPMethod::StartOk(start_ok)) => {
                self.start_ok(start_ok, now)
            }
            (Phase::AwaitTuneOk(login), wire::AMQPMethod::TuneOk(tune_ok)) => {
                let login = login.clone();
                self.tune_ok(&tune_ok, login)
            }
            (Phase::AwaitOpen(login), wire::AMQPMethod::Open(open)) => {
                let login = login.clone();
                self.open(open.virtual_host.as_str(), login, now)
            }
            (phase, _) => {
                let state = match phase {
                    Phase::AwaitTuneOk(_) => "tuning",
                    Phase::AwaitOpen(_) => "opening",
                    _ => "starting",
                };
                Err(ConnectionError::channel_error(format_args!(
                    "unexpected method in connection state {state}"
                ))
                .into())
            }
        }
    }

    fn start_ok(&mut self, start_ok: wire::StartOk, now: Timestamp) -> Result<(), Failure> {
        self.read_client_capabilities(&start_ok.client_properties);
        self.link.set_client(&start_ok.client_properties);
        self.link.set_name(&start_ok.client_properties);
        let mechanism = start_ok.mechanism.as_str();
        let known = Mechanism::parse(mechanism).filter(|_| {
            auth::offered(&self.link)
                .split(' ')
                .any(|offered| offered == mechanism)
        });
        let Some(mechanism) = known else {
            let text = format!("unsupported authentication mechanism '{mechanism}'");
            return self.refuse_login(None, "no such mechanism", &text);
        };
        let response = start_ok.response.as_bytes();
        let from = self.link.peer.remote.ip();
        let verdict = auth::given_name(mechanism, response)
            .map(|name| self.link.broker.brake.consider(from, name, now));
        match verdict {
            None | Some(Verdict::Go) => self.log_in(mechanism, response, now),
            Some(Verdict::Wait(until, waiting)) => {
                let handshake_timeout_ms = self.link.broker.config().handshake_timeout_ms;
                self.link.deadline = Some(until + handshake_timeout_ms);
                self.phase = Phase::AwaitLogin(Box::new(LateLogin {
                    mechanism,
                    response: response.to_vec(),
                    until,
                    _waiting: waiting,
                }));
                Ok(())
            }
            Some(Verdict::Refuse) => {
                let name = auth::given_name(mechanism, response).unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                self.refuse_credentials(&name, mechanism, "too many failed logins wait already")
            }
        }
    }

    /// Looks at a login that had to wait, once it is time.
    pub(super) fn late_login(&mut self, now: Timestamp) {
        let Phase::AwaitLogin(login) = &self.phase else {
            return;
        };
        if login.until > now {
            return;
        }
        if let Phase::AwaitLogin(login) = std::mem::replace(&mut self.phase, Phase::AwaitStartOk) {
            let result = self.log_in(login.mechanism, &login.response, now);
            self.settle_failure(result, START_OK, ChannelNumber::CONNECTION, now);
        }
    }

    fn log_in(
        &mut self,
        mechanism: Mechanism,
        response: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let from = self.link.peer.remote.ip();
        let brake = &self.link.broker.brake;
        match auth::login(&self.link, mechanism, response) {
            Ok(login) => {
                brake.succeeded(from, login.user.as_bytes());
                self.link.broker.services.churn.amqp().note(true);
                self.link
                    .tell_authentication(&login.user, mechanism.name(), None);
                let config = self.link.broker.config();
                let tune = wire::Tune {
                    channel_max: config.channel_max,
                    frame_max: config.frame_max,
                    heartbeat: config.heartbeat_s,
                };
                self.link.send(
                    ChannelNumber::CONNECTION,
                    &AMQPClass::Connection(wire::AMQPMethod::Tune(tune)),
                );
                self.phase = Phase::AwaitTuneOk(login);
                Ok(())
            }
            Err(Refusal::Credentials(user)) => {
                brake.failed(from, user.as_bytes(), now);
                self.link.broker.services.churn.amqp().note(false);
                let error = format!("user '{user}' - invalid credentials");
                self.link
                    .tell_authentication(&user, mechanism.name(), Some(&error));
                self.refuse_credentials(&user, mechanism, "invalid credentials")
            }
            Err(Refusal::NotLoopback(user)) => {
                self.link.broker.services.churn.amqp().note(false);
                let error = format!("user '{user}' can only connect via localhost");
                self.link
                    .tell_authentication(&user, mechanism.name(), Some(&error));
                let reason = "user can only connect via localhost, see --loopback-users";
                self.refuse_credentials(&user, mechanism, reason)
            }
        }
    }

    /// What the client is told says no more than RabbitMQ's; the log, to which that points, has the reason.
    fn refuse_credentials(
        &mut self,
        user: &str,
        mechanism: Mechanism,
        reason: &str,
    ) -> Result<(), Failure> {
        let text = format!(
            "Login was refused using authentication mechanism {}. For details see the broker logfile.",
            mechanism.name()
        );
        self.refuse_login(Some(user), reason, &text)
    }

    /// rabbitmq: the reason is told to clients that can take it, others see the socket close.
    fn refuse_login(
        &mut self,
        user: Option<&str>,
        reason: &str,
        text: &str,
    ) -> Result<(), Failure> {
        let (peer, name) = (self.link.peer.remote, self.link.name());
        tracing::warn!(%peer, user, name, reason, text, "login refused");
        if self.link.tells_authentication_failure {
            let refused = ConnectionError::new(ReplyCode::AccessRefused, text);
            Err(refused.of_nothing().into())
        } else {
            Err(Failure::Abort(None))
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
        let config = self.link.broker.config();
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
            tracing::warn!(
                peer = %self.link.peer.remote,
                user = login.user,
                name = self.link.name(),
                error.text,
                "tuning refused"
            );
            return Err(Failure::Abort(None));
        }
        self.link.frame_max = frame_max;
        self.link.channel_max = channel_max;
        self.link.heartbeat_ms = u64::from(tune_ok.heartbeat) * 1000;
        self.phase = Phase::AwaitOpen(login);
        Ok(())
    }

    fn open(&mut self, name: &str, login: Login, now: Timestamp) -> Result<(), Failure> {
        let broker = Arc::clone(&self.link.broker);
        let not_found = || {
            let text = format_args!("vhost {name} not found");
            Failure::from(ConnectionError::not_allowed(text))
        };
        let vhost = broker.vhost(name).ok_or_else(not_found)?;
        let refused = || {
            ConnectionError::not_allowed(format_args!(
                "access to vhost '{name}' refused for user '{}'",
                login.user
            ))
        };
        let grant = broker.users.grant(name, &login.user).ok_or_else(refused)?;
        let permits = ConnectionPermits::take(&broker, &vhost, &login.user)?;
        // Whoever deletes it counts its connections after it was found no more.
        if broker.vhost(name).is_none() {
            return Err(not_found());
        }
        self.link.deadline = None;
        self.link.last_received = now;
        tracing::info!(
            peer = %self.link.peer.remote,
            user = login.user,
            vhost = name,
            name = self.link.name(),
            "connection opened"
        );
        let facts = Arc::new(ConnectionFacts::new(ConnectionIdentity {
            session: self.link.id,
            remote: self.link.peer.remote,
            local: self.link.peer.local,
            user: login.user.as_str().into(),
            mechanism: login.mechanism.name(),
            vhost: Arc::clone(vhost.name()),
            connected_at: now,
            heartbeat_s: self.link.heartbeat_ms / 1000,
            frame_max: self.link.frame_max,
            channel_max: self.link.channel_max,
            client_properties: Arc::clone(&self.link.client_properties),
        }));
        if self.link.peer.listed {
            broker.roll.enter(&facts);
        }
        let connection = Connection::new(vhost, login, grant, permits, facts);
        connection.tell_opened(&self.link, now);
        self.phase = Phase::Open(Box::new(connection));
        self.link.send(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(wire::AMQPMethod::OpenOk(wire::OpenOk {})),
        );
        if let (Some(reason), Phase::Open(connection)) = (broker.blocked_reason(), &mut self.phase)
        {
            connection.set_blocked(&mut self.link, Some(&reason));
        }
        Ok(())
    }
}

fn out_of_place() -> Failure {
    let reason = "a frame that has no place before connection.open";
    Failure::Abort(Some(reason.to_owned()))
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
