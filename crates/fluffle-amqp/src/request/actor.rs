//! The requester actor: questions out, answers in, on one channel.
//!
//! Direct reply-to ties an answer to the very channel that asked (RabbitMQ, "Direct Answered-to"), so consuming the
//! answers and publishing the questions share it, and a lost channel answers every open question with "lost".

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
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
    base::labels,
    flow::budget::{ByteRoom, Room},
    link::{
        bounded::{OPERATION_TIMEOUT, bounded},
        channel::{self, Broken, ChannelActor, LeasedChannel},
        class::ClientError,
    },
    publish::{
        confirm::{ConfirmTracker, ConfirmVerdict, Returned, TooLarge},
        message::Prepared,
        travel::{NotSent, Travel},
    },
};

/// RabbitMQ's pseudo-queue for answers.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How often questions nobody waits for any more are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a requester without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

/// What came of a question.
pub(crate) enum Answer {
    Answered(Box<Answered>),
    Returned(Returned),
    Nacked,
    /// It was not sent.
    DoesNotFit(TooLarge),
    Lost,
}

/// An answer as it arrived.
pub(crate) struct Answered {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// One question and who asked it.
pub(crate) struct Asked {
    pub(crate) message: Prepared,
    pub(crate) reply: oneshot::Sender<Answer>,
    /// Whether it has been sent, or must not be any more.
    pub(crate) travel: Arc<Travel>,
    /// Its part of the exchange's bytes, until the broker has it.
    pub(crate) room: Room,
}

/// What outlives every incarnation of one requester: questions not sent yet.
pub(crate) struct RequestTable {
    pub(crate) name: String,
    window: usize,
    /// For the bodies of all questions that the broker does not have yet.
    pub(crate) bytes: ByteRoom,
    sender: mpsc::Sender<Asked>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Asked>>>,
    late: AtomicU64,
    closed: OnceLock<NotSent>,
    handles_gone: Notify,
}

impl RequestTable {
    pub(crate) fn new(name: String, mailbox: usize, window: usize, bytes: u64) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(mailbox.max(1));
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let (bytes, late, handles_gone) = (ByteRoom::new(bytes), AtomicU64::new(0), Notify::new());
        Arc::new(Self { name, window, bytes, sender, receiver, late, closed: OnceLock::new(), handles_gone })
    }

    /// Waits for room; false when the requester is closed.
    pub(crate) async fn accept(&self, asked: Asked) -> bool {
        self.sender.send(asked).await.is_ok()
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// The last handle was dropped: nobody asks any more, and nobody waits for an answer.
    pub(crate) fn abandon(&self) {
        self.handles_gone.notify_one();
    }

    /// Waits until the last handle is gone. For one waiter.
    pub(crate) async fn abandoned(&self) {
        self.handles_gone.notified().await;
    }

    /// Ends the requester for good: whoever waits is told.
    pub(crate) async fn close(&self, why: NotSent) {
        let _ = self.closed.set(why);
        self.bytes.close();
        let mut inbox = self.receiver.lock().await;
        inbox.close();
        while inbox.recv().await.is_some() {}
    }

    /// Closes one that no service has ever had.
    pub(crate) fn close_unborn(&self) {
        let _ = self.closed.set(NotSent::NeverStarted);
        self.bytes.close();
        // Nobody else has ever read from it.
        if let Ok(mut inbox) = self.receiver.try_lock() {
            inbox.close();
            while inbox.try_recv().is_ok() {}
        }
    }

    /// What a question was that never left.
    pub(crate) fn not_sent(&self) -> NotSent {
        self.closed.get().copied().unwrap_or(NotSent::Ended)
    }

    fn depth(&self) -> MailboxDepth {
        let capacity = self.sender.max_capacity();
        MailboxDepth { waiting: capacity - self.sender.capacity(), capacity }
    }
}

pub(crate) struct RequesterActor {
    exchange: Arc<RequestTable>,
    channel: SupervisedAddr<ChannelActor>,
}

/// The child specification of a requester; it lives on the channel that `channel` addresses.
pub(crate) fn spec(exchange: &Arc<RequestTable>, channel: &SupervisedAddr<ChannelActor>) -> ActorSpec<RequesterActor> {
    let factory = {
        let (exchange, channel) = (Arc::clone(exchange), channel.clone());
        move || RequesterActor { exchange: Arc::clone(&exchange), channel: channel.clone() }
    };
    let gauge = Arc::clone(exchange);
    ActorSpec::new("requester", factory)
        .reports_ready()
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
        let running = run(lease, replies, Arc::clone(&self.exchange));
        ctx.spawn(
            running.into_actor(self).map(|error, actor, ctx| actor.park(ExitError::transient(ClientError(error)), ctx)),
        );
        ctx.ready();
    }

    /// Without a channel: tells the channel actor, which takes this actor down with itself. Should it not, ends.
    fn park(&mut self, error: ExitError, ctx: &mut Context<Self>) {
        let telling = self.channel.post(Broken(error));
        ctx.spawn(telling.into_actor(self).map(|_, _, _| ()));
        ctx.run_later(PARKED, |_, ctx| ctx.fail(ExitError::transient(Ended)));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the broker ended the requester's subscription to its answers")]
struct Ended;

type Pending = HashMap<Arc<str>, oneshot::Sender<Answer>>;

/// Correlation ids of questions that are on the wire, and their room.
type Unconfirmed = HashMap<u64, (Arc<str>, Room)>;

/// Asks and answers until the channel is lost; open questions are then dropped, which tells who asked them.
async fn run(lease: LeasedChannel, mut replies: lapin::Consumer, exchange: Arc<RequestTable>) -> lapin::Error {
    let mut inbox = Arc::clone(&exchange.receiver).lock_owned().await;
    let mut confirms = ConfirmTracker::new(lease.channel, lease.frame_max, true);
    let mut pending = Pending::new();
    let mut unconfirmed = Unconfirmed::new();
    let mut sequence = 0;
    let mut sweep = interval(SWEEP);
    let lost = loop {
        tokio::select! {
            biased;
            reply = replies.next() => match reply {
                Some(Ok(delivery)) => answer(&mut pending, delivery, &exchange.late),
                Some(Err(error)) => break error,
                None => break lapin::Error::from(std::io::Error::other(Ended)),
            },
            settled = confirms.settled(), if !confirms.is_empty() => {
                if let Some(error) = settle(&mut pending, &mut unconfirmed, settled) {
                    break error;
                }
            }
            // A broker that blocks publishing confirms nothing, while those who asked give up: both are bounded.
            asked = inbox.recv(), if pending.len().max(confirms.len()) < exchange.window => match asked {
                Some(Asked { message, reply, travel, room }) if !reply.is_closed() && travel.depart() => {
                    sequence += 1;
                    unconfirmed.insert(sequence, (Arc::clone(&message.id), room));
                    pending.insert(Arc::clone(&message.id), reply);
                    confirms.publish(sequence, with_reply_to(message));
                }
                Some(_) => {}
                None => std::future::pending().await,
            },
            _ = sweep.tick() => pending.retain(|_, reply| !reply.is_closed()),
        }
    };
    for (_, reply) in pending {
        // Who gave up waiting need not be told.
        let _ = reply.send(Answer::Lost);
    }
    lost
}

fn with_reply_to(mut message: Prepared) -> Prepared {
    message.properties = message.amqp_properties().with_reply_to(REPLY_TO.into()).into();
    message
}

fn answer(pending: &mut Pending, delivery: lapin::message::Delivery, late: &AtomicU64) {
    let properties = labels::without_empty(delivery.properties);
    let asked = properties.correlation_id().as_ref().and_then(|id| pending.remove(id.as_str()));
    let body = Bytes::from(delivery.data);
    let told = asked.map(|reply| reply.send(Answer::Answered(Box::new(Answered { properties, body }))).is_ok());
    if told != Some(true) {
        late.fetch_add(1, Ordering::Relaxed);
    }
}

/// A confirmed question waits on for its answer; any other verdict is the answer.
fn settle(
    pending: &mut Pending,
    unconfirmed: &mut Unconfirmed,
    settled: Vec<(u64, ConfirmVerdict)>,
) -> Option<lapin::Error> {
    let mut lost = None;
    for (sequence, verdict) in settled {
        let Some((id, _room)) = unconfirmed.remove(&sequence) else { continue };
        let answer = match verdict {
            ConfirmVerdict::Confirmed | ConfirmVerdict::Written => continue,
            ConfirmVerdict::Returned(returned) => Answer::Returned(returned),
            ConfirmVerdict::Nacked => Answer::Nacked,
            ConfirmVerdict::DoesNotFit(why) => Answer::DoesNotFit(why),
            ConfirmVerdict::Lost(error) => {
                lost = Some(error);
                Answer::Lost
            }
        };
        if let Some(reply) = pending.remove(&id) {
            let _ = reply.send(answer);
        }
    }
    lost
}
