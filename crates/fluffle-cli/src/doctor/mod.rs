//! `fluffle doctor`: examines a broker, and says what is wrong and how to mend it.

pub(crate) mod api;
pub(crate) mod args;
mod conf;
mod conflicts;
mod connect;
mod finding;
pub(crate) mod json;
mod look;
mod pages;
mod print;
mod routes;
mod rules;
mod snapshot;
mod wanted;

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use fluffle::prelude::Topology;
use lapin::Connection;

use crate::{
    common::{amqp::ANSWER, exit::Exit, failure::Failure, management, output},
    doctor::{
        api::{Api, Refusal},
        args::DoctorArgs,
        conf::Settings,
        finding::{Evidence, Kind, Level, Report},
        snapshot::Snapshot,
    },
};

static API: Kind = Kind {
    id: "api.not_usable",
    level: Level::Warning,
    why: "Most of what can go wrong with queues and nodes is told by the management API alone.",
    page: pages::MANAGEMENT,
};

/// Runs the subcommand. The exit codes are in its help.
pub(crate) fn command(args: &DoctorArgs) -> Result<Exit, Failure> {
    Ok(examine(args)?.exit())
}

fn examine(args: &DoctorArgs) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = report(args) => report,
            _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted; nothing is left behind on the broker")),
        }
    })?;
    if args.output.json {
        output::json(&Json { report: &report, summary: Summary::of(&report) })?;
    } else {
        print!("{}", print::text(&report, &args.output, print::width()));
    }
    Ok(report)
}

async fn report(args: &DoctorArgs) -> Result<Report, Failure> {
    let topology = args.topology.as_deref().map(wanted::read).transpose()?;
    let settings = args.conf.as_deref().map(Settings::read).transpose()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut report = Report::default();
    let seconds = i64::try_from(now.as_secs())?;
    let mut compared = false;
    if let Some(connection) = connect::connect(args, seconds, &mut report).await? {
        over_amqp(&connection, args, topology.as_ref(), &mut report).await?;
        // A broker that blocks publishers does not read this either, so it is bounded. The queue ends with the socket.
        let _ = tokio::time::timeout(ANSWER, connection.close(200, "examined".into())).await;
        if let Some(topology) = &topology {
            conflicts::compare(&args.broker, topology, &mut report).await?;
            compared = true;
        }
    }
    match by_api(args, settings.as_ref(), &mut report).await? {
        Some(snapshot) => {
            if let Some(topology) = &topology {
                wanted::check(topology, &snapshot, compared, &mut report);
            }
            rules::check(&snapshot, args, u64::try_from(now.as_millis())?, &mut report);
        }
        None => without_api(topology.as_ref(), compared, &mut report),
    }
    match &settings {
        Some(settings) => conf::check(settings, &mut report),
        None => report.unknown(
            "consumer_timeout, the proposed heartbeat, the memory watermark's share, acceptors, queue_leader_locator",
            "--conf FILE, the node's rabbitmq.conf",
        ),
    }
    report.sort();
    Ok(report)
}

/// Looks at what was named, then publishes. A broker that blocks publishers answers nothing after that.
async fn over_amqp(
    connection: &Connection,
    args: &DoctorArgs,
    topology: Option<&Topology>,
    report: &mut Report,
) -> Result<(), Failure> {
    let wanted = topology.into_iter().flat_map(wanted::queues);
    let queues: BTreeSet<String> = args.queues.iter().cloned().chain(wanted).collect();
    let exchanges: BTreeSet<String> = topology.into_iter().flat_map(wanted::exchanges).collect();
    let (queues, exchanges): (Vec<_>, Vec<_>) = (queues.into_iter().collect(), exchanges.into_iter().collect());
    look::entities(connection, &queues, &exchanges, args.depth, report).await?;
    look::confirm(connection, report).await
}

/// What the management API tells; `None` if there is none that answers.
async fn by_api(
    args: &DoctorArgs,
    settings: Option<&Settings>,
    report: &mut Report,
) -> Result<Option<Snapshot>, Failure> {
    let Some(access) = management::access(&args.broker)? else { return Ok(None) };
    let endpoint = access.endpoint.clone();
    let broker = args.broker.broker()?;
    let vhost = broker.endpoints().first().map_or("/", |endpoint| endpoint.vhost()).to_owned();
    let denied = |what: &str, why: &Refusal, report: &mut Report| {
        report.unknown(
            format!("{what}: {}", why.text()),
            "a user with the tag monitoring, and permissions: rabbitmqctl set_user_tags <user> monitoring",
        );
    };
    let asked = Api::new(access)?.snapshot(&vhost, |what, why| denied(what, why, report)).await;
    match asked {
        Ok(mut snapshot) => {
            snapshot.consumer_timeout = settings.and_then(Settings::consumer_timeout);
            Ok(Some(snapshot))
        }
        Err(refusal) => {
            let mend = match refusal {
                Refusal::NotAllowed(_) => "rabbitmqctl set_user_tags <user> monitoring; check the password",
                Refusal::NotFound | Refusal::Failed(_) => {
                    "rabbitmq-plugins enable rabbitmq_management on a node; check host and port (15672) of --api"
                }
            };
            let what = format!("{endpoint} gives no answer that can be used: {}", refusal.text());
            report.find(&API, Evidence::ToldByTheManagementApi, "management API", what, mend);
            Ok(None)
        }
    }
}

/// Says what would be known with the management API.
fn without_api(topology: Option<&Topology>, compared: bool, report: &mut Report) {
    let needs = "--api URL (rabbitmq-plugins enable rabbitmq_management)";
    for what in [
        "which queues there are beyond those that were named, their types, ages and redeliveries",
        "where dead letters go, and whether that way loses them",
        "whether clients publish with confirms, their prefetch, unacked messages, connections that go both ways",
        "nodes: memory and disk against their limits, file descriptors, partitions, alarms that are not raised yet",
        "default queue type, policies, feature flags, deprecated features in use, socket options of listeners",
    ] {
        report.unknown(what, needs);
    }
    if let Some(topology) = topology {
        wanted::without_api(topology, compared, report);
    }
}

/// The report with its counts, as JSON.
#[derive(serde::Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    report: &'a Report,
    summary: Summary,
}

#[derive(serde::Serialize)]
struct Summary {
    errors: usize,
    warnings: usize,
    advice: usize,
    exit_code: u8,
}

impl Summary {
    fn of(report: &Report) -> Self {
        let count = |level| report.findings.iter().filter(|finding| finding.level == level).count();
        Self {
            errors: count(Level::Error),
            warnings: count(Level::Warning),
            advice: count(Level::Advice),
            exit_code: report.exit().code(),
        }
    }
}
