//! Names the consumer whose handler blocks the `io` thread, while it blocks it. Code on that thread cannot, because it
//! waits for the handler. If the handler never returns, nothing else tells which one it is.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use crate::consume::handler::on_io::CurrentStep;

/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(500);

/// A handler that has not returned after this time is named.
const BLOCKED: Duration = Duration::from_secs(1);

/// A thread that watches the handlers on the `io` thread. It ends when this value is dropped.
pub(super) struct IoWatch {
    pub(super) current: Arc<CurrentStep>,
    _end: mpsc::Sender<()>,
}

impl IoWatch {
    pub(super) fn start() -> io::Result<Self> {
        let current = Arc::<CurrentStep>::default();
        let (end, ended) = mpsc::channel::<()>();
        let watched = Arc::clone(&current);
        thread::Builder::new().name("fluffle-watchdog".to_owned()).spawn(move || {
            let mut named = None;
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                named = look(&watched, named);
            }
        })?;
        Ok(Self { current, _end: end })
    }
}

/// Names the handler that blocks the thread, unless it is the one that was named last. Returns when the one that was
/// named last began.
fn look(current: &CurrentStep, named: Option<Instant>) -> Option<Instant> {
    let Some((consumer, begun)) = current.get() else { return named };
    let for_ = begun.elapsed();
    if for_ > BLOCKED && named != Some(begun) {
        tracing::error!(
            %consumer, ?for_,
            "a handler blocks the thread where deliveries arrive and has not returned, although its consumer promised \
             that it does not block (`Consume::on_io`): until it returns, this service acks and publishes nothing and \
             may lose its connections; remove `on_io` from this consumer"
        );
        return Some(begun);
    }
    named
}
