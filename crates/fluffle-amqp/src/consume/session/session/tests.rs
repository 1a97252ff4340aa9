//! A session driven without a broker: a scripted subscription in, commands out.

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending, ready},
    rc::Rc,
};

use futures_util::StreamExt;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::{JoinHandle, LocalSet, spawn_local},
    time::timeout,
};

use super::*;
use crate::{
    AtMostOnce, CircuitBreaker, Consume, Retry, Window,
    base::failure::Failure,
    consume::{
        attempt::{
            job::{Job, Work},
            permits::{KeyLock, tests::Freed},
            ticket::Ticket,
        },
        events::stats::ConsumerStats,
        session::settings::tests::settings,
    },
};

/// What the session said to the broker, in order.
#[derive(Clone, Default)]
struct Said(Rc<RefCell<Vec<String>>>);

impl Said {
    fn say(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

impl Commands for Said {
    fn ack(&self, tag: u64, multiple: bool) -> impl Future<Output = Result<(), lapin::Error>> + 'static {
        self.say(if multiple { format!("ack up to {tag}") } else { format!("ack {tag}") });
        ready(Ok(()))
    }

    fn requeue(&self, tag: u64) -> impl Future<Output = Result<(), lapin::Error>> + 'static {
        self.say(format!("requeue {tag}"));
        ready(Ok(()))
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// Deliveries as the test sends them.
struct Scripted {
    said: Said,
    deliveries: UnboundedReceiver<Option<Delivery>>,
    prefetch: Option<u16>,
}

impl Subscribe for Scripted {
    fn prefetch(&self) -> Option<u16> {
        self.prefetch
    }

    fn is_engaged(&self) -> bool {
        true
    }

    async fn begin(&mut self, prefetch: u16) -> Result<(), lapin::Error> {
        self.said.say(format!("subscribe {prefetch}"));
        self.prefetch = Some(prefetch);
        Ok(())
    }

    async fn end(&mut self) -> Result<Vec<Delivery>, lapin::Error> {
        if self.prefetch.take().is_some() {
            self.said.say("cancel");
        }
        let mut left = Vec::new();
        while let Ok(Some(delivery)) = self.deliveries.try_recv() {
            left.push(delivery);
        }
        Ok(left)
    }

    async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        match (self.prefetch, self.deliveries.recv().await) {
            (Some(_), Some(delivery)) => delivery.map(Ok),
            _ => pending().await,
        }
    }

    async fn close_channel(&self) {
        self.said.say("close channel");
    }
}

/// A running session, its settings, and both ends of its channel.
struct Running {
    settings: Arc<SharedSettings>,
    said: Said,
    deliver: UnboundedSender<Option<Delivery>>,
    drain: watch::Sender<bool>,
    end: JoinHandle<End>,
    /// How often the session was polled.
    polls: Rc<Cell<usize>>,
}

impl Running {
    fn start(settings: &Arc<SharedSettings>, generation: Generation) -> Self {
        let (said, settings) = (Said::default(), Arc::clone(settings));
        let (deliver, deliveries) = mpsc::unbounded_channel();
        let subscription = Scripted { said: said.clone(), deliveries, prefetch: Some(settings.prefetch) };
        let answers = settings.handler_queue.answers().expect("the session before has ended");
        settings.handler_queue.begin(generation);
        let session = Session::new(generation, said.clone(), Arc::clone(&settings), subscription, answers);
        let drain = watch::Sender::new(false);
        let polls = Rc::<Cell<usize>>::default();
        let (mut running, polled) = (Box::pin(session.run(drain.subscribe())), Rc::clone(&polls));
        let end = spawn_local(std::future::poll_fn(move |cx| {
            polled.set(polled.get() + 1);
            running.as_mut().poll(cx)
        }));
        Self { settings, said, deliver, drain, end, polls }
    }

    fn deliver(&self, tag: u64) {
        self.deliver_again(tag, false);
    }

    fn deliver_again(&self, tag: u64, redelivered: bool) {
        let delivery = Delivery::mock(tag, "".into(), "q".into(), redelivered, b"body".to_vec());
        self.deliver.send(Some(delivery)).unwrap();
    }

    /// The next delivery that a handler gets.
    async fn taken(&self) -> (Arc<Attempt>, Ticket) {
        let mut jobs = self.settings.handler_queue.jobs(0);
        let job = timeout(Duration::from_secs(5), jobs.next()).await.expect("a handler gets it").unwrap();
        match job {
            Job { attempt, work: Work::Whole(mut ticket) } => {
                ticket.start();
                attempt.start();
                (attempt, ticket)
            }
            _ => panic!("not a whole delivery"),
        }
    }

    /// Waits until the session has said these words, in this order, and no others.
    async fn says(&self, words: &[&str]) {
        let said = async {
            while self.said.all() != words {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(Duration::from_secs(5), said).await;
        assert_eq!(self.said.all(), words);
    }

    fn stats(&self) -> ConsumerStats {
        self.settings.events.stats(self.settings.state())
    }

    async fn drained(self) -> End {
        self.drain.send_replace(true);
        timeout(Duration::from_secs(5), self.end).await.expect("it ends").unwrap()
    }

    /// The channel is lost: the session is dropped in the middle of what it does.
    async fn lost(self) {
        self.end.abort();
        let _ = self.end.await;
    }
}

fn consume() -> Consume<String> {
    Consume::queue("q").prefetch(10)
}

async fn local<O>(test: impl Future<Output = O>) -> O {
    LocalSet::new().run_until(test).await
}

#[tokio::test(start_paused = true)]
async fn a_handled_delivery_is_acked_and_one_before_it_that_is_not_holds_back_no_other() {
    local(async {
        let session = Running::start(&settings(consume()), 1);
        for tag in 1..=3 {
            session.deliver(tag);
        }
        let (_, slow) = session.taken().await;
        for _ in 2..=3 {
            session.taken().await.1.answer(Outcome::Handled(None));
        }
        session.says(&["ack 2", "ack 3"]).await;
        slow.answer(Outcome::Handled(None));
        session.says(&["ack 2", "ack 3", "ack 1"]).await;
        assert_eq!((session.stats().received, session.stats().handled), (3, 3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_back_what_no_handler_began_and_waits_for_what_one_did() {
    local(async {
        let session = Running::start(&settings(consume()), 1);
        session.deliver(1);
        session.deliver(2);
        let (_, begun) = session.taken().await;
        session.drain.send_replace(true);
        session.says(&["cancel", "requeue 2"]).await;
        begun.answer(Outcome::Handled(None));
        let said = session.said.clone();
        assert!(matches!(session.drained().await, End::Drained));
        assert_eq!(said.all(), ["cancel", "requeue 2", "ack 1"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_a_lost_channel_is_never_acked_on_the_next_one() {
    local(async {
        let settings = settings(consume());
        let first = Running::start(&settings, 1);
        first.deliver(1);
        let (attempt, begun) = first.taken().await;
        first.lost().await;
        assert_eq!(attempt.settled().await, Settled::Lost);
        let second = Running::start(&settings, 2);
        begun.answer(Outcome::Handled(None));
        second.deliver(1);
        second.taken().await.1.answer(Outcome::Handled(None));
        second.says(&["ack 1"]).await;
        let stats = second.stats();
        assert_eq!((stats.work_done_ack_lost, stats.handled), (1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_rests_here_comes_again_and_only_its_own_answer_settles_it() {
    local(async {
        let wait = Duration::from_millis(500);
        let retry = Retry::exponential(3, wait, 1.0).unwrap().in_process_below(Duration::from_secs(1)).unwrap();
        let session = Running::start(&settings(consume().retry(retry)), 1);
        session.deliver(1);
        let (first, ticket) = session.taken().await;
        ticket.answer(Outcome::Failed(Failure::retry("not yet")));
        let (second, ticket) = session.taken().await;
        assert_eq!((first.attempt_number.get(), second.attempt_number.get()), (1, 2));
        assert_eq!(first.settled().await, Settled::Retried);
        ticket.answer(Outcome::Handled(None));
        session.says(&["ack 1"]).await;
        assert_eq!((session.stats().retried, session.stats().handled), (1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_past_its_time_fails_the_attempt_and_its_late_answer_settles_nothing() {
    local(async {
        let wait = Duration::from_millis(500);
        let retry = Retry::exponential(3, wait, 1.0).unwrap().in_process_below(Duration::from_secs(1)).unwrap();
        let terms = consume().retry(retry).handler_timeout(Duration::from_millis(40));
        let session = Running::start(&settings(terms), 1);
        session.deliver(1);
        let (attempt, late) = session.taken().await;
        // Real time passes here, because attempts measure how long a handler is busy by the real clock.
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(attempt.settled().await, Settled::Retried);
        let (_, second) = session.taken().await;
        late.answer(Outcome::Handled(None));
        let is_late = async {
            while session.stats().late == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), is_late).await.expect("the answer is late");
        assert!(session.said.all().is_empty(), "the second attempt is in hand");
        second.answer(Outcome::Handled(None));
        session.says(&["ack 1"]).await;
        assert_eq!((session.stats().late, session.stats().handled), (1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_cancels_the_subscription_and_gives_back_what_no_handler_began() {
    local(async {
        let breaker = CircuitBreaker::new("backend").ratio(0.5).unwrap().window(Window::last(2)).count_rejections();
        let retry = Retry::exponential(3, Duration::from_millis(10), 1.0).unwrap();
        let terms = consume().retry(retry.in_process_below(Duration::from_secs(1)).unwrap());
        let session = Running::start(&settings(terms.circuit_breaker(breaker)), 1);
        for tag in 1..=3 {
            session.deliver(tag);
        }
        for _ in 0..2 {
            session.taken().await.1.answer(Outcome::Failed(Failure::retry("away")));
        }
        session.says(&["cancel", "requeue 3"]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_most_once_a_delivery_is_acked_when_it_comes_and_a_redelivered_one_is_dropped() {
    local(async {
        let session = Running::start(&settings(consume().guarantee(AtMostOnce)), 1);
        session.deliver(1);
        let (attempt, ticket) = session.taken().await;
        session.says(&["ack 1"]).await;
        ticket.answer(Outcome::Failed(Failure::retry("no")));
        session.deliver_again(2, true);
        session.says(&["ack 1", "ack 2"]).await;
        assert_eq!(attempt.settled().await, Settled::Dropped);
        assert_eq!((session.stats().dropped, session.settings.handler_queue.len()), (2, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_by_the_broker_ends_the_session_after_its_last_acks() {
    local(async {
        let session = Running::start(&settings(consume()), 1);
        session.deliver(1);
        session.taken().await.1.answer(Outcome::Handled(None));
        session.says(&["ack 1"]).await;
        session.deliver.send(None).unwrap();
        assert!(matches!(timeout(Duration::from_secs(5), session.end).await.unwrap().unwrap(), End::Cancelled));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_suspect_among_others_closes_the_channel_and_is_given_back_with_all_that_waits() {
    local(async {
        let settings = settings(consume().delivery_limit(6));
        let session = Running::start(&settings, 1);
        session.deliver(1);
        let mut suspect = Delivery::mock(2, "".into(), "q".into(), true, b"body".to_vec());
        let mut headers = lapin::types::FieldTable::default();
        headers.insert("x-delivery-count".into(), lapin::types::AMQPValue::LongLongInt(3));
        suspect.properties = lapin::BasicProperties::default().with_headers(headers);
        session.deliver.send(Some(suspect)).unwrap();
        session.deliver(3);
        let said = session.said.clone();
        assert!(matches!(timeout(Duration::from_secs(5), session.end).await.unwrap().unwrap(), End::Isolated));
        assert_eq!(said.all(), ["close channel"], "nothing is requeued: closing keeps each message in its place");
        assert_eq!(settings.events.stats(settings.state()).requeued, 0);
        assert!(settings.quarantine.is_on());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_finishes_what_is_begun_and_gives_the_rest_back_by_closing_the_channel() {
    local(async {
        let session = Running::start(&settings(consume()), 1);
        session.settings.guard.pause.tell(session.drain.clone());
        session.deliver(1);
        session.deliver(2);
        let (_, begun) = session.taken().await;
        session.settings.guard.pause.set(true);
        begun.answer(Outcome::Handled(None));
        session.says(&["ack 1", "close channel"]).await;
        assert_eq!((session.stats().requeued, session.settings.handler_queue.len()), (0, 0));
        assert!(matches!(timeout(Duration::from_secs(5), session.end).await.unwrap().unwrap(), End::Paused));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_failed_for_good_frees_its_key_before_its_copy_has_a_place() {
    local(async {
        let session = Running::start(&settings(consume()), 1);
        session.deliver(1);
        let (attempt, ticket) = session.taken().await;
        let freed = Arc::new(Freed::default());
        let keys = Arc::downgrade(&freed);
        attempt.permits.take_key(KeyLock::new(keys, 7));
        ticket.answer(Outcome::Failed(Failure::reject("never")));
        let is_free = async {
            while freed.0.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), is_free).await.expect("the next message of the key goes ahead");
        assert!(session.said.all().is_empty(), "the dead letter has no place yet, so there is no ack");
    })
    .await;
}

mod at_rest;
mod same_turn;
mod streams;
