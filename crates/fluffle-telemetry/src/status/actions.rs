//! What the page may do to the service.

use std::{net::SocketAddr, time::Duration};

use fluffle_amqp::{Replay, Service};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

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
    /// Sends the dead letters of a queue back to it: [`Service::replay`]. The page does a dry run first.
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    queue: Option<String>,
    node: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// What came of an action.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) words: String,
    pub(crate) lines: Vec<String>,
}

/// How long an action may take until its answer is given without it.
const LIMIT: Duration = Duration::from_secs(50);

/// Does it, and logs it with who asked.
pub(crate) async fn act(
    service: &Service,
    action: Action,
    request: &Request,
    peer: SocketAddr,
) -> Result<Done, (StatusCode, String)> {
    let (queue, node, dry_run) = (request.queue.as_deref(), request.node.as_deref(), request.dry_run);
    let name = action.as_str();
    let done = tokio::time::timeout(LIMIT, carry_out(service, action, request)).await;
    let done =
        done.unwrap_or_else(|_| Err((StatusCode::GATEWAY_TIMEOUT, "it takes longer: look again later".to_owned())));
    match &done {
        Ok(Done { words, .. }) => {
            tracing::info!(action = name, queue, node, dry_run, %peer, "the status page acted: {words}");
        }
        Err((_, why)) => {
            tracing::warn!(action = name, queue, node, dry_run, %peer, "an action of the status page failed: {why}");
        }
    }
    done
}

async fn carry_out(service: &Service, action: Action, request: &Request) -> Result<Done, (StatusCode, String)> {
    let queue = || request.queue.as_deref().ok_or((StatusCode::BAD_REQUEST, "the body has no `queue`".to_owned()));
    let conflict = |error: &dyn std::error::Error| (StatusCode::CONFLICT, error.to_string());
    let done = |words: String| Ok(Done { words, lines: Vec::new() });
    match action {
        Action::Pause => {
            let queue = queue()?;
            service.pause_consumer(queue).await.map_err(|error| conflict(&error))?;
            done(format!("The consumers of {queue} are paused; nothing of theirs is in hand."))
        }
        Action::Resume | Action::ResumeBreaker => {
            let queue = queue()?;
            match service.resume_consumer(queue).map_err(|error| conflict(&error))? {
                true => done(format!("The consumers of {queue} take messages again.")),
                false => done(format!("The consumers of {queue} were not stopped.")),
            }
        }
        Action::Replay => {
            let queue = queue()?;
            let replay = Replay::from(format!("{queue}.dead"));
            let replay = if request.dry_run { replay.dry_run() } else { replay };
            let replayed = service.replay(replay).await.map_err(|error| conflict(&error))?;
            done(replayed.to_string())
        }
        Action::Kill => {
            let node = request.node.as_deref();
            let node = node.ok_or((StatusCode::BAD_REQUEST, "the body has no `node`".to_owned()))?;
            if service.kill_node(node) {
                done(format!("{node} was killed; its supervisor starts it again."))
            } else {
                Err((StatusCode::NOT_FOUND, format!("there is no running actor {node}")))
            }
        }
    }
}
