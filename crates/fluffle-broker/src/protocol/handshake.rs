//! From the protocol header to an open connection (AMQP 0-9-1 section 2.2.4).

use amq_protocol::{
    protocol::{
        AMQPClass,
        connection::{AMQPMethod, Open, OpenOk, Start, StartOk, Tune, TuneOk},
    },
    types::{AMQPValue, FieldTable, LongString},
};

use super::{
    auth,
    frame::{self, FrameKind, Method, Undecodable},
    incoming::{End, Incoming},
};
use crate::{
    engine::{ConnectionKey, Refusal, Table, TableValue},
    fault::Event,
};

const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// The accepted protocol headers, each with the version that `connection.start` then names. Clients that ask for AMQP
/// 0-8 or 0-9 get 0-9-1, which differs little.
const WELCOME: [(&[u8; 8], (u8, u8)); 4] = [
    (HEADER, (0, 9)),
    (b"AMQP\x01\x01\x00\x09", (0, 9)),
    (b"AMQP\x01\x01\x08\x00", (8, 0)),
    (b"AMQP\x01\x01\x09\x01", (8, 0)),
];

/// Class and method of `connection.open`.
const OPEN: (u16, u16) = (10, 40);

/// The RabbitMQ version whose rules this broker follows.
const RULES: &str = "3.10.8";

/// The smallest allowed frame (AMQP 0-9-1, connection.tune).
const LEAST_FRAME_MAX: u32 = 4096;

/// Performs the handshake until the connection is open.
pub(crate) async fn open(incoming: &mut Incoming) -> Result<ConnectionKey, End> {
    let asked = incoming.take(HEADER.len()).await?;
    let Some((_, version)) = WELCOME.iter().find(|(header, _)| asked == header[..]) else {
        // The only answer to an unknown protocol is the correct header.
        incoming.link.output.borrow_mut().write(|out| out.extend_from_slice(HEADER));
        incoming.link.wake.notify_one();
        return Err(End::Silent);
    };
    send(incoming, AMQPMethod::Start(start(*version)));
    let (offer, client) = match receive(incoming).await? {
        (AMQPMethod::StartOk(offer), client) => (offer, client),
        (other, _) => return Err(unexpected(&other)),
    };
    let user = login(incoming, &offer, &client)?;
    tune(incoming).await?;
    let wanted = match receive(incoming).await?.0 {
        AMQPMethod::Open(open) => open,
        AMQPMethod::Close(_) => return Err(End::Closed),
        other => return Err(unexpected(&other)),
    };
    let key = enter(incoming, &wanted, &user, &client)?;
    send(incoming, AMQPMethod::OpenOk(OpenOk {}));
    incoming.link.ask(Event::Opened, 0);
    incoming.shared.carry_out_faults();
    Ok(key)
}

fn send(incoming: &Incoming, method: AMQPMethod) {
    incoming.link.send(0, AMQPClass::Connection(method));
}

/// The next method of a connection, and its table.
async fn receive(incoming: &mut Incoming) -> Result<(AMQPMethod, Table), End> {
    loop {
        let frame = incoming.next_frame().await?;
        match (frame.kind()?, frame.channel) {
            (FrameKind::Heartbeat, 0) => {}
            (FrameKind::Method, 0) => match frame::method(&frame.payload) {
                Ok(Method::Other(AMQPClass::Connection(method), table)) => return Ok((method, table)),
                Err(Undecodable::Fields(refusal) | Undecodable::Text(refusal)) => {
                    return Err(End::Refused { refusal, cause: frame.ids() });
                }
                Err(Undecodable::Table) => return Err(End::Silent),
                Ok(_) => return Err(Refusal::command_invalid("expected a connection method").into()),
            },
            _ => return Err(Refusal::unexpected_frame("expected a method on channel 0").into()),
        }
    }
}

fn unexpected(method: &AMQPMethod) -> End {
    let method = format!("{method:?}");
    let name = method.split('(').next().unwrap_or_default();
    Refusal::command_invalid(format!("unexpected method connection.{name} during the handshake")).into()
}

fn start((version_major, version_minor): (u8, u8)) -> Start {
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
    let texts = [
        // Clients derive the rules from these two; kombu, for example, the meaning of basic.qos.
        ("product", "RabbitMQ"),
        ("version", RULES),
        ("platform", concat!("Fluffle broker ", env!("CARGO_PKG_VERSION"))),
        ("cluster_name", "fluffle"),
        ("copyright", "The Fluffle authors"),
        ("information", "Not RabbitMQ: an in-process broker with its rules, for first runs and tests"),
    ];
    for (name, text) in texts {
        properties.insert(name.into(), AMQPValue::LongString(LongString::from(text)));
    }
    Start {
        version_major,
        version_minor,
        server_properties: properties,
        mechanisms: auth::MECHANISMS.into(),
        locales: "en_US".into(),
    }
}

fn login(incoming: &Incoming, offer: &StartOk, client: &Table) -> Result<String, End> {
    if let Some(user) = auth::user(&incoming.shared.settings, offer) {
        return Ok(user);
    }
    let known = auth::MECHANISMS.split(' ').any(|known| known == offer.mechanism.as_str());
    tracing::warn!(mechanism = offer.mechanism.as_str(), "login refused");
    let text = match known {
        true => format!(
            "Login was refused using authentication mechanism {}. For details see the broker logfile.",
            offer.mechanism
        ),
        false => {
            return Err(Refusal::not_allowed(format!("unknown authentication mechanism '{}'", offer.mechanism)).into());
        }
    };
    // A client that does not announce this capability only gets a closed socket.
    match capability(client, "authentication_failure_close") {
        true => Err(Refusal::access(text).into()),
        false => Err(End::Silent),
    }
}

async fn tune(incoming: &mut Incoming) -> Result<(), End> {
    let settings = incoming.shared.settings.clone();
    let (channel_max, frame_max, heartbeat) = (settings.channel_max, settings.frame_max, settings.heartbeat);
    send(incoming, AMQPMethod::Tune(Tune { channel_max, frame_max, heartbeat }));
    let tuned: TuneOk = match receive(incoming).await?.0 {
        AMQPMethod::TuneOk(tuned) => tuned,
        other => return Err(unexpected(&other)),
    };
    check_agreed("frame_max", tuned.frame_max, LEAST_FRAME_MAX, frame_max)?;
    check_agreed("channel_max", tuned.channel_max.into(), 1, channel_max.into())?;
    incoming.link.frame_max.set(tuned.frame_max as usize);
    incoming.link.channel_max.set(tuned.channel_max);
    incoming.link.heartbeat.set(tuned.heartbeat);
    incoming.link.tuned.notify_one();
    Ok(())
}

/// A limit in `connection.tune-ok` must not be higher than the offered one. 0 means no limit, and so counts as higher.
fn check_agreed(limit: &str, agreed: u32, least: u32, offered: u32) -> Result<(), Refusal> {
    let problem = match agreed {
        0 => format!("0 (no limit) is higher than the maximum allowed value ({offered})"),
        low if low < least => format!("{low} is lower than the minimum allowed value ({least})"),
        high if high > offered => format!("{high} is higher than the maximum allowed value ({offered})"),
        _ => return Ok(()),
    };
    Err(Refusal::not_allowed(format!("negotiated {limit} = {problem}")))
}

fn enter(incoming: &Incoming, wanted: &Open, user: &str, client: &Table) -> Result<ConnectionKey, End> {
    let mut engine = incoming.shared.engine.borrow_mut();
    let Some(vhost) = engine.vhost(wanted.virtual_host.as_str()) else {
        let refusal = Refusal::not_allowed(format!("vhost {} not found", wanted.virtual_host));
        return Err(End::Refused { refusal, cause: OPEN });
    };
    let name = client.get("connection_name").and_then(TableValue::text).unwrap_or_default();
    let name: String = String::from_utf8_lossy(name).chars().take(255).collect();
    incoming.link.gate.introduce(name.clone(), user.to_owned());
    incoming.link.hears_blocked.set(capability(client, "connection.blocked"));
    let key = engine.open_connection(vhost, user, name, capability(client, "consumer_cancel_notify"));
    drop(engine);
    incoming.link.key.set(Some(key));
    incoming.shared.enter(key, incoming.link.clone());
    Ok(key)
}

/// Whether the client's properties announce a capability.
fn capability(client: &Table, name: &str) -> bool {
    let capabilities = client.get("capabilities").and_then(TableValue::fields);
    let found = capabilities.into_iter().flatten().find(|(found, _)| *found == name.as_bytes());
    found.is_some_and(|(_, value)| value.encoded() == *b"t\x01")
}
