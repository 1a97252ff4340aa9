use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use lapin::{BasicProperties, ErrorKind, options::BasicGetOptions, protocol::AMQPError};
use tokio::time::{Instant, timeout};

use crate::{
    base::frame::FrameMax,
    link::topology_store::TopologyStore,
    publish::{
        confirm::{ConfirmTracker, ConfirmVerdict},
        entry::Entry,
        error::PublishErrorKind,
        message::{Address, Prepared},
        outcome::{Kept, OutcomeSender, Pending, SendOutcome},
        passing::{Passing, Republish},
        send_queue::{
            on_channel::{OnChannel, UnsentEntries},
            queue::SendQueue,
        },
        tests::TestChannel,
        travel::NotSent,
    },
    topology::{Queue, Topology},
};

/// A message to the queue `q`, whose sender does not wait.
fn to_q(id: &str) -> Entry {
    let properties = BasicProperties::default().with_message_id(id.into());
    let message = Prepared::new(id, "", "q", properties, bytes::Bytes::new());
    let reply = OutcomeSender::to_nobody(&message);
    Entry::new(message, reply, true)
}

fn publish_now(send_queue: &SendQueue, id: &str) -> Result<(), Entry> {
    send_queue.direct.publish_now(to_q(id), send_queue.window, &send_queue.unsettled, &send_queue.books)
}

fn refusal(code: u16, text: &str) -> lapin::Error {
    ErrorKind::ProtocolError(AMQPError::from_id(code, text.into()).unwrap()).into()
}

fn entry(id: &str, exchange: &str, key: &str) -> (Entry, Arc<Pending>) {
    let message = Prepared::new(id, exchange, key, BasicProperties::default(), bytes::Bytes::new());
    let to = Address { exchange: exchange.into(), routing_key: key.into() };
    let (pending, reply) = Pending::new(id.into(), to, Instant::now(), Kept::No);
    (Entry::new(message, reply, false), pending)
}

/// Of a service without a topology.
fn passing() -> Passing {
    Passing { republish: Republish::default(), topology: TopologyStore::new(Topology::new()) }
}

fn told(pending: &Pending) -> Option<SendOutcome> {
    pending.outcome().now_or_never().cloned()
}

async fn on_the_wire(send_queue: &SendQueue, messages: &[(&str, &str, &str)]) -> Vec<Arc<Pending>> {
    let mut outcomes = Vec::new();
    for (id, exchange, key) in messages {
        let (entry, outcome) = entry(id, exchange, key);
        send_queue.accept(entry).await.unwrap();
        let entry = send_queue.inbox().await.recv().await.unwrap();
        assert_eq!(send_queue.unsettled.take([entry], &send_queue.books).len(), 1);
        outcomes.push(outcome);
    }
    outcomes
}

fn ids(messages: Vec<(u64, Arc<Prepared>)>) -> Vec<String> {
    messages.into_iter().map(|(_, message)| message.id().to_owned()).collect()
}

#[tokio::test]
async fn a_refusal_that_names_nothing_is_pinned_on_the_one_message_that_repeats_it() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let outcomes = on_the_wire(&send_queue, &[("a", "x", "k"), ("bad", "x", "k"), ("c", "x", "k")]).await;
    let error = refusal(406, "PRECONDITION_FAILED - message size 20 is larger than configured max size 10");
    send_queue.refuse(&error);
    assert_eq!(ids(send_queue.left_over()), [""; 0], "all three are suspects, published one at a time");
    let (first, message) = send_queue.suspect().unwrap();
    assert_eq!(message.id(), "a");
    send_queue.settle([(first, ConfirmVerdict::Confirmed)], &passing());
    assert_eq!(send_queue.suspect().unwrap().1.id(), "bad");
    send_queue.refuse(&error);
    assert!(matches!(told(&outcomes[0]), Some(SendOutcome::Confirmed)));
    assert!(matches!(told(&outcomes[1]), Some(SendOutcome::Refused { code: 406, .. })));
    assert!(told(&outcomes[2]).is_none(), "it was not on the wire: nothing is known against it");
    send_queue.left_over();
    assert_eq!(send_queue.suspect().unwrap().1.id(), "c");
    assert!(!send_queue.has_suspects());
}

#[tokio::test]
async fn a_refusal_that_names_an_exchange_is_about_its_messages_and_no_others() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let outcomes = on_the_wire(&send_queue, &[("a", "missing", "k"), ("b", "x", "k"), ("c", "missing", "k")]).await;
    let error = refusal(404, "NOT_FOUND - no exchange 'missing' in vhost '/'");
    send_queue.refuse(&error);
    assert_eq!(ids(send_queue.left_over()), ["b"]);
    assert_eq!(send_queue.suspect().unwrap().1.id(), "a");
    send_queue.refuse(&error);
    for (outcome, refused) in outcomes.iter().zip([true, false, true]) {
        assert_eq!(matches!(told(outcome), Some(SendOutcome::Refused { code: 404, .. })), refused);
    }
}

#[tokio::test]
async fn what_its_sender_was_told_is_not_sent_is_not_sent_though_he_still_holds_it() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let ((entry, told), (kept, held)) = (self::entry("a", "x", "k"), self::entry("b", "x", "k"));
    send_queue.unsettled.keep([kept], &send_queue.books);
    send_queue.accept(entry).await.unwrap();
    let told_so = told.confirmed().await;
    assert!(matches!(told_so, Err(PublishErrorKind::NotSent(NotSent::Deadline))));
    let entry = send_queue.inbox().await.recv().await.unwrap();
    assert_eq!(send_queue.unsettled.take([entry], &send_queue.books).len(), 0);
    assert!(matches!(held.confirmed().await, Err(PublishErrorKind::NotSent(NotSent::Deadline))));
    assert_eq!(ids(send_queue.left_over()), [""; 0], "nor is what a channel had taken and not published");
    assert_eq!(send_queue.stats().withdrawn, 2);
}

#[tokio::test]
async fn an_error_of_the_brokers_own_is_charged_to_answers_and_to_nothing_else() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let answer = "amq.rabbitmq.reply-to.a.b";
    let outcomes = on_the_wire(&send_queue, &[("a", "", "q.dead"), ("b", "", answer)]).await;
    let error = refusal(541, "INTERNAL_ERROR");
    send_queue.refuse_answers(&error);
    assert_eq!(ids(send_queue.left_over()), ["a"]);
    assert_eq!(send_queue.suspect().unwrap().1.id(), "b");
    send_queue.refuse_answers(&error);
    assert!(told(&outcomes[0]).is_none());
    assert!(matches!(told(&outcomes[1]), Some(SendOutcome::Refused { code: 541, .. })));
}

#[tokio::test]
async fn closing_hands_everything_back_and_leaves_nothing_on_the_books() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let mut outcomes = on_the_wire(&send_queue, &[("a", "x", "k")]).await;
    let (waiting, outcome) = entry("b", "x", "k");
    send_queue.accept(waiting).await.unwrap();
    outcomes.push(outcome);
    send_queue.close(NotSent::Ended, std::time::Instant::now()).await;
    let [sent, unsent] = outcomes.as_slice() else { panic!("two") };
    assert!(matches!(told(sent), Some(SendOutcome::Closed)));
    let not_sent = |kind: &PublishErrorKind| matches!(kind, PublishErrorKind::NotSent(NotSent::Ended));
    assert!(matches!(told(unsent), Some(SendOutcome::Unsent(kind)) if not_sent(&kind)));
    assert_eq!(send_queue.outstanding(), 0);
    assert!(send_queue.accept(entry("c", "x", "k").0).await.is_err());
}

#[tokio::test]
async fn nothing_passes_what_came_by_the_mailbox_before_it_is_in_line() {
    let test = TestChannel::open().await;
    let channel = test.channel.clone();

    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
    assert!(publish_now(&send_queue, "nowhere").is_err(), "there is no channel");
    let on_channel = OnChannel::new(&send_queue, ConfirmTracker::new(channel.clone(), FrameMax::default(), true));
    assert!(publish_now(&send_queue, "closed").is_err(), "left-over messages come first");
    on_channel.open();
    let mut waiting = UnsentEntries::new(&send_queue);
    send_queue.direct.wait();
    waiting.entries.push(to_q("first"));
    assert!(publish_now(&send_queue, "too early").is_err(), "another message took the mailbox before");
    on_channel.publish_waiting(&mut waiting);
    assert!(publish_now(&send_queue, "second").is_ok());
    for id in ["third", "fourth"] {
        assert!(publish_now(&send_queue, id).is_ok());
    }
    assert!(publish_now(&send_queue, "one of many").is_err(), "four are on the wire: the next one takes the mailbox");
    let mut verdicts = Vec::new();
    while verdicts.len() < 4 {
        let mut more = Vec::new();
        timeout(Duration::from_secs(30), on_channel.settled(&mut more)).await.unwrap();
        verdicts.append(&mut more);
    }
    for id in ["first", "second", "third", "fourth"] {
        let got = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
        assert_eq!(got.delivery.properties.message_id().as_ref().unwrap().as_str(), id);
    }
    drop(on_channel);
    assert!(publish_now(&send_queue, "gone").is_err());
    test.close().await;
}

#[tokio::test]
async fn who_waits_for_verdicts_hears_of_each_message_that_others_publish_meanwhile() {
    let test = TestChannel::open().await;
    let channel = test.channel.clone();

    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
    let on_channel = OnChannel::new(&send_queue, ConfirmTracker::new(channel.clone(), FrameMax::default(), true));
    on_channel.open();
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let waiting = tokio::spawn(async move {
        loop {
            let mut verdicts = Vec::new();
            on_channel.settled(&mut verdicts).await;
            tell.send(verdicts.len()).await.unwrap();
        }
    });
    for count in [1, 3] {
        // This test has one thread, so the other task runs now, until it waits for verdicts.
        tokio::task::yield_now().await;
        for _ in 0..count {
            assert!(publish_now(&send_queue, "m").is_ok());
        }
        let mut settled = 0;
        while settled < count {
            settled += timeout(Duration::from_secs(30), told.recv()).await.expect("the other task is woken").unwrap();
        }
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    test.close().await;
}

#[tokio::test]
async fn what_was_taken_and_not_published_is_the_next_channels_and_no_refusal_is_charged_to_it() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
    let mut waiting = UnsentEntries::new(&send_queue);
    send_queue.direct.wait();
    waiting.entries.push(to_q("taken"));
    drop(waiting);
    let error = lapin::protocol::AMQPError::from_id(406, "PRECONDITION_FAILED - too large".into()).unwrap();
    let error = lapin::Error::from(lapin::ErrorKind::ProtocolError(error));
    // A message that was on the wire would go back to its sender with the second refusal.
    send_queue.refuse(&error);
    send_queue.refuse(&error);
    let left: Vec<_> = send_queue.left_over().into_iter().map(|(_, message)| message.id().to_owned()).collect();
    assert_eq!((left, send_queue.stats().republished), (vec!["taken".to_owned()], 0));
    assert_eq!(send_queue.direct.behind(), 0, "the short way is free");
}

#[tokio::test(start_paused = true)]
async fn what_an_election_refused_is_sent_again_before_the_later_messages_of_its_key_and_told_if_it_lasts() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let topology = TopologyStore::new(Topology::new().queue(Queue::quorum("q")));
    let passing = Passing { republish: Republish::default(), topology };
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut numbers, mut outcomes) = (Vec::new(), Vec::new());
    for (id, key) in [("1", "q"), ("2", "q"), ("x", "other"), ("3", "q")] {
        if id == "3" {
            let refused = [(numbers[0], ConfirmVerdict::Nacked), (numbers[1], ConfirmVerdict::Nacked)];
            assert_eq!(ids(send_queue.settle(refused, &passing)), [""; 0]);
        }
        let message = Prepared::new(id, "", key, BasicProperties::default(), bytes::Bytes::new());
        let to = Address { exchange: "".into(), routing_key: key.into() };
        let (pending, reply) = Pending::new(id.into(), to, deadline, Kept::No);
        outcomes.push(pending);
        let taken = send_queue.unsettled.take([Entry::new(message, reply, false)], &send_queue.books);
        assert_eq!(taken.len(), usize::from(id != "3"), "{id}");
        numbers.extend(taken.first().map(|(number, _)| *number));
    }
    assert!(outcomes.iter().all(|pending| told(pending).is_none()));
    assert_eq!((send_queue.unsettled.waiting(), send_queue.progress().0), (3, Some(numbers[2])));
    let (_, due) = send_queue.due();
    tokio::time::advance(due.unwrap() - Instant::now()).await;
    assert_eq!(ids(send_queue.due().0), ["1"], "one of the key, to find out");
    assert_eq!(ids(send_queue.settle([(numbers[0], ConfirmVerdict::Confirmed)], &passing)), ["2", "3"]);
    assert_eq!(send_queue.unsettled.waiting(), 0);

    let lasting = |passing: &Passing| send_queue.settle([(numbers[1], ConfirmVerdict::Nacked)], passing);
    lasting(&passing);
    assert!(told(&outcomes[1]).is_none());
    tokio::time::advance(Duration::from_millis(29_500)).await;
    assert_eq!(ids(send_queue.due().0), ["2"]);
    lasting(&passing);
    assert!(matches!(told(&outcomes[1]), Some(SendOutcome::Nacked)), "its deadline comes before the next try");
    assert!(told(&outcomes[3]).is_none());
}

#[tokio::test(start_paused = true)]
async fn on_a_new_channel_the_first_message_of_each_key_goes_alone_and_the_rest_follows_its_confirm() {
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(1));
    let sent = [("1", "", "q"), ("2", "", "q"), ("x", "", "other"), ("3", "", "q")];
    let _senders = on_the_wire(&send_queue, &sent).await;
    let left_over = send_queue.left_over();
    let first = left_over[0].0;
    assert_eq!(ids(left_over), ["1", "x"]);
    assert_eq!(ids(send_queue.settle([(first, ConfirmVerdict::Confirmed)], &passing())), ["2", "3"]);
    assert_eq!(send_queue.stats().republished, 4);
}

#[tokio::test]
async fn what_the_broker_has_when_a_channel_ends_is_not_published_again() {
    for confirms in [true, false] {
        let test = if confirms { TestChannel::open().await } else { TestChannel::without_confirms().await };
        let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
        let on_channel =
            OnChannel::new(&send_queue, ConfirmTracker::new(test.channel.clone(), FrameMax::default(), confirms));
        on_channel.open();
        let (entry, outcome) = entry("m", "", "q");
        send_queue.count(1);
        let unsettled = (&send_queue.unsettled, &send_queue.books);
        assert!(send_queue.direct.publish_now(entry, send_queue.window, unsettled.0, unsettled.1).is_ok());
        // The last answer comes after the confirm, which nobody takes.
        let get = || test.channel.basic_get("q".into(), BasicGetOptions::default());
        let arrival = async { while get().await.unwrap().is_none() {} };
        timeout(Duration::from_secs(30), arrival).await.expect("the broker has the message");
        assert!(get().await.unwrap().is_none());
        drop(on_channel);
        assert!(matches!(told(&outcome), Some(SendOutcome::Confirmed | SendOutcome::Written)));
        assert!(send_queue.left_over().is_empty());
        test.close().await;
    }
}

#[tokio::test]
async fn nobody_looks_for_confirms_while_nothing_is_on_the_wire_and_a_message_begins_it() {
    const OFTEN: Duration = Duration::from_millis(10);
    let test = TestChannel::open().await;
    let send_queue = SendQueue::new("test".to_owned(), 10, 10, Duration::from_secs(10));
    let on_channel = OnChannel::new(&send_queue, ConfirmTracker::new(test.channel.clone(), FrameMax::default(), true));
    on_channel.open();
    let mut look = tokio::time::interval(OFTEN);
    assert!(timeout(20 * OFTEN, on_channel.next_look(&mut look)).await.is_err(), "nothing is on the wire");
    let (woken, mut verdicts) = (Arc::<Woken>::default(), Vec::new());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pin!(on_channel.settled(&mut verdicts)).poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(publish_now(&send_queue, "m").is_ok());
    assert!(woken.0.load(Ordering::SeqCst), "the message may never be written, so its sender wakes who looks");
    // Nobody takes the verdict, so the message stays on the wire.
    assert!(on_channel.next_look(&mut look).now_or_never().is_some(), "its time counts from the first look");
    assert!(on_channel.next_look(&mut look).now_or_never().is_none());
    timeout(Duration::from_secs(30), on_channel.next_look(&mut look)).await.expect("a message is on the wire");
    drop(on_channel);
    test.close().await;
}

/// A waker that remembers.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
