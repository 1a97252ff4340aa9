//! The publisher actor: takes messages from its send queue, publishes them on its channel, and settles them by their
//! verdicts.
//!
//! Every message is in the [`SendQueue`], which outlives the actor. After a crash, a closed channel or a lost
//! connection a fresh actor starts, and first publishes again, oldest first, every message without a verdict.

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
    time::{Instant as Moment, interval, sleep, sleep_until},
};

use crate::{
    base::drain::{Clock, Step},
    link::{
        channel::{self, ChannelActor, ChannelShared, LeasedChannel},
        class::{Class, ClientError, Operation, classify, is_internal},
    },
    publish::{
        confirm::{ConfirmTracker, ConfirmVerdict},
        entry::Entry,
        overdue::Overdue,
        passing::Passing,
        send_queue::{LOOK, OnChannel, SendQueue, UnsentEntries},
    },
};

/// Most messages taken from the mailbox in one turn. A burst costs lapin and the broker less than its messages one by
/// one; longer bursts gain nothing more.
const BURST: usize = 64;

/// How long a channel that is given up waits for the confirms of what is on its wire.
const REST: Duration = Duration::from_secs(1);

pub(crate) struct PublisherActor {
    send_queue: Arc<SendQueue>,
    channel: SupervisedAddr<ChannelActor>,
    shared: Arc<ChannelShared>,
    confirms: bool,
    lease: Option<LeasedChannel>,
    draining: watch::Sender<bool>,
}

/// The child specification of a publisher, which works on the channel that `channel` addresses. When the application
/// shuts down, the messages in flight have as much time to be confirmed as `clock` leaves for that step.
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
    let on = Arc::clone(&shared.connection);
    ActorSpec::new("publisher", factory)
        .reports_ready()
        .logs_exits(move |_| !on.connected())
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

    /// If the channel still works: publishes what was accepted, waits for its confirms, then stops.
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
        let blocked = self.shared.connection.standing.blocks();
        let shared = Arc::clone(&self.shared);
        let running =
            run(lease, Arc::clone(&self.send_queue), shared, self.confirms, blocked, self.draining.subscribe());
        ctx.spawn(running.into_actor(self).map(|end, actor, ctx| match end {
            End::Drained => {
                actor.lease = None;
                ctx.stop();
            }
            End::ChannelLost(error) => actor.park(error, ctx),
            End::NodeIdle(cause) => {
                actor.lease = None;
                let error = move || ExitError::transient(ClientError(cause.clone()));
                let text = error().error().to_string();
                channel::leave_node(&actor.channel, text, error, ctx);
            }
            End::Stale => {
                actor.lease = None;
                channel::retire(&actor.channel, || ExitError::transient(NotReplaced), ctx);
            }
        }));
        ctx.ready();
    }

    /// The channel is lost: finds out which messages the broker refused, if it said so, then waits to be stopped.
    fn park(&mut self, error: lapin::Error, ctx: &mut Context<Self>) {
        self.lease = None;
        if classify(&error, Operation::Publish) == Class::Permanent {
            tracing::error!(
                publisher = %self.send_queue.name, %error,
                "channel closed by the broker over a publish; with a second refusal a message goes back to its sender"
            );
            self.shared.redeclare();
            if self.send_queue.refuse(&error) {
                self.shared.prove();
            }
        } else if is_internal(&error) {
            self.send_queue.refuse_answers(&error);
        }
        // Even a refusal is transient for the channel, because the messages it is about are charged with it above.
        let lost = move || ExitError::transient(ClientError(error.clone()));
        channel::park(&self.channel, lost(), lost, ctx);
    }
}

enum End {
    Drained,
    ChannelLost(lapin::Error),
    /// The node has confirmed nothing on the whole channel, and there is another node to go to.
    NodeIdle(lapin::Error),
    /// A queue may refuse everything on the channel, so a fresh one is wanted.
    Stale,
}

#[derive(Debug, thiserror::Error)]
#[error("the channel on which a queue refused every message was not replaced in time")]
struct NotReplaced;

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
    // Declared after `inbox`, so dropped before it: no sender publishes directly when another actor has the mailbox.
    let on_channel = OnChannel::new(&send_queue, ConfirmTracker::new(lease.channel, lease.frame_max, confirms_on));
    let mut waiting = UnsentEntries::new(&send_queue);
    let mut settled = Vec::new();
    let mut overdue = Overdue::new(send_queue.confirm_limit);
    let mut look = interval(overdue.interval());
    on_channel.publish(send_queue.left_over());
    shared.is_in_use();
    // Only an earlier channel leaves suspects. Each is published alone, and nothing new before the last one is cleared.
    let mut suspects = send_queue.has_suspects();
    let mut stale_since = None;
    let mut draining_since = None;
    let mut proven = false;
    let mut linger = pin!(send_queue.linger());
    let passing = Passing { republish: send_queue.republish, topology: Arc::clone(&shared.connection.topology) };
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
        let mut next_due = None;
        if stale_since.is_none() && !drain_asked && send_queue.gives_up_channel() {
            stale_since = Some(Moment::now());
            on_channel.shut();
            tracing::info!(
                publisher = %send_queue.name,
                "a queue refuses every message on this channel, as after the death of its leader: a fresh channel is \
                 opened"
            );
        }
        if let Some(since) = stale_since {
            // Messages to other queues that are not confirmed by then are published again on the fresh channel.
            let until = since + REST;
            if on_channel.is_empty() || Moment::now() >= until {
                return End::Stale;
            }
            next_due = Some(until);
        } else if !suspects {
            let due;
            (due, next_due) = send_queue.due();
            on_channel.publish(due);
            on_channel.publish_waiting(&mut waiting);
            on_channel.open();
        }
        if drain_asked && !suspects && on_channel.is_empty() && send_queue.outstanding() == 0 {
            return End::Drained;
        }
        let takes = !suspects && stale_since.is_none();
        tokio::select! {
            biased;
            () = &mut linger => {}
            () = on_channel.settled(&mut settled) => {
                if !proven && settled.iter().any(|(_, verdict)| matches!(verdict, ConfirmVerdict::Confirmed)) {
                    proven = true;
                    shared.prove();
                }
                if let Some(error) = settle(&on_channel, &mut settled, &passing) {
                    return End::ChannelLost(error);
                }
            }
            taken = take(&on_channel, &send_queue, &mut inbox, &mut waiting.entries), if takes => {
                if taken == 0 {
                    return End::Drained;
                }
            }
            _ = draining.wait_for(|asked| *asked), if !drain_asked => {
                draining_since = Some(PublisherDrain::begin(&send_queue));
            }
            () = until(next_due) => {}
            // A journal tells nobody when its last record goes.
            () = sleep(LOOK), if drain_asked && send_queue.journal.is_some() => {}
            // Without confirms a message waits for its socket only, and would leave even if its channel were given up.
            () = on_channel.next_look(&mut look), if confirms_on => {
                if blocked.borrow().is_some() {
                    overdue.pause();
                    continue;
                }
                let (oldest, next) = send_queue.progress();
                if overdue.look(oldest.filter(|_| !on_channel.is_empty()), next, Instant::now()) {
                    let error = unconfirmed(&send_queue);
                    // As a node without a majority. A channel that had worked is replaced first, on the same node.
                    let leaves = !proven && shared.connection.broker.endpoints.len() > 1;
                    return if leaves { End::NodeIdle(error) } else { End::ChannelLost(error) };
                }
            }
        }
    }
}

/// Waits until then; for ever, if there is no such time.
async fn until(time: Option<Moment>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// The drain of one publisher. Logs its beginning, and its end when dropped.
struct PublisherDrain {
    send_queue: Arc<SendQueue>,
    since: Instant,
}

impl PublisherDrain {
    fn begin(send_queue: &Arc<SendQueue>) -> Self {
        let unconfirmed = send_queue.outstanding();
        tracing::info!(publisher = %send_queue.name, unconfirmed, "drain: waits for its confirms");
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
                "drain: cut off with messages unconfirmed, by its deadline or a lost channel; they go back to \
                 their senders, or stay in the journal"
            ),
        }
    }
}

/// Waits for the next messages to publish, from the journal if there is one, and takes no more than the window has room
/// for. Gives how many; 0 if the mailbox is closed. Cancellation safe.
async fn take(
    on_channel: &OnChannel,
    send_queue: &SendQueue,
    inbox: &mut mpsc::Receiver<Entry>,
    into: &mut Vec<Entry>,
) -> usize {
    // Asked at each poll, because senders publish too. A verdict makes room, and also starts the next poll.
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

/// The error of a channel on which a confirm has not come within the limit.
fn unconfirmed(send_queue: &SendQueue) -> lapin::Error {
    let (name, limit) = (&send_queue.name, send_queue.confirm_limit);
    let text =
        format!("the broker has not confirmed a message of publisher {name} for {limit:?}: it is published again");
    lapin::Error::from(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// Settles messages by their verdicts, and empties `settled`. Publishes what waited for them. Gives the error that
/// ended the channel, if one of the verdicts has one.
fn settle(on_channel: &OnChannel, settled: &mut Vec<(u64, ConfirmVerdict)>, passing: &Passing) -> Option<lapin::Error> {
    let lost = settled.iter().filter_map(|(_, verdict)| match verdict {
        ConfirmVerdict::Lost(error) => Some(error),
        _ => None,
    });
    // If there are several errors, one from the broker says more than lapin's "invalid channel state".
    let lost = lost.reduce(|first, other| if other.is_amqp_error() { other } else { first }).cloned();
    on_channel.settle(settled.drain(..), passing);
    lost
}
