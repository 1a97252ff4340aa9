//! Asks every place.

use rabbitmq_http_client::responses::QueueInfo;

use crate::{
    common::{
        amqp::{self, ANSWER},
        delivery_limit::{DeliveryLimit, Version},
        exit::Exit,
        failure::Failure,
        management::{self, Management},
        output::{json, safe},
        runtime,
    },
    explain::{
        args::ExplainArgs,
        databases, files,
        id::Id,
        queues::{self, Target},
        report::{Finding, Report, Source, State, at},
    },
};

/// Queues that are looked at by themselves, at most.
const MOST_QUEUES: usize = 100;

/// `fluffle explain`. The exit code says whether something is known.
pub(crate) fn command(args: &ExplainArgs) -> Result<Exit, Failure> {
    if args.id.is_empty() {
        return Err(Failure::new("the id is empty: a message without an id cannot be told from others"));
    }
    let report = runtime::block_on(explain(args))?;
    if args.output.json {
        json(&report)?;
    } else {
        print!("{}", report.text(&args.output));
    }
    Ok(report.exit())
}

async fn explain(args: &ExplainArgs) -> Result<Report, Failure> {
    let id = Id::new(&args.id);
    let mut findings = Vec::new();
    if let Some(made) = id.made_at() {
        let made = format!("made at {}, by its publisher's clock: the id is a UUIDv7", at(made));
        findings.push(Finding::new("id", Source::Id, State::Found).fact(made));
    }
    findings.extend(args.journal.iter().map(|path| files::journal(path, &id)));
    if let Some(url) = &args.outbox {
        findings.extend(databases::outbox(url, &id).await);
    }
    let mut unknown = Vec::new();
    findings.extend(in_queues(args, &id, &mut unknown).await?);
    findings.extend(args.seen.iter().map(|path| files::seen(path, &id)));
    unknown.extend(never_known(args));
    Ok(Report { id: args.id.clone(), findings, cannot_be_known: unknown })
}

async fn in_queues(args: &ExplainArgs, id: &Id, unknown: &mut Vec<String>) -> Result<Vec<Finding>, Failure> {
    let api = management::client(&args.broker)?;
    let targets = match &api {
        Some(api) => told(args, api, unknown).await?,
        None => {
            unknown.push("in which other queue it lies: AMQP lists no queues; --api finds them".to_owned());
            // Without the API, a queue may be a quorum queue.
            let counts = !args.queue.is_empty() && Version::of(&args.broker).await?.counts_looks();
            let target = |name: &String| Target { name: name.clone(), limit: given(args), counts };
            args.queue.iter().map(target).collect()
        }
    };
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let connection = amqp::connect(&args.broker, "explain").await?;
    let mut findings = Vec::new();
    let mut stop = runtime::Interrupt::new()?;
    for target in &targets {
        tokio::select! {
            biased;
            // What the look has taken is given back by closing the connection.
            () = stop.wait() => {
                unknown.push("the queues behind this one: interrupted".to_owned());
                break;
            }
            finding = queues::look(&connection, args, target, id) => findings.push(finding),
        }
    }
    let _ = tokio::time::timeout(ANSWER, connection.close(200, "done".into())).await;
    Ok(findings)
}

/// The queues to look at, told by the management API: those of `--queue`, and all that are neither empty nor consumed.
async fn told(args: &ExplainArgs, api: &Management, unknown: &mut Vec<String>) -> Result<Vec<Target>, Failure> {
    let failed = |why: String| Failure::new(format!("--api: {}", safe(&why)));
    let broker = args.broker.broker()?;
    let vhost = broker.endpoints().first().map_or("/", |endpoint| endpoint.vhost());
    let asked = async { tokio::try_join!(api.list_queues_in(vhost), api.server_version()) };
    let (all, version) = tokio::time::timeout(ANSWER, asked)
        .await
        .map_err(|_| failed(format!("no answer within {ANSWER:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    let version = Version::read(&version);
    let target = |queue: &QueueInfo| Target {
        name: queue.name.clone(),
        limit: args.delivery_limit.map_or_else(|| DeliveryLimit::of(queue, version), DeliveryLimit::given),
        counts: version.counts_looks() && queue.queue_type == "quorum",
    };
    let mut targets = Vec::new();
    for name in &args.queue {
        let known = all.iter().find(|queue| queue.name == *name).map(target);
        targets.push(known.unwrap_or_else(|| Target {
            name: name.clone(),
            limit: given(args),
            counts: version.counts_looks(),
        }));
    }
    let mut left = Vec::new();
    for queue in all.iter().filter(|queue| queue.message_count > 0 && !args.queue.contains(&queue.name)) {
        let untouched = queue.consumer_count == 0 && queue.queue_type != "stream" && !queue.exclusive;
        if untouched && targets.len() < MOST_QUEUES + args.queue.len() {
            targets.push(target(queue));
        } else {
            left.push(queue.name.clone());
        }
    }
    if !left.is_empty() {
        unknown.push(format!(
            "whether it lies in {} (told by the management API): they have consumers, which a look would hold up, or \
             are streams (`fluffle tail NAME --from first --filter id=ID`). --queue looks at a queue all the same",
            queues::shown(&left)
        ));
    }
    Ok(targets)
}

/// The limit of a queue of which nothing is told.
fn given(args: &ExplainArgs) -> DeliveryLimit {
    args.delivery_limit.map_or_else(DeliveryLimit::assumed, DeliveryLimit::given)
}

/// What no place can tell.
fn never_known(args: &ExplainArgs) -> Vec<String> {
    let mut unknown = vec![
        "whether it was in a queue and is gone: RabbitMQ keeps no history of messages that were acknowledged, expired \
         or dropped"
            .to_owned(),
        "whether a consumer has it in hand: messages that are not acknowledged yet cannot be looked at".to_owned(),
    ];
    if args.journal.is_empty() && args.outbox.is_none() {
        unknown.push("whether it waits at its publisher: --journal and --outbox look there".to_owned());
    }
    if args.seen.is_empty() {
        unknown
            .push("whether and how often it was handled: only a store of handled ids tells (--seen, --outbox)".into());
    } else {
        unknown.push("whether it was handled by consumers that keep no store, or another one".to_owned());
    }
    unknown
}
