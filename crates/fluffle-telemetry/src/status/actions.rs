//! What the page may do to the service.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use fluffle_amqp::{Replay, Service, ServiceError};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::status::places::Place;

/// Something that the page may do to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Pauses the consumers of a queue: [`Service::pause_consumer`].
    Pause,
    /// Resumes them after a pause: [`Service::resume_consumer`].
    Resume,
    /// Closes an open circuit breaker or kill switch: [`Service::resume_consumer`].
    ResumeBreaker,
    /// Sends the dead letters of a queue back to where they came from: [`Service::replay`]. The page does a dry run
    /// first.
    Replay,
    /// Closes the channel of a consumer or publisher, so that supervision can be watched at work. For demonstrations.
    Kill,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::ResumeBreaker, Self::Replay, Self::Kill];

    /// Its name in `POST /actions/<name>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::ResumeBreaker => "resume_breaker",
            Self::Replay => "replay",
            Self::Kill => "kill",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

/// What an action is done to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    queue: Option<String>,
    node: Option<String>,
    /// A body that forgets it publishes nothing.
    #[serde(default = "yes")]
    dry_run: bool,
}

fn yes() -> bool {
    true
}

/// What came of an action.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) words: String,
    pub(crate) lines: Vec<String>,
}

/// Why an action was not done. The text is for the page and the log, and has no secret.
#[derive(Debug)]
pub(crate) struct NotDone(pub(crate) StatusCode, pub(crate) String);

/// How long an action may take until its answer is given without it.
const LIMIT: Duration = Duration::from_secs(30);

/// Does it, and logs it with who asked. The action is a task of its own: a reader who goes away does not leave half of
/// it, and it goes on when its answer is given without it. `place` is taken until it has ended.
pub(crate) async fn act(
    service: Service,
    action: Action,
    request: Request,
    peer: SocketAddr,
    place: Place,
) -> Result<Done, NotDone> {
    let task = tokio::spawn(async move {
        let (queue, node) = (request.queue.as_deref(), request.node.as_deref());
        let (name, dry_run) = (action.as_str(), (action == Action::Replay).then_some(request.dry_run));
        tracing::info!(action = name, queue, node, dry_run, %peer, "the status page was asked for an action");
        let done = carry_out(&service, action, &request).await;
        match &done {
            Ok(Done { words, .. }) => {
                tracing::info!(action = name, queue, node, dry_run, %peer, "the status page acted: {words}");
            }
            Err(NotDone(_, why)) => {
                tracing::warn!(action = name, queue, node, dry_run, %peer, "the status page could not act: {why}");
            }
        }
        drop(place);
        done
    });
    let not_done = |status, why: &str| Err(NotDone(status, why.to_owned()));
    match tokio::time::timeout(LIMIT, task).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => not_done(StatusCode::INTERNAL_SERVER_ERROR, "the action crashed: the log says where"),
        Err(_) => not_done(StatusCode::GATEWAY_TIMEOUT, "the action runs for 30 s now: the log says how it ends"),
    }
}

async fn carry_out(service: &Service, action: Action, request: &Request) -> Result<Done, NotDone> {
    let queue = || request.queue.as_deref().ok_or(missing("queue"));
    let done = |words: String| Ok(Done { words, lines: Vec::new() });
    match action {
        Action::Pause => {
            let queue = queue()?;
            service.pause_consumer(queue).await.map_err(refused)?;
            done(format!("The consumers of {queue} are paused; nothing of theirs is in hand."))
        }
        Action::Resume | Action::ResumeBreaker => {
            let queue = queue()?;
            match service.resume_consumer(queue).map_err(refused)? {
                true => done(format!("The consumers of {queue} take messages again.")),
                false => done(format!("The consumers of {queue} were not stopped.")),
            }
        }
        Action::Replay => replay(service, queue()?, request.dry_run).await,
        Action::Kill => {
            let node = request.node.as_deref().ok_or(missing("node"))?;
            if service.kill_node(node) {
                done(format!("{node} was killed; its supervisor starts it again."))
            } else {
                Err(NotDone(StatusCode::NOT_FOUND, format!("there is no running actor {node}")))
            }
        }
    }
}

/// Replays what the consumers of a queue have dead-lettered; consumers may have a dead-letter queue of their own.
async fn replay(service: &Service, queue: &str, dry_run: bool) -> Result<Done, NotDone> {
    let consumers = service.status().consumers;
    let own = consumers.into_iter().filter(|consumer| consumer.queue == queue);
    let dead: BTreeSet<_> = own.map(|consumer| consumer.dead_letter_queue).collect();
    if dead.is_empty() {
        return Err(NotDone(StatusCode::NOT_FOUND, format!("the service has no consumer of {queue}")));
    }
    let mut lines = Vec::new();
    for dead in dead {
        let replay = Replay::from(&dead);
        let replay = if dry_run { replay.dry_run() } else { replay };
        let replayed = service.replay(replay).await;
        let replayed = replayed.map_err(|error| NotDone(StatusCode::CONFLICT, error.to_string()))?;
        lines.push(format!("{dead}: {replayed}"));
    }
    let words = match dry_run {
        true => format!("A replay of the dead letters of {queue} would do this; nothing was sent:"),
        false => format!("The dead letters of {queue} were replayed:"),
    };
    Ok(Done { words, lines })
}

fn missing(field: &str) -> NotDone {
    NotDone(StatusCode::BAD_REQUEST, format!("the body of the action has no `{field}`"))
}

fn refused(error: ServiceError) -> NotDone {
    match error {
        ServiceError::UnknownConsumer { .. } => NotDone(StatusCode::NOT_FOUND, error.to_string()),
        _ => NotDone(StatusCode::CONFLICT, error.to_string()),
    }
}
