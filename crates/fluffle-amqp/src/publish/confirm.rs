//! Decides whether a publish succeeded. Nothing else does.
//!
//! The rules, and why lapin's `Confirmation` alone is not enough:
//!
//! - A mandatory message that found no queue is *returned and then acked* (RabbitMQ, "Consumer Acknowledgements and
//!   Publisher Confirms"), so an ack alone is not success. lapin hands a return to the confirm that it resolves next,
//!   and after an ack with `multiple = true` that may be the confirm of another message. So returns are matched by
//!   message id, exchange and routing key, and a message counts as confirmed only when its own return can no longer be
//!   on its way.
//! - `NotRequested` on a channel with confirms is a bug in Fluffle, and never success.
//! - A message whose headers do not fit a frame of its connection is [`ConfirmVerdict::DoesNotFit`], and is not sent,
//!   because the broker would close the connection over it, and with it the channels of others.
//! - A confirm that ends in an error says nothing about the message. The verdict is [`ConfirmVerdict::Lost`], never
//!   success: the message is published again under the same id, or handed back as unknown.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{Confirmation, PublisherConfirm, message::BasicReturnMessage, options::BasicPublishOptions};
use tokio_util::sync::ReusableBoxFuture;

use crate::{base::frame::FrameMax, publish::message::Prepared};

/// How one published message ended.
#[derive(Debug)]
pub(crate) enum ConfirmVerdict {
    /// The broker took responsibility for the message. If it was mandatory, a queue has it.
    Confirmed,
    /// The message is written to the socket, and the channel has confirms off.
    Written,
    /// The message was mandatory and found no queue.
    Returned(Returned),
    /// The broker refused responsibility (`basic.nack`): a full queue with reject-publish, an internal error.
    Nacked,
    /// The message was not sent, because its headers do not fit a frame of this connection.
    DoesNotFit(TooLarge),
    /// The channel ended first: the message may have arrived, or not.
    Lost(lapin::Error),
}

/// Why the properties of a message, headers included, do not fit one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// How many bytes they take.
    pub(crate) bytes: usize,
    /// How many bytes one frame has room for.
    pub(crate) most: usize,
}

/// The broker's reason for returning a mandatory message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// AMQP reply code; 312 is `NO_ROUTE`.
    pub code: u16,
    /// The broker's text.
    pub text: String,
}

type Sequence = u64;

/// One confirm, as lapin resolved it.
struct Resolved {
    sequence: Sequence,
    message: Arc<Prepared>,
    result: lapin::Result<Answer>,
    /// The return that the confirm carried. Confirms rarely carry one, and it rarely is that of their own message.
    carried: Option<Box<BasicReturnMessage>>,
}

/// [`Confirmation`], in fewer bytes.
enum Answer {
    Ack,
    Nack,
    NotRequested,
    DoesNotFit(TooLarge),
}

impl Resolved {
    fn new(sequence: Sequence, message: Arc<Prepared>, result: lapin::Result<Confirmation>) -> Self {
        let (result, carried) = match result {
            Ok(Confirmation::Ack(carried)) => (Ok(Answer::Ack), carried.map(Box::new)),
            Ok(Confirmation::Nack(carried)) => (Ok(Answer::Nack), carried.map(Box::new)),
            Ok(Confirmation::NotRequested) => (Ok(Answer::NotRequested), None),
            Err(error) => (Err(error), None),
        };
        Self { sequence, message, result, carried }
    }
}

/// The future of a publish until it is written. It takes more than a kilobyte. The next publish takes the memory over,
/// because it is slow to allocate and to free, and slow to write when it is no longer in the processor's cache.
type Writing = ReusableBoxFuture<'static, lapin::Result<PublisherConfirm>>;

/// Most such futures whose memory is kept for the next ones.
const MOST_SPARE: usize = 256;

/// A message that is published and not written to the socket.
struct Unwritten {
    sequence: Sequence,
    message: Arc<Prepared>,
    writing: Writing,
}

/// A message that is written and not confirmed. Small, because as many of these wait as the window has room for.
struct Unconfirmed {
    sequence: Sequence,
    message: Option<Arc<Prepared>>,
    confirm: PublisherConfirm,
}

impl Future for Unconfirmed {
    type Output = Resolved;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(result) = Pin::new(&mut self.confirm).poll(cx) else { return Poll::Pending };
        match self.message.take() {
            Some(message) => Poll::Ready(Resolved::new(self.sequence, message, result)),
            // Unreachable: `FuturesUnordered` drops a future once it has resolved.
            None => Poll::Pending,
        }
    }
}

/// The id, exchange and routing key of a message, which tell it from every other in flight. An id alone may be in
/// flight twice, because copies keep the id of their original. If all three are equal, the broker treats both messages
/// alike.
type MessageKey = (Arc<str>, Arc<str>, Arc<str>);

/// The messages without a verdict on one channel.
pub(crate) struct ConfirmTracker {
    /// In an `Arc`, because a clone of lapin's handle copies a dozen references.
    channel: Arc<lapin::Channel>,
    /// In the order in which they were published, which is the order in which they are written.
    unwritten: VecDeque<Unwritten>,
    unconfirmed: FuturesUnordered<Unconfirmed>,
    spare: Vec<Writing>,
    /// Confirms that are taken and not judged.
    resolved: Vec<Resolved>,
    /// Wakes the task that waits for verdicts.
    waker: Waker,
    judge: Judge,
    frame_max: FrameMax,
}

impl ConfirmTracker {
    /// For messages published on `channel`, whose connection has frames of `frame_max`. `requested`: whether the
    /// channel has confirms on.
    pub(crate) fn new(channel: lapin::Channel, frame_max: FrameMax, requested: bool) -> Self {
        Self {
            channel: Arc::new(channel),
            frame_max,
            unwritten: VecDeque::new(),
            unconfirmed: FuturesUnordered::new(),
            spare: Vec::new(),
            resolved: Vec::new(),
            waker: Waker::noop().clone(),
            judge: Judge { requested, ..Judge::default() },
        }
    }

    /// The largest frame of the channel's connection.
    pub(crate) fn frame_max(&self) -> FrameMax {
        self.frame_max
    }

    /// Publishes `message`, on any thread. When this returns, the message has its place among those that lapin writes.
    /// Its verdict comes out of [`settled`](Self::settled) under `sequence`, and the task that waits there is woken. If
    /// the headers do not fit a frame of the connection, the message is not sent, and has its verdict at once.
    pub(crate) fn publish(&mut self, sequence: Sequence, message: impl Into<Arc<Prepared>>) {
        let message = message.into();
        let (bytes, most) = (message.header_bytes(), self.frame_max.most_header_bytes());
        if bytes > most {
            let result = Ok(Answer::DoesNotFit(TooLarge { bytes, most }));
            self.resolved.push(Resolved { sequence, message, result, carried: None });
            return self.waker.wake_by_ref();
        }
        let mut writing = self.writing(&message);
        // Only the first message that waits to be written wakes the waiting task, which then looks at all of them.
        let waker = if self.unwritten.is_empty() { &self.waker } else { Waker::noop() };
        // The first poll gives the message its place. If the task that waits for verdicts did that, the next message
        // could overtake it.
        match writing.poll(&mut Context::from_waker(waker)) {
            Poll::Ready(written) => {
                self.written(sequence, message, written);
                self.waker.wake_by_ref();
            }
            Poll::Pending => self.unwritten.push_back(Unwritten { sequence, message, writing }),
        }
    }

    /// Wakes the task that waits for verdicts.
    pub(crate) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    fn writing(&mut self, message: &Arc<Prepared>) -> Writing {
        let (channel, message) = (Arc::clone(&self.channel), Arc::clone(message));
        let writing = async move {
            let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
            let publishing = channel.basic_publish(
                (&*message.exchange).into(),
                (&*message.routing_key).into(),
                options,
                &message.body,
                message.amqp_properties(),
            );
            publishing.await
        };
        match self.spare.pop() {
            Some(mut spare) => {
                spare.set(writing);
                spare
            }
            None => ReusableBoxFuture::new(writing),
        }
    }

    /// A message is written, or never will be.
    fn written(&mut self, sequence: Sequence, message: Arc<Prepared>, written: lapin::Result<PublisherConfirm>) {
        match written {
            Ok(confirm) => self.unconfirmed.push(Unconfirmed { sequence, message: Some(message), confirm }),
            Err(error) => self.resolved.push(Resolved::new(sequence, message, Err(error))),
        }
    }

    /// How many messages have no verdict yet.
    pub(crate) fn len(&self) -> usize {
        self.unwritten.len() + self.unconfirmed.len() + self.resolved.len() + self.judge.suspects.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for verdicts and gives all there are. Cancellation safe: no verdict is taken before it is given.
    pub(crate) fn settled(&mut self) -> impl Future<Output = Vec<(Sequence, ConfirmVerdict)>> {
        poll_fn(|cx| {
            let mut verdicts = Vec::new();
            self.poll_settled(cx, &mut verdicts).map(|()| verdicts)
        })
    }

    /// Takes confirms until none is ready, and only then judges.
    ///
    /// lapin's one I/O thread writes messages in their order and resolves confirms. So the confirm that carries the
    /// return of a message is resolved before the confirm of that message, and was written before that. Once all
    /// written messages and then all resolved confirms are taken, that return has been seen.
    pub(crate) fn poll_settled(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<(Sequence, ConfirmVerdict)>,
    ) -> Poll<()> {
        self.waker.clone_from(cx.waker());
        // `FuturesUnordered` also returns pending while confirms are ready, to let other tasks run. So it is polled
        // until a round takes none.
        loop {
            let before = self.resolved.len();
            self.take_written(cx);
            while let Poll::Ready(Some(resolved)) = self.unconfirmed.poll_next_unpin(cx) {
                self.resolved.push(resolved);
            }
            if self.resolved.len() == before {
                break;
            }
        }
        let nothing_left = self.unwritten.is_empty() && self.unconfirmed.is_empty();
        self.judge.decide(&mut self.resolved, nothing_left, into);
        if into.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Moves the messages at the front that are written to those that wait for their confirms.
    fn take_written(&mut self, cx: &mut Context<'_>) {
        while let Some(first) = self.unwritten.front_mut()
            && let Poll::Ready(written) = first.writing.poll(cx)
            && let Some(Unwritten { sequence, message, writing }) = self.unwritten.pop_front()
        {
            self.written(sequence, message, written);
            if self.spare.len() < MOST_SPARE {
                self.spare.push(writing);
            }
        }
    }
}

/// The part that decides. It knows nothing of the channel.
#[derive(Default)]
struct Judge {
    requested: bool,
    /// Returns that were seen before the confirm of their own message was judged.
    returned: HashMap<MessageKey, Vec<Returned>>,
    /// Acked messages whose ack carried the return of another message. Their own return may still be queued behind it.
    suspects: Vec<(Sequence, Arc<Prepared>)>,
}

impl Judge {
    /// Judges the confirms in `resolved`, which is empty afterwards. `nothing_left`: no message waits for a confirm.
    fn decide(
        &mut self,
        resolved: &mut Vec<Resolved>,
        nothing_left: bool,
        verdicts: &mut Vec<(Sequence, ConfirmVerdict)>,
    ) {
        let mut queue_was_empty = false;
        let mut lost = None;
        for carried in resolved.iter().filter_map(|one| one.carried.as_deref()) {
            self.note_return(carried);
        }
        let old_suspects = self.suspects.len();
        for one in resolved.drain(..) {
            let carried_a_return = one.carried.is_some();
            let verdict = match one.result {
                Err(error) => {
                    lost = Some(error.clone());
                    ConfirmVerdict::Lost(error)
                }
                Ok(Answer::NotRequested) if !self.requested => ConfirmVerdict::Written,
                Ok(Answer::NotRequested) => ConfirmVerdict::Lost(unrequested()),
                Ok(Answer::DoesNotFit(why)) => ConfirmVerdict::DoesNotFit(why),
                Ok(Answer::Nack) => {
                    queue_was_empty |= !carried_a_return;
                    self.take_return(&one.message);
                    ConfirmVerdict::Nacked
                }
                Ok(Answer::Ack) => {
                    queue_was_empty |= !carried_a_return;
                    match self.take_return(&one.message) {
                        Some(returned) => ConfirmVerdict::Returned(returned),
                        None if carried_a_return && one.message.mandatory => {
                            self.suspects.push((one.sequence, one.message));
                            continue;
                        }
                        None => ConfirmVerdict::Confirmed,
                    }
                }
            };
            verdicts.push((one.sequence, verdict));
        }
        self.release(old_suspects, queue_was_empty, nothing_left, lost, verdicts);
    }

    /// Enters a return under the key of the message that it belongs to.
    fn note_return(&mut self, message: &BasicReturnMessage) {
        if let Some(id) = message.delivery.properties.message_id() {
            let returned = Returned { code: message.reply_code, text: message.reply_text.as_str().to_owned() };
            let (exchange, key) = (message.delivery.exchange.as_str(), message.delivery.routing_key.as_str());
            let key = (id.as_str().into(), exchange.into(), key.into());
            self.returned.entry(key).or_default().push(returned);
        }
    }

    fn take_return(&mut self, message: &Prepared) -> Option<Returned> {
        // True for nearly every confirm; then no key is made.
        if self.returned.is_empty() {
            return None;
        }
        let key = key_of(message);
        let returns = self.returned.get_mut(&key)?;
        let one = returns.pop();
        if returns.is_empty() {
            self.returned.remove(&key);
        }
        one
    }

    /// Judges the suspects that can be judged: their return has come, or lapin's queue of returns was empty after their
    /// ack, or every ack is in (each ack takes one return out of the queue, so none is left). If the channel is lost,
    /// all suspects are lost. `old`: how many suspects there were before this round.
    fn release(
        &mut self,
        old: usize,
        queue_was_empty: bool,
        nothing_left: bool,
        lost: Option<lapin::Error>,
        verdicts: &mut Vec<(Sequence, ConfirmVerdict)>,
    ) {
        let suspects = std::mem::take(&mut self.suspects);
        for (i, (sequence, message)) in suspects.into_iter().enumerate() {
            let verdict = match (self.take_return(&message), &lost) {
                (Some(returned), _) => ConfirmVerdict::Returned(returned),
                (None, Some(error)) => ConfirmVerdict::Lost(error.clone()),
                (None, None) if nothing_left || (queue_was_empty && i < old) => ConfirmVerdict::Confirmed,
                (None, None) => {
                    self.suspects.push((sequence, message));
                    continue;
                }
            };
            verdicts.push((sequence, verdict));
        }
    }
}

fn key_of(message: &Prepared) -> MessageKey {
    (Arc::clone(&message.id), Arc::clone(&message.exchange), Arc::clone(&message.routing_key))
}

fn unrequested() -> lapin::Error {
    tracing::error!(
        "lapin says that a confirm was not requested, on a channel with confirms on: this is a bug in Fluffle"
    );
    lapin::Error::from(std::io::Error::other("confirms are not on"))
}

#[cfg(test)]
mod tests;
