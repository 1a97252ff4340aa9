//! The requester actor: publishes requests and consumes their answers, on one channel.
//!
//! Direct reply-to ties an answer to the channel that the request was published on (RabbitMQ, "Direct Reply-to"). So
//! requests and answers share one channel, and if it is lost, every open request ends as lost.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;
use fluffle_supervise::{ActorSpec, ExitError, MailboxDepth, SupervisedAddr, SupervisedContext};
use futures_util::StreamExt;
use lapin::{BasicProperties, options::BasicConsumeOptions, types::FieldTable};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::interval,
};

use crate::{
    base::{events::PublishResult, labels, trace::TracerSlot},
    flow::budget::{ByteRoom, Room},
    link::{
        bounded::{OPERATION_TIMEOUT, bounded},
        channel::{self, ChannelActor, ChannelShared, LeasedChannel},
        class::ClientError,
    },
    publish::{
        confirm::{ConfirmTracker, ConfirmVerdict, Returned, TooLarge},
        message::Prepared,
        name::PublisherName,
        travel::{NotSent, Travel},
    },
    request::{
        events::{RequestEvents, RequesterStats},
        span::FollowedSpan,
    },
};

/// The pseudo-queue of RabbitMQ that answers are consumed from.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How often requests whose callers no longer wait are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// How a request ended.
pub(crate) enum RequestOutcome {
    ReceivedAnswer(Box<ReceivedAnswer>),
    Returned(Returned),
    Nacked,
    /// The request was not sent, because its properties do not fit a frame of the connection.
    DoesNotFit(TooLarge),
    /// The channel was lost before the answer came.
    Lost,
}

/// An answer as it arrived.
pub(crate) struct ReceivedAnswer {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// One request, and the way back to its caller.
pub(crate) struct Asked {
    pub(crate) message: Prepared,
    pub(crate) reply: oneshot::Sender<RequestOutcome>,
    /// Whether the request has been sent, or must not be sent any more.
    pub(crate) travel: Arc<Travel>,
    /// Its part of the bytes that the requester may hold, until the broker has the request.
    pub(crate) room: Room,
    pub(crate) span: FollowedSpan,
}

/// One requester at a glance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequesterStatus {
    /// Its name in the tree.
    pub name: String,
    /// Its running totals.
    pub stats: RequesterStats,
    /// The most requests that wait for their answer at a time.
    pub window: usize,
    /// Requests that wait to be sent, and the most that may.
    pub mailbox: MailboxDepth,
}

/// The requests of one requester that are not sent yet. Outlives every actor and channel of the requester.
pub(crate) struct RequestTable {
    pub(crate) name: PublisherName,
    window: usize,
    /// Room for the bodies of all requests that the broker does not have yet.
    pub(crate) bytes: ByteRoom,
    sender: mpsc::Sender<Asked>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Asked>>>,
    pub(crate) events: Arc<RequestEvents>,
    /// Why the requester is closed, once it is.
    closed: OnceLock<NotSent>,
    handles_gone: Notify,
    /// What makes spans of accepted requests.
    pub(crate) tracer: TracerSlot,
}

impl RequestTable {
    pub(crate) fn new(name: String, mailbox: usize, window: usize, bytes: u64) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(mailbox.max(1));
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        Arc::new(Self {
            name: PublisherName::new(name),
            window,
            bytes: ByteRoom::new(bytes),
            sender,
            receiver,
            events: Arc::default(),
            closed: OnceLock::new(),
            handles_gone: Notify::new(),
            tracer: TracerSlot::default(),
        })
    }

    /// Waits for room in the mailbox. False if the requester is closed.
    pub(crate) async fn accept(&self, asked: Asked) -> bool {
        self.sender.send(asked).await.is_ok()
    }

    /// The last handle was dropped: no request comes any more, and no caller waits for an answer.
    pub(crate) fn abandon(&self) {
        self.handles_gone.notify_one();
    }

    /// Waits until the last handle is gone. For one waiter.
    pub(crate) async fn abandoned(&self) {
        self.handles_gone.notified().await;
    }

    /// Ends the requester for good. Dropping the requests that are not sent tells their callers.
    pub(crate) async fn close(&self, why: NotSent) {
        let _ = self.closed.set(why);
        self.bytes.close();
        let mut inbox = self.receiver.lock().await;
        inbox.close();
        while inbox.recv().await.is_some() {}
    }

    /// Closes the table of a requester that no service has ever had.
    pub(crate) fn close_unborn(&self) {
        let _ = self.closed.set(NotSent::NeverStarted);
        self.bytes.close();
        // No actor has ever held the reading end, so the lock is free.
        if let Ok(mut inbox) = self.receiver.try_lock() {
            inbox.close();
            while inbox.try_recv().is_ok() {}
        }
    }

    /// Why a request was never sent.
    pub(crate) fn not_sent(&self) -> NotSent {
        self.closed.get().copied().unwrap_or(NotSent::Ended)
    }

    pub(crate) fn status(&self) -> RequesterStatus {
        RequesterStatus {
            name: self.name.to_string(),
            stats: self.events.stats(),
            window: self.window,
            mailbox: self.depth(),
        }
    }

    fn depth(&self) -> MailboxDepth {
        let capacity = self.sender.max_capacity();
        MailboxDepth { waiting: capacity - self.sender.capacity(), capacity }
    }
}

pub(crate) struct RequesterActor {
    table: Arc<RequestTable>,
    channel: SupervisedAddr<ChannelActor>,
}

/// The child specification of a requester, which works on the channel that `channel` addresses.
pub(crate) fn spec(
    table: &Arc<RequestTable>,
    shared: &ChannelShared,
    channel: &SupervisedAddr<ChannelActor>,
) -> ActorSpec<RequesterActor> {
    let factory = {
        let (table, channel) = (Arc::clone(table), channel.clone());
        move || RequesterActor { table: Arc::clone(&table), channel: channel.clone() }
    };
    let (gauge, on) = (Arc::clone(table), Arc::clone(&shared.connection));
    ActorSpec::new("requester", factory)
        .reports_ready()
        .logs_exits(move |_| !on.connected())
        .backoff(channel::backoff())
        .mailbox_gauge(move || gauge.depth())
}

impl Actor for RequesterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let channel = self.channel.clone();
        let listening = async move {
            let lease = channel::borrow(channel).await?;
            let replies = listen(&lease).await.map_err(|error| ExitError::transient(ClientError(error)))?;
            Ok::<_, ExitError>((lease, replies))
        };
        ctx.spawn(listening.into_actor(self).map(|listening, actor, ctx| match listening {
            Ok((lease, replies)) => actor.run_on(lease, replies, ctx),
            Err(error) => actor.park(error, ctx),
        }));
    }
}

async fn listen(lease: &LeasedChannel) -> Result<lapin::Consumer, lapin::Error> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let listening = lease.channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default());
    Ok(bounded(OPERATION_TIMEOUT, listening).await?)
}

impl RequesterActor {
    fn run_on(&mut self, lease: LeasedChannel, replies: lapin::Consumer, ctx: &mut Context<Self>) {
        let running = run(lease, replies, Arc::clone(&self.table));
        ctx.spawn(
            running.into_actor(self).map(|error, actor, ctx| actor.park(ExitError::transient(ClientError(error)), ctx)),
        );
        ctx.ready();
    }

    fn park(&self, error: ExitError, ctx: &mut Context<Self>) {
        channel::park(&self.channel, error, || ExitError::transient(Ended), ctx);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the broker ended the requester's subscription to its answers")]
struct Ended;

/// The callers of requests without an answer, by correlation id.
type OpenRequests = HashMap<Arc<str>, oneshot::Sender<RequestOutcome>>;

/// The correlation ids of requests without a confirm, their room and their spans, by sequence number.
type UnconfirmedRequests = HashMap<u64, (Arc<str>, Room, FollowedSpan)>;

/// Publishes requests and takes answers until the channel is lost; then every open request ends as lost.
async fn run(lease: LeasedChannel, mut replies: lapin::Consumer, table: Arc<RequestTable>) -> lapin::Error {
    let mut inbox = Arc::clone(&table.receiver).lock_owned().await;
    let mut confirms = ConfirmTracker::new(lease.channel, lease.frame_max, true);
    let mut open = OpenRequests::new();
    let mut unconfirmed = UnconfirmedRequests::new();
    let mut sequence = 0;
    let mut sweep = interval(SWEEP);
    let lost = loop {
        tokio::select! {
            biased;
            reply = replies.next() => match reply {
                Some(Ok(delivery)) => answer(&mut open, delivery, &table.events),
                Some(Err(error)) => break error,
                None => break lapin::Error::from(std::io::Error::other(Ended)),
            },
            settled = confirms.settled(), if !confirms.is_empty() => {
                if let Some(error) = settle(&mut open, &mut unconfirmed, settled) {
                    break error;
                }
            }
            // Both numbers are bounded: while the broker blocks publishers, callers give up and leave `open`, but their
            // requests stay unconfirmed.
            asked = inbox.recv(), if open.len().max(confirms.len()) < table.window => match asked {
                Some(Asked { message, reply, travel, room, span }) if !reply.is_closed() && travel.depart() => {
                    sequence += 1;
                    unconfirmed.insert(sequence, (Arc::clone(&message.id), room, span));
                    open.insert(Arc::clone(&message.id), reply);
                    table.events.sent();
                    confirms.publish(sequence, with_reply_to(message));
                }
                Some(_) => {}
                None => std::future::pending().await,
            },
            _ = sweep.tick() => open.retain(|_, reply| !reply.is_closed()),
        }
    };
    for (_, reply) in open {
        // Fails only if the caller no longer waits.
        let _ = reply.send(RequestOutcome::Lost);
    }
    lost
}

fn with_reply_to(mut message: Prepared) -> Prepared {
    message.properties = message.amqp_properties().with_reply_to(REPLY_TO.into()).into();
    message
}

fn answer(open: &mut OpenRequests, delivery: lapin::message::Delivery, events: &RequestEvents) {
    let properties = labels::without_empty(delivery.properties);
    let asked = properties.correlation_id().as_ref().and_then(|id| open.remove(id.as_str()));
    let body = Bytes::from(delivery.data);
    let told = asked
        .map(|reply| reply.send(RequestOutcome::ReceivedAnswer(Box::new(ReceivedAnswer { properties, body }))).is_ok());
    if told != Some(true) {
        events.late_answer();
    }
}

/// If a request is confirmed, it goes on waiting for its answer. Any other verdict ends it. Gives the error that ended
/// the channel, if one of the verdicts has one.
fn settle(
    open: &mut OpenRequests,
    unconfirmed: &mut UnconfirmedRequests,
    settled: Vec<(u64, ConfirmVerdict)>,
) -> Option<lapin::Error> {
    let mut lost = None;
    for (sequence, verdict) in settled {
        let Some((id, _room, span)) = unconfirmed.remove(&sequence) else { continue };
        let answer = match verdict {
            ConfirmVerdict::Confirmed | ConfirmVerdict::Written => {
                span.end(PublishResult::Confirmed);
                continue;
            }
            ConfirmVerdict::Returned(returned) => {
                span.end(PublishResult::Returned);
                RequestOutcome::Returned(returned)
            }
            ConfirmVerdict::Nacked => {
                span.end(PublishResult::Nacked);
                RequestOutcome::Nacked
            }
            ConfirmVerdict::DoesNotFit(why) => RequestOutcome::DoesNotFit(why),
            ConfirmVerdict::Lost(error) => {
                lost = Some(error);
                RequestOutcome::Lost
            }
        };
        if let Some(reply) = open.remove(&id) {
            let _ = reply.send(answer);
        }
    }
    lost
}
