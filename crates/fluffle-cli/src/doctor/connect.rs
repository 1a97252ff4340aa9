//! The way to the broker: why it fails, how long its certificates last, and what was agreed.

use std::time::Duration;

use fluffle::amqp::Endpoint;
use lapin::Connection;

use crate::{
    common::{
        amqp,
        failure::Failure,
        probe::{self, Probe, Step},
    },
    doctor::{
        args::DoctorArgs,
        finding::{Evidence::ProvedOverAmqp, Kind, Level, Report},
        pages,
    },
};

static UNREACHABLE: Kind = Kind {
    id: "connect.unreachable",
    level: Level::Error,
    why: "No client can connect. A node in the middle of its boot opens its ports last.",
    page: pages::TROUBLE_NETWORK,
};
static NO_TLS: Kind = Kind {
    id: "connect.tls",
    level: Level::Error,
    why: "No client can connect by this URL.",
    page: pages::TROUBLE_TLS,
};
static NO_AMQP: Kind = Kind {
    id: "connect.no_greeting",
    level: Level::Error,
    why: "Something listens there and does not greet as an AMQP broker: a TLS port that is spoken to without TLS, \
          another service, a proxy without a broker behind it, or a node in the middle of its boot.",
    page: pages::TROUBLE_NETWORK,
};
static PASSWORD: Kind = Kind {
    id: "connect.refused_login",
    level: Level::Error,
    why: "The broker does not let this user in. The reason is in the node's log alone, for safety.",
    page: pages::ACCESS,
};
static VHOST: Kind = Kind {
    id: "connect.refused_vhost",
    level: Level::Error,
    why: "The user and the password are right. The vhost does not exist, is down, or this user has no permission \
          on it.",
    page: pages::ACCESS,
};
static VHOST_DOWN: Kind = Kind {
    id: "connect.vhost_down",
    level: Level::Error,
    why: "The node runs, and this vhost does not: the node is in the middle of its boot, or the vhost's store failed.",
    page: pages::ACCESS,
};
static CERTIFICATE: Kind = Kind {
    id: "connect.certificate",
    level: Level::Error,
    why: "Clients that check the broker's certificate, as they should, refuse to connect.",
    page: pages::TROUBLE_TLS,
};
static FAILED: Kind = Kind {
    id: "connect.failed",
    level: Level::Error,
    why: "The broker greets, and the connection fails after that.",
    page: pages::TROUBLE_NETWORK,
};
static ENDS_SOON: Kind = Kind {
    id: "tls.certificate_ends_soon",
    level: Level::Error,
    why: "When the certificate ends, every client that reconnects is refused, and none after a restart comes back.",
    page: pages::TLS,
};
static ENDS: Kind = Kind {
    id: "tls.certificate_ends",
    level: Level::Warning,
    why: "When the certificate ends, every client that reconnects is refused, and none after a restart comes back.",
    page: pages::TLS,
};
static PLAIN: Kind = Kind {
    id: "connect.plain_text",
    level: Level::Warning,
    why: "The password and every message cross the network readable for all that are on the way.",
    page: pages::TLS,
};
static CHANNEL_MAX: Kind = Kind {
    id: "broker.channel_max",
    level: Level::Warning,
    why: "Without a limit, one client that leaks channels takes the memory of the node.",
    page: pages::CHANNELS,
};
static FRAME_MAX: Kind = Kind {
    id: "broker.frame_max",
    level: Level::Warning,
    why: "Bodies travel in pieces of this size, which costs CPU time, and headers have to fit into one frame: a \
          message with larger ones ends its connection.",
    page: pages::NETWORKING,
};

/// The frame size that RabbitMQ proposes by default.
const FRAME: u32 = 131_072;

/// Connects. Without a connection the report says at which step it fails.
pub(crate) async fn connect(args: &DoctorArgs, now: i64, report: &mut Report) -> Result<Option<Connection>, Failure> {
    let broker = args.broker.broker()?;
    let mut probes = Vec::new();
    for endpoint in broker.endpoints() {
        let probe = probe::probe(endpoint, args.broker.connect_within).await;
        tell(endpoint, &probe, report);
        check_chain(endpoint, &probe, args.certificate, now, report);
        let host = endpoint.host();
        let is_local = host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(is_loopback);
        if !endpoint.is_tls() && !is_local {
            let mend = "connect with amqps://; the broker needs the lines listeners.ssl.default and ssl_options.*";
            let what = "it is spoken to without TLS";
            report.find(&PLAIN, ProvedOverAmqp, place(endpoint), what, mend).conf("listeners.ssl.default = 5671");
        }
        probes.push((endpoint, probe));
    }
    // The library tries all endpoints, and mends what lapin does not understand.
    match amqp::connect(&args.broker, "doctor").await {
        Ok(connection) => {
            for (endpoint, probe) in &probes {
                // One of several is away. A single one that accepts now has ended its boot meanwhile.
                if probe.failed.is_some() && probes.len() > 1 {
                    explain(endpoint, probe, "", report);
                }
            }
            agreed(&connection, report);
            Ok(Some(connection))
        }
        Err(failure) => {
            report.incomplete = true;
            for (endpoint, probe) in &probes {
                explain(endpoint, probe, &failure.to_string(), report);
            }
            Ok(None)
        }
    }
}

fn is_loopback(address: std::net::IpAddr) -> bool {
    address.is_loopback()
}

/// The endpoint without its user.
fn place(endpoint: &Endpoint) -> String {
    let scheme = if endpoint.is_tls() { "amqps" } else { "amqp" };
    format!("broker {scheme}://{}:{}", endpoint.host(), endpoint.port())
}

fn tell(endpoint: &Endpoint, probe: &Probe, report: &mut Report) {
    let text = |name| probe.property(name).unwrap_or("?");
    if !probe.properties.is_empty() {
        let value = format!(
            "{} {} on {}, cluster {}, at {}:{}",
            text("product"),
            text("version"),
            text("platform"),
            text("cluster_name"),
            endpoint.host(),
            endpoint.port()
        );
        report.fact("broker", value, ProvedOverAmqp);
    }
}

fn check_chain(endpoint: &Endpoint, probe: &Probe, limit: Duration, now: i64, report: &mut Report) {
    let limit = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    for (number, certificate) in probe.chain.iter().enumerate() {
        let left = certificate.ends.saturating_sub(now);
        let days = left.div_euclid(86_400);
        let names = match certificate.names.as_slice() {
            [] => String::new(),
            names => format!(" for {}", names.join(", ")),
        };
        let role = if number == 0 { "the broker's certificate" } else { "an authority's certificate" };
        let value = format!("{role} {}{names}, {days} days left", certificate.subject);
        report.fact("TLS", value, ProvedOverAmqp);
        if left < limit {
            let kind = if left < limit / 4 { &ENDS_SOON } else { &ENDS };
            let what = match left {
                ..0 => format!("{role} {} ended {} days ago", certificate.subject, -days),
                _ => format!("{role} {} ends in {days} days", certificate.subject),
            };
            let mend = "put a new certificate where the line points, then: rabbitmqctl eval 'ssl:clear_pem_cache().' \
                        (new connections use it, and no restart is needed)";
            report.find(kind, ProvedOverAmqp, place(endpoint), what, mend).conf("ssl_options.certfile = <file>");
        }
    }
}

/// Says why the connection to this endpoint failed. `failure` is what the client library said.
fn explain(endpoint: &Endpoint, probe: &Probe, failure: &str, report: &mut Report) {
    let entity = place(endpoint);
    let (user, vhost) = (endpoint.user(), endpoint.vhost());
    let (kind, what, mend): (&'static Kind, String, String) = match &probe.failed {
        Some((Step::Tcp, why)) => (
            &UNREACHABLE,
            format!("no connection: {why}"),
            "on the node: rabbitmqctl await_startup --timeout 60, then rabbitmq-diagnostics listeners; check the host \
             and the port of the URL, and firewalls"
                .to_owned(),
        ),
        Some((Step::Tls, why)) => (
            &NO_TLS,
            format!("no TLS: {why}"),
            "5671 is the usual port for amqps://, 5672 that for amqp://; on the node: rabbitmq-diagnostics listeners"
                .to_owned(),
        ),
        Some((Step::Greeting, why)) => (
            &NO_AMQP,
            format!("no greeting: {why}"),
            "on the node: rabbitmqctl await_startup --timeout 60, then rabbitmq-diagnostics listeners; check scheme \
             and port of the URL, and whether a proxy has a broker behind it"
                .to_owned(),
        ),
        None if amqp::is_down(failure) => (
            &VHOST_DOWN,
            format!("its vhost {vhost} is down: {failure}"),
            format!(
                "rabbitmqctl await_startup --timeout 60; if it stays down, rabbitmqctl restart_vhost --vhost {vhost}, \
                 and rabbitmq-diagnostics log_tail says why"
            ),
        ),
        None if failure.contains("ACCESS_REFUSED") => (
            &PASSWORD,
            format!("it refuses the user {user}: {failure}"),
            format!(
                "rabbitmqctl authenticate_user {user}, and rabbitmqctl change_password {user}; guest may come \
                     from loopback only"
            ),
        ),
        None if failure.contains("NOT_ALLOWED") || failure.contains("NotAllowed") => (
            &VHOST,
            format!("it refuses the vhost {vhost} to the user {user}: {failure}"),
            format!("rabbitmqctl list_vhosts; rabbitmqctl set_permissions --vhost {vhost} {user} '.*' '.*' '.*'"),
        ),
        None if endpoint.is_tls() && failure.to_lowercase().contains("certificate") => (
            &CERTIFICATE,
            format!("its certificate is not accepted: {failure}"),
            "name the authority with --ca FILE; or give the broker a certificate for this host name".to_owned(),
        ),
        None => (&FAILED, failure.to_owned(), "read the node's log: rabbitmq-diagnostics log_tail".to_owned()),
    };
    report.find(kind, ProvedOverAmqp, entity, what, mend);
}

/// The limits that both sides agreed on.
fn agreed(connection: &Connection, report: &mut Report) {
    let configuration = connection.configuration();
    let (heartbeat, frame, channels) =
        (configuration.heartbeat(), configuration.frame_max(), configuration.channel_max());
    let value = format!("heartbeat {heartbeat} s, frames up to {frame} bytes, up to {channels} channels");
    report.fact("agreed", value, ProvedOverAmqp);
    if channels == u16::MAX {
        let what = "it allows 65,535 channels on a connection, as many as there are";
        let mend = "set the line, and restart the node";
        report.find(&CHANNEL_MAX, ProvedOverAmqp, "broker", what, mend).conf("channel_max = 2047");
    }
    if frame < FRAME {
        let what = format!("its frames have at most {frame} bytes");
        let mend = "set the line, and restart the node";
        report.find(&FRAME_MAX, ProvedOverAmqp, "broker", what, mend).conf(format!("frame_max = {FRAME}"));
    }
}
