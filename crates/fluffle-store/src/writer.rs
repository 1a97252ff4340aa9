//! The thread that owns a store, and the bounded queue to it.
//!
//! The thread takes all waiting commands at once and works on them as one group. While one group is written to the
//! disk, the next one gathers. This is the group commit.

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::Builder,
    select,
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};

use crate::StoreError;

/// The most commands that wait for the thread, and the most in one group. Callers beyond that wait for room.
pub(crate) const QUEUE: usize = 1_024;

/// The work of a store's thread.
pub(crate) trait Work: Send + 'static {
    type Command: Send + 'static;

    /// Executes and answers all `commands`. The list is empty if [`patience`](Self::patience) is over, or if
    /// [`Writer::wake`] was called.
    fn work(&mut self, commands: Vec<Self::Command>);

    /// How long to wait for a command before `work` is called without one. `None` waits without limit.
    fn patience(&self) -> Option<Duration>;

    /// Called once at the end. Writes everything that is not on the disk yet.
    fn finish(&mut self) -> Result<(), StoreError>;
}

enum Order<C> {
    Do(C),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The callers' side. When it is dropped, the thread finishes its work and ends.
pub(crate) struct Writer<C> {
    orders: mpsc::Sender<Order<C>>,
    wake: Arc<Notify>,
    path: Arc<Path>,
}

/// A place in the queue.
pub(crate) struct Slot<'a, C>(mpsc::Permit<'a, Order<C>>);

impl<C> Slot<'_, C> {
    pub(crate) fn send(self, command: C) {
        self.0.send(Order::Do(command));
    }
}

/// A place in the queue that borrows nothing, so it can be held for a while.
pub(crate) struct HeldSlot<C>(mpsc::OwnedPermit<Order<C>>);

impl<C> HeldSlot<C> {
    pub(crate) fn send(self, command: C) {
        self.0.send(Order::Do(command));
    }
}

impl<C: Send + 'static> Writer<C> {
    pub(crate) fn spawn(name: &str, path: &Path, work: impl Work<Command = C>) -> io::Result<Self> {
        let (orders, queue) = mpsc::channel(QUEUE);
        let wake = Arc::new(Notify::new());
        let woken = Arc::clone(&wake);
        let runtime = Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(run(work, queue, &woken)))?;
        Ok(Self { orders, wake, path: path.into() })
    }

    /// Waits for a place in the queue. Cancel safe.
    pub(crate) async fn slot(&self) -> Result<Slot<'_, C>, StoreError> {
        self.orders.reserve().await.map(Slot).map_err(|_| self.closed())
    }

    /// Like [`slot`](Self::slot), for a place that is held for a while. Cancel safe.
    pub(crate) async fn held_slot(&self) -> Result<HeldSlot<C>, StoreError> {
        self.orders.clone().reserve_owned().await.map(HeldSlot).map_err(|_| self.closed())
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> C,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.slot().await?.send(command(reply));
        answer.await.unwrap_or_else(|_| Err(self.closed()))
    }

    /// Wakes the thread for work that did not come through the queue.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Resolves when everything is on the disk, the file is closed and its lock is free.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Close(reply)).await.map_err(|_| self.closed())?;
        answer.await.unwrap_or_else(|_| Err(self.closed()))
    }

    pub(crate) fn closed(&self) -> StoreError {
        StoreError::closed(&self.path)
    }
}

async fn run<W: Work>(mut work: W, mut queue: mpsc::Receiver<Order<W::Command>>, wake: &Notify) {
    let mut closers = Vec::new();
    let mut orders = Vec::with_capacity(QUEUE);
    loop {
        let patience = work.patience();
        let ended = select! {
            biased;
            taken = queue.recv_many(&mut orders, QUEUE) => taken == 0,
            () = wake.notified() => false,
            () = sleep(patience.unwrap_or_default()), if patience.is_some() => false,
        };
        let mut commands = Vec::with_capacity(orders.len());
        for order in orders.drain(..) {
            match order {
                Order::Do(command) => commands.push(command),
                Order::Close(reply) => {
                    // Commands already in the queue are still executed. After them `recv_many` returns 0, which ends
                    // the loop.
                    queue.close();
                    closers.push(reply);
                }
            }
        }
        work.work(commands);
        if ended {
            break;
        }
    }
    let finished = work.finish();
    drop(work);
    for closer in closers {
        // Fails only if the caller of `close` no longer waits.
        let _gone = closer.send(finished.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc};

    use futures_util::{FutureExt, poll};
    use tokio::sync::oneshot;

    use super::*;

    /// Work that blocks, like a stuck disk, until the test lets it continue.
    struct Stuck(mpsc::Receiver<()>);

    type Reply = oneshot::Sender<Result<usize, StoreError>>;

    impl Work for Stuck {
        type Command = Reply;

        fn work(&mut self, commands: Vec<Reply>) {
            let group = commands.len();
            self.0.recv().unwrap();
            commands.into_iter().for_each(|reply| reply.send(Ok(group)).unwrap());
        }

        fn patience(&self) -> Option<Duration> {
            None
        }

        fn finish(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    /// The test has one thread: if a caller blocked on the disk, nothing could let the disk continue.
    #[tokio::test]
    async fn a_disk_that_stands_still_blocks_no_executor_and_bounds_the_queue() {
        let (go_on, stuck) = mpsc::channel();
        let writer = Writer::spawn("stuck", Path::new("stuck"), Stuck(stuck)).unwrap();
        let mut first = Box::pin(writer.ask(|reply| reply));
        assert!(poll!(&mut first).is_pending());
        // When all places are free again, the thread has taken the command.
        while writer.orders.capacity() < QUEUE {
            tokio::task::yield_now().await;
        }
        let mut queued: Vec<_> = (0..QUEUE).map(|_| Box::pin(writer.ask(|reply| reply))).collect();
        for ask in &mut queued {
            // Outside tokio's task budget, because an exhausted budget would look like a full queue.
            assert!(tokio::task::unconstrained(ask).now_or_never().is_none());
        }
        assert!(tokio::task::unconstrained(writer.slot()).now_or_never().is_none(), "the queue has no bound");

        for _ in 0..2 {
            go_on.send(()).unwrap();
        }
        assert_eq!(first.await.unwrap(), 1);
        for ask in queued {
            assert_eq!(ask.await.unwrap(), QUEUE, "commands that waited together are one group");
        }
        drop(go_on);
    }

    /// If the thread dies, callers get errors and do not wait for ever.
    #[tokio::test]
    async fn a_dead_thread_is_told_of() {
        let (go_on, stuck) = mpsc::channel();
        let writer = Writer::spawn("dies", Path::new("dies"), Stuck(stuck)).unwrap();
        drop(go_on);
        for _ in 0..2 {
            let error = writer.ask(|reply| reply).await.unwrap_err();
            assert_eq!(error.kind(), crate::StoreErrorKind::Closed);
        }
        assert!(writer.close().await.is_err());
    }
}
