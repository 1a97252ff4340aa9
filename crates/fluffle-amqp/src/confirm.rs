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
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{Confirmation, options::BasicPublishOptions};

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
type InFlight = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// One confirm as lapin resolved it.
struct Resolved {
    sequence: Sequence,
    address: Address,
    mandatory: bool,
    result: lapin::Result<Confirmation>,
}

/// What tells a message from every other in flight: its id, exchange and routing key. Copies keep the id of their original,
/// so an id alone may be there twice; with all three equal, the fate is equal too.
type Address = (String, String, String);

/// The confirms of one channel generation.
pub(crate) struct Confirms {
    channel: lapin::Channel,
    in_flight: FuturesUnordered<InFlight>,
    judge: Judge,
}

impl Confirms {
    /// Follows what is published on `channel`, which has confirms on unless `requested` is false.
    pub(crate) fn new(channel: lapin::Channel, requested: bool) -> Self {
        Self { channel, in_flight: FuturesUnordered::new(), judge: Judge { requested, ..Judge::default() } }
    }

    /// Publishes `message`; its verdict comes out of [`settled`](Self::settled) under `sequence`.
    ///
    /// Messages reach the broker in the order of these calls: the futures are first polled first in, first out.
    pub(crate) fn publish(&mut self, sequence: Sequence, message: &Prepared) {
        let channel = self.channel.clone();
        let message = message.clone();
        self.in_flight.push(Box::pin(async move {
            let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
            let written = channel.basic_publish(
                (&*message.exchange).into(),
                (&*message.routing_key).into(),
                options,
                &message.body,
                message.properties,
            );
            let result = match written.await {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            let address = (message.id.to_string(), message.exchange.to_string(), message.routing_key.to_string());
            Resolved { sequence, address, mandatory: message.mandatory, result }
        }));
    }

    /// How many messages have no verdict yet.
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len() + self.judge.suspects.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for verdicts and gives all there are. Cancellation safe: nothing is taken out before it is given.
    pub(crate) fn settled(&mut self) -> impl Future<Output = Vec<(Sequence, Verdict)>> {
        poll_fn(|cx| self.poll_settled(cx))
    }

    /// Takes confirms until none is ready, and only then judges.
    ///
    /// lapin's one I/O thread resolves confirms, so whichever confirm carries a message's return was resolved before
    /// that message's own; `FuturesUnordered` has it in its ready queue by then, and an emptied queue has shown it.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Vec<(Sequence, Verdict)>> {
        let mut resolved = Vec::new();
        // `FuturesUnordered` also pauses to be fair to others, with ready ones left: it is asked until a round is empty.
        loop {
            let before = resolved.len();
            while let Poll::Ready(Some(one)) = self.in_flight.poll_next_unpin(cx) {
                resolved.push(one);
            }
            if resolved.len() == before {
                break;
            }
        }
        let verdicts = self.judge.decide(resolved, self.in_flight.is_empty());
        if verdicts.is_empty() { Poll::Pending } else { Poll::Ready(verdicts) }
    }
}

/// The part that decides, apart from the channel.
#[derive(Default)]
struct Judge {
    requested: bool,
    /// Returns seen whose own confirm has not been judged yet.
    returned: HashMap<Address, Vec<Returned>>,
    /// Acked messages whose ack carried somebody else's return: their own may still be queued behind it.
    suspects: Vec<(Sequence, Address)>,
}

impl Judge {
    fn decide(&mut self, resolved: Vec<Resolved>, nothing_left: bool) -> Vec<(Sequence, Verdict)> {
        let mut verdicts = Vec::with_capacity(resolved.len());
        let mut queue_was_empty = false;
        let mut lost = None;
        let mut carried = Vec::with_capacity(resolved.len());
        for one in &resolved {
            carried.push(self.note_return(one));
        }
        let old_suspects = self.suspects.len();
        for (one, carried_a_return) in resolved.into_iter().zip(carried) {
            let verdict = match one.result {
                Err(error) => {
                    lost = Some(error.clone());
                    Verdict::Lost(error)
                }
                Ok(Confirmation::NotRequested) if !self.requested => Verdict::Written,
                Ok(Confirmation::NotRequested) => Verdict::Lost(unrequested()),
                Ok(Confirmation::Nack(_)) => {
                    queue_was_empty |= !carried_a_return;
                    self.take_return(&one.address);
                    Verdict::Nacked
                }
                Ok(Confirmation::Ack(_)) => {
                    queue_was_empty |= !carried_a_return;
                    match self.take_return(&one.address) {
                        Some(returned) => Verdict::Returned(returned),
                        None if carried_a_return && one.mandatory => {
                            self.suspects.push((one.sequence, one.address));
                            continue;
                        }
                        None => Verdict::Confirmed,
                    }
                }
            };
            verdicts.push((one.sequence, verdict));
        }
        self.release(old_suspects, queue_was_empty, nothing_left, lost, &mut verdicts);
        verdicts
    }

    /// Notes the return a confirm carries under the id of the message it belongs to.
    fn note_return(&mut self, one: &Resolved) -> bool {
        let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = &one.result else {
            return false;
        };
        if let Some(id) = message.delivery.properties.message_id() {
            let returned = Returned { code: message.reply_code, text: message.reply_text.as_str().to_owned() };
            let (exchange, key) = (message.delivery.exchange.as_str(), message.delivery.routing_key.as_str());
            let address = (id.as_str().to_owned(), exchange.to_owned(), key.to_owned());
            self.returned.entry(address).or_default().push(returned);
        }
        true
    }

    fn take_return(&mut self, address: &Address) -> Option<Returned> {
        let returns = self.returned.get_mut(address)?;
        let one = returns.pop();
        if returns.is_empty() {
            self.returned.remove(address);
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
        for (i, (sequence, address)) in suspects.into_iter().enumerate() {
            let verdict = match (self.take_return(&address), &lost) {
                (Some(returned), _) => Verdict::Returned(returned),
                (None, Some(error)) => Verdict::Lost(error.clone()),
                (None, None) if nothing_left || (queue_was_empty && i < old) => Verdict::Confirmed,
                (None, None) => {
                    self.suspects.push((sequence, address));
                    continue;
                }
            };
            verdicts.push((sequence, verdict));
        }
    }
}

fn unrequested() -> lapin::Error {
    tracing::error!("a confirm was not requested on a channel that should have confirms: this is a bug in Fluffle");
    lapin::Error::from(std::io::Error::other("confirms are not on"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::{
        BasicProperties,
        message::{BasicReturnMessage, Delivery},
    };

    fn returned(id: &str) -> Option<BasicReturnMessage> {
        let mut delivery = Delivery::mock(0, "x".into(), "k".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.into());
        Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
    }

    fn ack(sequence: u64, carried: Option<BasicReturnMessage>) -> Resolved {
        Resolved {
            sequence,
            address: address(&format!("m{sequence}")),
            mandatory: true,
            result: Ok(Confirmation::Ack(carried)),
        }
    }

    fn address(id: &str) -> Address {
        (id.to_owned(), "x".to_owned(), "k".to_owned())
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

    #[test]
    fn a_return_carried_by_another_messages_confirm_fails_its_owner_only() {
        // ack multiple over 1..=3, message 3 was returned, lapin gave the return to message 1
        let verdicts = judge().decide(vec![ack(3, None), ack(1, returned("m3")), ack(2, None)], true);
        assert_eq!(shown(verdicts), [(1, "confirmed"), (2, "confirmed"), (3, "returned")]);
    }

    #[test]
    fn an_acked_message_waits_while_its_own_return_may_be_queued_behind_anothers() {
        // returns of 1 and 2 are queued; the ack of 2 takes out the return of 1
        let mut judge = judge();
        assert_eq!(shown(judge.decide(vec![ack(2, returned("m1"))], false)), []);
        let verdicts = judge.decide(vec![ack(1, returned("m2"))], false);
        assert_eq!(shown(verdicts), [(1, "returned"), (2, "returned")]);
    }

    #[test]
    fn a_suspect_is_confirmed_once_the_queue_of_returns_was_seen_empty_after_it() {
        let mut judge = judge();
        assert_eq!(shown(judge.decide(vec![ack(2, returned("m1"))], false)), []);
        assert_eq!(shown(judge.decide(vec![ack(5, None)], false)), [(2, "confirmed"), (5, "confirmed")]);
    }

    #[test]
    fn a_lost_channel_leaves_suspects_unknown_not_confirmed() {
        let mut judge = judge();
        assert_eq!(shown(judge.decide(vec![ack(2, returned("m1"))], false)), []);
        let gone = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let lost = Resolved { sequence: 1, address: address("m1"), mandatory: true, result: Err(gone) };
        assert_eq!(shown(judge.decide(vec![lost], true)), [(1, "lost"), (2, "lost")]);
    }

    #[test]
    fn not_requested_on_a_confirm_channel_is_never_success() {
        let one = || Resolved {
            sequence: 1,
            address: address("m1"),
            mandatory: false,
            result: Ok(Confirmation::NotRequested),
        };
        assert_eq!(shown(judge().decide(vec![one()], true)), [(1, "lost")]);
        assert_eq!(shown(Judge::default().decide(vec![one()], true)), [(1, "written")]);
    }

    #[test]
    fn two_copies_under_one_id_keep_their_own_verdicts() {
        let mut other = ack(2, None);
        other.address = ("m1".to_owned(), String::new(), "elsewhere".to_owned());
        let verdicts = judge().decide(vec![other, ack(1, returned("m1"))], true);
        assert_eq!(shown(verdicts), [(1, "returned"), (2, "confirmed")]);
    }

    #[test]
    fn bookkeeping_is_empty_when_everything_is_judged() {
        let mut judge = judge();
        judge.decide(vec![ack(1, returned("m2")), ack(2, None), ack(3, None)], true);
        assert!(judge.returned.is_empty() && judge.suspects.is_empty());
    }
}
