//! Handlers on the `io` thread, where deliveries arrive. Each step of a handler there is timed: each call, and each
//! poll of its future. A step that blocks the thread is reported, and the consumer's handlers leave.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::sync::{mpsc, watch};

/// A step that takes longer than this blocks the thread. Python's asyncio calls a step slow from the same time on
/// (`loop.slow_callback_duration`).
pub(crate) const LONGEST_STEP: Duration = Duration::from_millis(100);

/// The step of a handler that runs on the `io` thread at this moment: its consumer, and since when.
#[derive(Default)]
pub(crate) struct CurrentStep(Mutex<Option<(Arc<str>, Instant)>>);

impl CurrentStep {
    pub(crate) fn get(&self) -> Option<(Arc<str>, Instant)> {
        self.lock().clone()
    }

    fn set(&self, step: Option<(Arc<str>, Instant)>) {
        let before = std::mem::replace(&mut *self.lock(), step);
        // Outside the lock.
        drop(before);
    }

    /// Held for a few instructions, so the `io` thread never waits.
    fn lock(&self) -> MutexGuard<'_, Option<(Arc<str>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handlers of one consumer while they run on the `io` thread.
pub(crate) struct OnIo {
    consumer: Arc<str>,
    current: Arc<CurrentStep>,
    /// Steps that took longer than [`LONGEST_STEP`]. Room for one, because the first one is enough.
    blocked: mpsc::Sender<Duration>,
    leave: watch::Sender<bool>,
}

impl OnIo {
    /// The handlers of `consumer`, and the time of a step that blocks the thread, if there is ever one.
    pub(crate) fn new(consumer: &str, current: Arc<CurrentStep>) -> (Arc<Self>, mpsc::Receiver<Duration>) {
        let (blocked, told) = mpsc::channel(1);
        let leave = watch::Sender::new(false);
        (Arc::new(Self { consumer: consumer.into(), current, blocked, leave }), told)
    }

    /// A step begins; it ends when the value is dropped.
    pub(crate) fn begin(&self) -> TimedStep<'_> {
        let begun = Instant::now();
        self.current.set(Some((Arc::clone(&self.consumer), begun)));
        TimedStep { of: self, begun }
    }

    /// Tells the dispatchers to leave, and waits until they have.
    pub(crate) async fn leave(&self) {
        self.leave.send_replace(true);
        self.leave.closed().await;
    }

    /// The stay of one dispatcher.
    pub(crate) fn stay(&self) -> Stay {
        let present = self.leave.subscribe();
        let mut told = present.clone();
        // An error means that the consumer is gone, so there is nothing to stay for.
        let over = async move { drop(told.wait_for(|leave| *leave).await) };
        Stay { over: Some(over.boxed_local()), _present: present }
    }
}

/// A step of a handler on the `io` thread.
pub(crate) struct TimedStep<'a> {
    of: &'a OnIo,
    begun: Instant,
}

impl Drop for TimedStep<'_> {
    fn drop(&mut self) {
        self.of.current.set(None);
        let took = self.begun.elapsed();
        // The first panic of a process may print for long, and a crash is reported otherwise.
        if took > LONGEST_STEP && !std::thread::panicking() {
            // Fails if one was told of before.
            let _ = self.of.blocked.try_send(took);
        }
    }
}

/// How long a dispatcher stays on the `io` thread. While this value lives, the dispatcher has not left.
pub(crate) struct Stay {
    /// `None` once it is over.
    over: Option<LocalBoxFuture<'static, ()>>,
    _present: watch::Receiver<bool>,
}

impl Stay {
    /// Whether the dispatcher is to leave. If not, the task is woken when it is.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(over) = &mut self.over
            && let Poll::Ready(()) = over.poll_unpin(cx)
        {
            self.over = None;
        }
        self.over.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, thread::sleep};

    use super::*;

    #[test]
    fn a_step_is_named_while_it_runs_and_told_of_if_it_took_too_long() {
        let current = Arc::new(CurrentStep::default());
        let (on_io, mut told) = OnIo::new("orders", Arc::clone(&current));
        let step = on_io.begin();
        assert_eq!(&*current.get().unwrap().0, "orders");
        drop(step);
        assert!(current.get().is_none() && told.try_recv().is_err(), "a quick step");
        for _ in 0..2 {
            let step = on_io.begin();
            sleep(LONGEST_STEP + Duration::from_millis(5));
            drop(step);
        }
        assert!(told.try_recv().unwrap() > LONGEST_STEP);
        assert!(told.try_recv().is_err(), "two reports of one consumer");
    }

    #[test]
    fn the_handlers_have_left_when_the_last_dispatcher_is_gone() {
        let (on_io, _told) = OnIo::new("orders", Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, mut other) = (on_io.stay(), on_io.stay());
        assert!(!one.is_over(&mut cx));
        let mut leave = Box::pin(on_io.leave());
        assert!(leave.poll_unpin(&mut cx).is_pending());
        assert!(one.is_over(&mut cx) && other.is_over(&mut cx) && on_io.stay().is_over(&mut cx));
        drop(one);
        assert!(leave.poll_unpin(&mut cx).is_pending(), "one is still there");
        drop(other);
        assert!(leave.poll_unpin(&mut cx).is_ready());
    }
}
