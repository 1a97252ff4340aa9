//! Whether a publish succeeded is decided here and nowhere else.
//!
//! The rules, and why they are not simply lapin's `Confirmation`:
//!
//! - A mandatory message that found no queue is *returned and then acked* (RabbitMQ, "Consumer Acknowledgements and
//!   Publisher Confirms"): an ack alone is not success. lapin hands the return to whichever confirm it resolves next, and
//!   after an ack with `multiple = true` that may be another message's. So returns are matched by message id and address, and a
//!   message is called confirmed only once its own return can no longer be on its way.
//! - `NotRequested` on a channel with confirms is a bug of ours, never success.
//! - A confirm that ends in an error says nothing about the message: it is [`Verdict::Lost`], and is published again
//!   under the same id, or handed back as unknown. It is never success.

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

use crate::publish::message::Prepared;

/// What became of one published message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The broker took responsibility for it, and a queue has it if it was mandatory.
    Confirmed,
    /// Written to the socket; nothing more was asked for.
    Written,
    /// It was mandatory and found no queue.
    Returned(Returned),
    /// The broker refused responsibility (`basic.nack`): a full queue with reject-publish, an internal error.
    Nacked,
    /// The channel ended first: nobody knows.
    Lost(lapin::Error),
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

/// One confirm as lapin resolved it.
struct Resolved {
    sequence: Sequence,
    message: Arc<Prepared>,
    result: lapin::Result<Answer>,
    /// The return it carried, hardly ever one and hardly ever its own message's.
    carried: Option<Box<BasicReturnMessage>>,
}

/// [`Confirmation`], in little room.
enum Answer {
    Ack,
    Nack,
    NotRequested,
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

/// A publish until it is written. Takes more than a kilobyte, which is slow to get, to give back and to come back to when it is
/// no longer in the processor's cache: the next one takes it over.
type Writing = ReusableBoxFuture<'static, lapin::Result<PublisherConfirm>>;

/// Most of them kept for the next ones.
const MOST_SPARE: usize = 256;

/// A message that is published and not written.
struct Unwritten {
    sequence: Sequence,
    message: Arc<Prepared>,
    writing: Writing,
}

/// A message that is written and not confirmed. As many as the window has room for wait like this, each in little room.
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
            // It has been resolved before.
            None => Poll::Pending,
        }
    }
}

/// What tells a message from every other in flight: its id, exchange and routing key. Copies keep the id of their original,
/// so an id alone may be there twice; with all three equal, the fate is equal too.
type Address = (Arc<str>, Arc<str>, Arc<str>);

/// The confirms of one channel generation.
pub(crate) struct Confirms {
    /// Shared, for a clone of lapin's handle copies a dozen references.
    channel: Arc<lapin::Channel>,
    /// In the order in which they were published, which is the one in which they are written.
    unwritten: VecDeque<Unwritten>,
    unconfirmed: FuturesUnordered<Unconfirmed>,
    spare: Vec<Writing>,
    /// Taken and not judged.
    resolved: Vec<Resolved>,
    /// Of whoever waits for verdicts.
    waker: Waker,
    judge: Judge,
}

impl Confirms {
    /// Follows what is published on `channel`, which has confirms on unless `requested` is false.
    pub(crate) fn new(channel: lapin::Channel, requested: bool) -> Self {
        Self {
            channel: Arc::new(channel),
            unwritten: VecDeque::new(),
            unconfirmed: FuturesUnordered::new(),
            spare: Vec::new(),
            resolved: Vec::new(),
            waker: Waker::noop().clone(),
            judge: Judge { requested, ..Judge::default() },
        }
    }

    /// Publishes `message`, from any thread: it is in its place in line when this returns. Its verdict comes out of
    /// [`settled`](Self::settled) under `sequence`, and whoever waits there is woken.
    pub(crate) fn publish(&mut self, sequence: Sequence, message: impl Into<Arc<Prepared>>) {
        let message = message.into();
        let mut writing = self.writing(&message);
        // Of those that wait to be written only the first wakes anybody.
        let waker = if self.unwritten.is_empty() { &self.waker } else { Waker::noop() };
        // The first poll puts it in line: left to whoever waits for verdicts, the next message could overtake it.
        match writing.poll(&mut Context::from_waker(waker)) {
            Poll::Ready(written) => {
                self.written(sequence, message, written);
                self.waker.wake_by_ref();
            }
            Poll::Pending => self.unwritten.push_back(Unwritten { sequence, message, writing }),
        }
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

    /// A message is written, or will never be.
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

    /// Waits for verdicts and gives all there are. Cancellation safe: nothing is taken out before it is given.
    pub(crate) fn settled(&mut self) -> impl Future<Output = Vec<(Sequence, Verdict)>> {
        poll_fn(|cx| {
            let mut verdicts = Vec::new();
            self.poll_settled(cx, &mut verdicts).map(|()| verdicts)
        })
    }

    /// Takes confirms until none is ready, and only then judges.
    ///
    /// lapin's one I/O thread writes messages in their order and resolves confirms, so whichever confirm carries a message's
    /// return was resolved before that message's own, and was written before that. An emptied queue of the written, and
    /// then one of the confirmed, has shown it.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>, into: &mut Vec<(Sequence, Verdict)>) -> Poll<()> {
        self.waker.clone_from(cx.waker());
        // `FuturesUnordered` also pauses to be fair to others, with ready ones left: it is asked until a round is empty.
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

    /// Those at the front that are written wait for their confirms from now on.
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

/// The part that decides, apart from the channel.
#[derive(Default)]
struct Judge {
    requested: bool,
    /// Returns seen whose own confirm has not been judged yet.
    returned: HashMap<Address, Vec<Returned>>,
    /// Acked messages whose ack carried somebody else's return: their own may still be queued behind it.
    suspects: Vec<(Sequence, Arc<Prepared>)>,
}

impl Judge {
    /// Empties `resolved`.
    fn decide(&mut self, resolved: &mut Vec<Resolved>, nothing_left: bool, verdicts: &mut Vec<(Sequence, Verdict)>) {
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
                    Verdict::Lost(error)
                }
                Ok(Answer::NotRequested) if !self.requested => Verdict::Written,
                Ok(Answer::NotRequested) => Verdict::Lost(unrequested()),
                Ok(Answer::Nack) => {
                    queue_was_empty |= !carried_a_return;
                    self.take_return(&one.message);
                    Verdict::Nacked
                }
                Ok(Answer::Ack) => {
                    queue_was_empty |= !carried_a_return;
                    match self.take_return(&one.message) {
                        Some(returned) => Verdict::Returned(returned),
                        None if carried_a_return && one.message.mandatory => {
                            self.suspects.push((one.sequence, one.message));
                            continue;
                        }
                        None => Verdict::Confirmed,
                    }
                }
            };
            verdicts.push((one.sequence, verdict));
        }
        self.release(old_suspects, queue_was_empty, nothing_left, lost, verdicts);
    }

    /// Notes a return that a confirm carried under the address of the message it belongs to.
    fn note_return(&mut self, message: &BasicReturnMessage) {
        if let Some(id) = message.delivery.properties.message_id() {
            let returned = Returned { code: message.reply_code, text: message.reply_text.as_str().to_owned() };
            let (exchange, key) = (message.delivery.exchange.as_str(), message.delivery.routing_key.as_str());
            let address = (id.as_str().into(), exchange.into(), key.into());
            self.returned.entry(address).or_default().push(returned);
        }
    }

    fn take_return(&mut self, message: &Prepared) -> Option<Returned> {
        // As good as always.
        if self.returned.is_empty() {
            return None;
        }
        let address = address(message);
        let returns = self.returned.get_mut(&address)?;
        let one = returns.pop();
        if returns.is_empty() {
            self.returned.remove(&address);
        }
        one
    }

    /// Judges the suspects that can be: their return has come, or lapin's queue of returns was empty after their ack,
    /// or every ack is in (each ack takes one return out, so none is left). A lost channel leaves them unknown.
    fn release(
        &mut self,
        old: usize,
        queue_was_empty: bool,
        nothing_left: bool,
        lost: Option<lapin::Error>,
        verdicts: &mut Vec<(Sequence, Verdict)>,
    ) {
        let suspects = std::mem::take(&mut self.suspects);
        for (i, (sequence, message)) in suspects.into_iter().enumerate() {
            let verdict = match (self.take_return(&message), &lost) {
                (Some(returned), _) => Verdict::Returned(returned),
                (None, Some(error)) => Verdict::Lost(error.clone()),
                (None, None) if nothing_left || (queue_was_empty && i < old) => Verdict::Confirmed,
                (None, None) => {
                    self.suspects.push((sequence, message));
                    continue;
                }
            };
            verdicts.push((sequence, verdict));
        }
    }
}

fn address(message: &Prepared) -> Address {
    (Arc::clone(&message.id), Arc::clone(&message.exchange), Arc::clone(&message.routing_key))
}

fn unrequested() -> lapin::Error {
    tracing::error!("a confirm was not requested on a channel that should have confirms: this is a bug in Fluffle");
    lapin::Error::from(std::io::Error::other("confirms are not on"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::{BasicProperties, message::Delivery};

    fn returned(id: &str) -> Option<BasicReturnMessage> {
        let mut delivery = Delivery::mock(0, "x".into(), "k".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.into());
        Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
    }

    fn ack(sequence: u64, carried: Option<BasicReturnMessage>) -> Resolved {
        let message = message(&format!("m{sequence}"), "x", "k");
        Resolved::new(sequence, message, Ok(Confirmation::Ack(carried)))
    }

    fn message(id: &str, exchange: &str, key: &str) -> Arc<Prepared> {
        Arc::new(Prepared::new(id, exchange, key, BasicProperties::default(), bytes::Bytes::new()))
    }

    fn decide(judge: &mut Judge, mut resolved: Vec<Resolved>, nothing_left: bool) -> Vec<(u64, Verdict)> {
        let mut verdicts = Vec::new();
        judge.decide(&mut resolved, nothing_left, &mut verdicts);
        verdicts
    }

    fn judge() -> Judge {
        Judge { requested: true, ..Judge::default() }
    }

    fn shown(verdicts: Vec<(u64, Verdict)>) -> Vec<(u64, &'static str)> {
        let mut shown: Vec<_> = verdicts
            .iter()
            .map(|(sequence, verdict)| {
                let name = match verdict {
                    Verdict::Confirmed => "confirmed",
                    Verdict::Written => "written",
                    Verdict::Returned(_) => "returned",
                    Verdict::Nacked => "nacked",
                    Verdict::Lost(_) => "lost",
                };
                (*sequence, name)
            })
            .collect();
        shown.sort_unstable();
        shown
    }

    #[tokio::test]
    async fn of_many_published_at_once_each_has_a_verdict_of_its_own() {
        let vhost = fluffle_harness::RabbitMq::shared().unwrap().fresh_vhost().unwrap();
        let connection = lapin::Connection::connect(vhost.url(), lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
        let options = lapin::options::QueueDeclareOptions::default();
        channel.queue_declare("q".into(), options, lapin::types::FieldTable::default()).await.unwrap();

        let mut confirms = Confirms::new(channel, true);
        for round in 0..3 {
            let key = |number: u64| if number.is_multiple_of(7) { "nowhere" } else { "q" };
            for number in 0..500 {
                let id = format!("{round}/{number}");
                let properties = BasicProperties::default().with_message_id(id.as_str().into());
                let message = Prepared::new(id, "", key(number), properties, bytes::Bytes::from_static(b"body"));
                confirms.publish(number, message);
            }
            let mut verdicts = Vec::new();
            while verdicts.len() < 500 {
                let more = tokio::time::timeout(std::time::Duration::from_secs(30), confirms.settled());
                verdicts.extend(more.await.expect("a verdict in time"));
            }
            let told = |number| if key(number) == "q" { "confirmed" } else { "returned" };
            assert_eq!(shown(verdicts), (0..500).map(|number| (number, told(number))).collect::<Vec<_>>());
            assert!(confirms.is_empty() && confirms.spare.len() <= MOST_SPARE);
        }
        connection.close(200, "done".into()).await.unwrap();
    }

    #[test]
    fn a_return_carried_by_another_messages_confirm_fails_its_owner_only() {
        // ack multiple over 1..=3, message 3 was returned, lapin gave the return to message 1
        let verdicts = decide(&mut judge(), vec![ack(3, None), ack(1, returned("m3")), ack(2, None)], true);
        assert_eq!(shown(verdicts), [(1, "confirmed"), (2, "confirmed"), (3, "returned")]);
    }

    #[test]
    fn an_acked_message_waits_while_its_own_return_may_be_queued_behind_anothers() {
        // returns of 1 and 2 are queued; the ack of 2 takes out the return of 1
        let mut judge = judge();
        assert_eq!(shown(decide(&mut judge, vec![ack(2, returned("m1"))], false)), []);
        let verdicts = decide(&mut judge, vec![ack(1, returned("m2"))], false);
        assert_eq!(shown(verdicts), [(1, "returned"), (2, "returned")]);
    }

    #[test]
    fn a_suspect_is_confirmed_once_the_queue_of_returns_was_seen_empty_after_it() {
        let mut judge = judge();
        assert_eq!(shown(decide(&mut judge, vec![ack(2, returned("m1"))], false)), []);
        assert_eq!(shown(decide(&mut judge, vec![ack(5, None)], false)), [(2, "confirmed"), (5, "confirmed")]);
    }

    #[test]
    fn a_lost_channel_leaves_suspects_unknown_not_confirmed() {
        let mut judge = judge();
        assert_eq!(shown(decide(&mut judge, vec![ack(2, returned("m1"))], false)), []);
        let gone = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let lost = Resolved::new(1, message("m1", "x", "k"), Err(gone));
        assert_eq!(shown(decide(&mut judge, vec![lost], true)), [(1, "lost"), (2, "lost")]);
    }

    #[test]
    fn not_requested_on_a_confirm_channel_is_never_success() {
        let one = || Resolved::new(1, message("m1", "x", "k"), Ok(Confirmation::NotRequested));
        assert_eq!(shown(decide(&mut judge(), vec![one()], true)), [(1, "lost")]);
        assert_eq!(shown(decide(&mut Judge::default(), vec![one()], true)), [(1, "written")]);
    }

    #[test]
    fn two_copies_under_one_id_keep_their_own_verdicts() {
        let mut other = ack(2, None);
        other.message = message("m1", "", "elsewhere");
        let verdicts = decide(&mut judge(), vec![other, ack(1, returned("m1"))], true);
        assert_eq!(shown(verdicts), [(1, "returned"), (2, "confirmed")]);
    }

    #[test]
    fn bookkeeping_is_empty_when_everything_is_judged() {
        let mut judge = judge();
        decide(&mut judge, vec![ack(1, returned("m2")), ack(2, None), ack(3, None)], true);
        assert!(judge.returned.is_empty() && judge.suspects.is_empty());
    }
}
