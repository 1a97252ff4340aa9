//! The publisher actor: takes messages from its outbox, puts them on its channel, and brings the verdicts back.
//!
//! All it knows that matters is in the [`SendQueue`], which outlives it: a crash, a closed channel or a lost connection
//! costs a fresh actor, and the fresh one starts by publishing again, oldest first, whatever has no verdict.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedAddr, SupervisedContext};
use tokio::{
    sync::{mpsc, watch},
    time::{interval, sleep},
};

use crate::{
    base::drain::{Clock, Step},
    link::{
        channel::{self, Broken, ChannelActor, ChannelShared, LeasedChannel},
        class::{Class, ClientError, Operation, classify, is_internal},
    },
    publish::{
        confirm::{ConfirmTracker, ConfirmVerdict},
        entry::Entry,
        overdue::Overdue,
        send_queue::{LOOK, OnChannel, SendQueue, Waiting},
    },
};

/// Most messages taken from the mailbox in one turn: bursts are cheap for lapin and the broker, longer ones gain nothing.
const BURST: usize = 64;

/// How long a publisher without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

pub(crate) struct PublisherActor {
    send_queue: Arc<SendQueue>,
    channel: SupervisedAddr<ChannelActor>,
    shared: Arc<ChannelShared>,
    confirms: bool,
    lease: Option<LeasedChannel>,
    draining: watch::Sender<bool>,
}

/// The child specification of a publisher; it lives on the channel that `channel` addresses. When the application shuts
/// down, what is in flight may take what `clock` leaves it to be confirmed.
pub(crate) fn spec(
    send_queue: &Arc<SendQueue>,
    shared: &Arc<ChannelShared>,
    channel: &SupervisedAddr<ChannelActor>,
    confirms: bool,
    clock: &Clock,
) -> ActorSpec<PublisherActor> {
    let factory = {
        let (send_queue, shared, channel) = (Arc::clone(send_queue), Arc::clone(shared), channel.clone());
        move || PublisherActor {
            send_queue: Arc::clone(&send_queue),
            channel: channel.clone(),
            shared: Arc::clone(&shared),
            confirms,
            lease: None,
            draining: watch::Sender::new(false),
        }
    };
    let (gauge, clock) = (Arc::clone(send_queue), clock.clone());
    ActorSpec::new("publisher", factory)
        .reports_ready()
        .backoff(channel::backoff())
        .shutdown_within(move || clock.left(Step::Confirms))
        .mailbox_gauge(move || gauge.depth())
}

impl Actor for PublisherActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(channel::borrow(self.channel.clone()).into_actor(self).map(|lease, actor, ctx| match lease {
            Ok(lease) => actor.publish_on(lease, ctx),
            Err(error) => ctx.fail(error),
        }));
    }

    /// With a channel that still works: publishes what was accepted, waits for its confirms, then stops.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        let usable = self.lease.as_ref().is_some_and(|lease| lease.channel.status().connected());
        if usable && self.send_queue.outstanding() > 0 {
            self.draining.send_replace(true);
            Running::Continue
        } else {
            Running::Stop
        }
    }
}

impl PublisherActor {
    fn publish_on(&mut self, lease: LeasedChannel, ctx: &mut Context<Self>) {
        self.lease = Some(lease.clone());
        let blocked = self.shared.connection.blocked.subscribe();
        let shared = Arc::clone(&self.shared);
        let running =
            run(lease, Arc::clone(&self.send_queue), shared, self.confirms, blocked, self.draining.subscribe());
        ctx.spawn(running.into_actor(self).map(|end, actor, ctx| match end {
            End::Drained => {
                actor.lease = None;
                ctx.stop();
            }
            End::ChannelLost(error) => actor.park(error, ctx),
        }));
        ctx.ready();
    }

    /// Without a channel: tells the channel actor, which takes this actor down with itself. Should it not, ends.
    fn park(&mut self, error: lapin::Error, ctx: &mut Context<Self>) {
        self.lease = None;
        if classify(&error, Operation::Publish) == Class::Permanent {
            tracing::error!(publisher = %self.send_queue.name, %error, "the broker closed the channel over a publish");
            self.shared.redeclare();
            if self.send_queue.refuse(&error) {
                self.shared.prove();
            }
        } else if is_internal(&error) {
            self.send_queue.refuse_answers(&error);
        }
        // Even a refusal is transient for the channel: the messages it was about have been dealt with above.
        let telling = self.channel.post(Broken(ExitError::transient(ClientError(error.clone()))));
        ctx.spawn(telling.into_actor(self).map(|_, _, _| ()));
        ctx.run_later(PARKED, move |_, ctx| ctx.fail(ExitError::transient(ClientError(error))));
    }
}

enum End {
    Drained,
    ChannelLost(lapin::Error),
}

/// Publishes until the channel is lost, or until everything accepted is settled after `draining` turned true.
async fn run(
    lease: LeasedChannel,
    send_queue: Arc<SendQueue>,
    shared: Arc<ChannelShared>,
    confirms_on: bool,
    blocked: watch::Receiver<Option<String>>,
    mut draining: watch::Receiver<bool>,
) -> End {
    let mut inbox = send_queue.inbox().await;
    // Dropped before the mailbox is let go: nobody publishes directly while another empties it.
    let on_channel = send_queue.publish_on(ConfirmTracker::new(lease.channel, lease.frame_max, confirms_on));
    let mut waiting = Waiting::new(&send_queue);
    let mut settled = Vec::new();
    let mut overdue = Overdue::new(send_queue.confirm_limit);
    let mut look = interval(overdue.interval());
    on_channel.publish(send_queue.left_over());
    // Only an earlier channel leaves suspects; each goes out alone, and nothing new before the last is cleared.
    let mut suspects = send_queue.has_suspects();
    let mut draining_since = None;
    let mut proven = false;
    let mut linger = pin!(send_queue.linger());
    loop {
        let drain_asked = draining_since.is_some();
        if drain_asked {
            send_queue.send_open();
        }
        if suspects && on_channel.is_empty() {
            let next = send_queue.suspect();
            suspects = next.is_some();
            on_channel.publish(next);
        }
        if !suspects {
            on_channel.publish_waiting(&mut waiting);
            on_channel.open(true);
        }
        if drain_asked && !suspects && on_channel.is_empty() && send_queue.outstanding() == 0 {
            return End::Drained;
        }
        tokio::select! {
            biased;
            () = &mut linger => {}
            () = on_channel.settled(&mut settled) => {
                if !proven && settled.iter().any(|(_, verdict)| matches!(verdict, ConfirmVerdict::Confirmed)) {
                    proven = true;
                    shared.prove();
                }
                if let Some(error) = settle(&send_queue, &mut settled) {
                    return End::ChannelLost(error);
                }
            }
            taken = take(&on_channel, &send_queue, &mut inbox, &mut waiting.entries), if !suspects => {
                if taken == 0 {
                    return End::Drained;
                }
            }
            _ = draining.wait_for(|asked| *asked), if !drain_asked => draining_since = Some(PublisherDrain::begin(&send_queue)),
            // A journal tells nobody when its last record goes.
            () = sleep(LOOK), if drain_asked && send_queue.journal.is_some() => {}
            _ = look.tick() => {
                if blocked.borrow().is_some() {
                    overdue.pause();
                    continue;
                }
                let (oldest, next) = send_queue.progress();
                if overdue.look(oldest.filter(|_| !on_channel.is_empty()), next, Instant::now()) {
                    return End::ChannelLost(unconfirmed(&send_queue));
                }
            }
        }
    }
}

/// The drain of one publisher, which tells the log how it begins and how it ends.
struct PublisherDrain {
    send_queue: Arc<SendQueue>,
    since: Instant,
}

impl PublisherDrain {
    fn begin(send_queue: &Arc<SendQueue>) -> Self {
        tracing::info!(publisher = %send_queue.name, unconfirmed = send_queue.outstanding(), "drain: waits for its confirms");
        Self { send_queue: Arc::clone(send_queue), since: Instant::now() }
    }
}

impl Drop for PublisherDrain {
    fn drop(&mut self) {
        let (publisher, took) = (&self.send_queue.name, self.since.elapsed());
        match self.send_queue.outstanding() {
            0 => tracing::info!(%publisher, ?took, "drain: everything is confirmed"),
            left => tracing::warn!(
                %publisher, left, ?took,
                "drain: cut off with messages unconfirmed, by its deadline or a lost channel: they go back to whoever waits \
                 for them, or stay in the journal"
            ),
        }
    }
}

/// What is to be published next: from the journal if there is one, and no more than the window has room for. Cancellation safe.
/// 0 when the mailbox is closed.
async fn take(
    on_channel: &OnChannel,
    send_queue: &SendQueue,
    inbox: &mut mpsc::Receiver<Entry>,
    into: &mut Vec<Entry>,
) -> usize {
    // Looked at each time, for senders publish too: a verdict makes room, and begins a new look.
    let room = || on_channel.room().min(BURST);
    match &send_queue.journal {
        Some(_) if room() == 0 => pending().await,
        Some(ledger) => ledger.take(into, room()).await,
        None => {
            poll_fn(|cx| match room() {
                0 => Poll::Pending,
                room => inbox.poll_recv_many(cx, into, room),
            })
            .await
        }
    }
}

/// A confirm has not come in its time: whatever the reason, this channel cannot be relied on.
fn unconfirmed(send_queue: &SendQueue) -> lapin::Error {
    let (name, limit) = (&send_queue.name, send_queue.confirm_limit);
    let text = format!("the broker has not confirmed a message of publisher {name} for {limit:?}: publishing it again");
    lapin::Error::from(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// Passes verdicts on, and empties `settled`; gives the error that ended the channel, if one of them is of that kind.
fn settle(send_queue: &SendQueue, settled: &mut Vec<(u64, ConfirmVerdict)>) -> Option<lapin::Error> {
    let lost = settled.iter().filter_map(|(_, verdict)| match verdict {
        ConfirmVerdict::Lost(error) => Some(error),
        _ => None,
    });
    // Of several, the broker's own words teach more than "invalid channel state".
    let lost = lost.reduce(|first, other| if other.is_amqp_error() { other } else { first }).cloned();
    send_queue.settle(settled.drain(..));
    lost
}
