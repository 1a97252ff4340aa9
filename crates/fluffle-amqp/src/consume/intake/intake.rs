//! Takes the deliveries of one channel through the intake steps.

use std::{sync::Arc, time::Duration};

use fluffle_wire::headers::Attempt as AttemptNumber;
use futures_util::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, ready},
    stream::{FuturesOrdered, FuturesUnordered},
};
use tokio::time::sleep;

use crate::consume::{
    attempt::attempt::Attempt,
    intake::{
        seen::Seen,
        step::{IntakeStep, Taken},
    },
};

/// The steps of one consumer, in their order.
pub(crate) type Steps = Arc<[Arc<dyn IntakeStep>]>;

/// The deliveries that are in an intake step, and those that wait in this process between two attempts.
pub(crate) struct Intake {
    steps: Steps,
    in_order: FuturesOrdered<LocalBoxFuture<'static, Taken>>,
    apart: FuturesUnordered<LocalBoxFuture<'static, Taken>>,
}

impl Intake {
    pub(crate) fn new(steps: Steps) -> Self {
        Self { steps, in_order: FuturesOrdered::new(), apart: FuturesUnordered::new() }
    }

    /// Whether there are any steps. Without them a delivery need not be taken in.
    pub(crate) fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Takes a delivery in. Gives it back at once if no step has anything to do for it and no earlier delivery is on
    /// its way.
    pub(crate) fn begin(&mut self, attempt: Attempt) -> Option<Attempt> {
        match begin(&self.steps, 0, attempt) {
            Ok(taking) => self.in_order.push_back(taking),
            Err(attempt) if self.in_order.is_empty() => return Some(attempt),
            Err(attempt) => self.in_order.push_back(ready(Taken::Ready(attempt)).boxed_local()),
        }
        None
    }

    /// Keeps a failed delivery in this process for `wait`, until its next attempt, `number`. With effectively once its
    /// message is looked up again then, because its handler may have succeeded after the attempt was given up.
    pub(crate) fn rest(&mut self, failed: &Attempt, number: AttemptNumber, wait: Duration, seen: Option<Seen>) {
        let next = failed.again(number);
        self.apart.push(
            async move {
                sleep(wait).await;
                match (&seen, &next.seen_key) {
                    (Some(seen), Some(key)) if seen.has(key).await => Taken::HandledBefore(next),
                    _ => Taken::Ready(next),
                }
            }
            .boxed_local(),
        );
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.apart.is_empty()
    }

    /// The next delivery that has passed all steps. Waits for ever if there is none. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Taken {
        loop {
            let taken = tokio::select! {
                biased;
                Some(taken) = self.in_order.next(), if !self.in_order.is_empty() => taken,
                Some(taken) = self.apart.next(), if !self.apart.is_empty() => taken,
                else => std::future::pending().await,
            };
            match taken {
                Taken::Apart(waiting) => self.apart.push(waiting),
                taken => return taken,
            }
        }
    }

    /// Drops all deliveries. The broker delivers them again after the channel is closed.
    pub(crate) fn clear(&mut self) {
        self.in_order.clear();
        self.apart.clear();
    }
}

/// Begins the first step, from number `from` on, that has something to do. The steps after it follow when it is done.
#[expect(clippy::result_large_err, reason = "the attempt that is given back is no error, and is moved once")]
fn begin(steps: &Steps, from: usize, mut attempt: Attempt) -> Result<LocalBoxFuture<'static, Taken>, Attempt> {
    for (number, step) in steps.iter().enumerate().skip(from) {
        match step.begin(attempt) {
            Ok(taking) => {
                let steps = Arc::clone(steps);
                return Ok(taking.then(move |taken| go_on(steps, number + 1, taken)).boxed_local());
            }
            Err(back) => attempt = back,
        }
    }
    Err(attempt)
}

fn go_on(steps: Steps, next: usize, taken: Taken) -> LocalBoxFuture<'static, Taken> {
    match taken {
        Taken::Ready(attempt) => {
            begin(&steps, next, attempt).unwrap_or_else(|attempt| ready(Taken::Ready(attempt)).boxed_local())
        }
        Taken::Apart(waiting) => {
            let going_on = waiting.then(move |taken| go_on(steps, next, taken)).boxed_local();
            ready(Taken::Apart(going_on)).boxed_local()
        }
        taken @ (Taken::HandledBefore(_) | Taken::Failed(..)) => ready(taken).boxed_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Mutex};

    use futures_util::future::BoxFuture;
    use lapin::BasicProperties;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        SeenError, SeenStore,
        base::failure::Failure,
        consume::attempt::{attempt::tests::attempt_at, outcome::Outcome},
    };

    fn message(id: &str) -> Attempt {
        attempt_at(BasicProperties::default().with_message_id(id.into()), |_| ())
    }

    fn no_id() -> Attempt {
        attempt_at(BasicProperties::default(), |_| ())
    }

    /// Lets each message with an id pass when the test says so. The first message gives up its place; `broken` fails.
    #[derive(Default)]
    struct Gate(Mutex<Vec<oneshot::Sender<()>>>);

    impl IntakeStep for Gate {
        fn begin(&self, attempt: Attempt) -> Result<LocalBoxFuture<'static, Taken>, Attempt> {
            let Some(id) = attempt.message_id().map(str::to_owned) else { return Err(attempt) };
            let (open, opened) = oneshot::channel::<()>();
            self.0.lock().unwrap().push(open);
            let pass = async move {
                let _ = opened.await;
                match &*id {
                    "broken" => Taken::Failed(attempt, Outcome::Failed(Failure::retry("no body"))),
                    _ => Taken::Ready(attempt),
                }
            };
            Ok(match attempt_is_late(&self.0) {
                true => ready(Taken::Apart(pass.boxed_local())).boxed_local(),
                false => pass.boxed_local(),
            })
        }
    }

    /// Whether the message is the first one, which gives up its place.
    fn attempt_is_late(gates: &Mutex<Vec<oneshot::Sender<()>>>) -> bool {
        gates.lock().unwrap().len() == 1
    }

    fn id(taken: Option<Taken>) -> Option<String> {
        match taken? {
            Taken::Ready(attempt) => Some(attempt.message_id().unwrap_or("none").to_owned()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn without_steps_a_delivery_is_given_back_at_once() {
        let mut intake = Intake::new(Arc::new([]));
        assert!(intake.begin(message("a")).is_some() && intake.is_empty());
    }

    #[tokio::test]
    async fn deliveries_keep_their_order_through_a_step_also_those_it_has_nothing_to_do_for() {
        let gate = Arc::new(Gate::default());
        let mut intake = Intake::new(Arc::new([Arc::clone(&gate) as Arc<dyn IntakeStep>]));
        assert!(intake.begin(message("late")).is_none());
        assert!(intake.begin(message("a")).is_none());
        assert!(intake.begin(no_id()).is_none(), "it must not overtake the others");
        assert!(intake.next().now_or_never().is_none());
        let mut gates = std::mem::take(&mut *gate.0.lock().unwrap());
        gates.remove(1).send(()).unwrap();
        assert_eq!(id(intake.next().now_or_never()).as_deref(), Some("a"), "`late` has given up its place");
        assert_eq!(id(intake.next().now_or_never()).as_deref(), Some("none"));
        assert!(intake.next().now_or_never().is_none());
        gates.remove(0).send(()).unwrap();
        assert_eq!(id(intake.next().now_or_never()).as_deref(), Some("late"));
        assert!(intake.is_empty());
    }

    #[tokio::test]
    async fn a_step_behind_another_follows_it_and_a_failure_ends_the_way() {
        let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
        let steps = gates.each_ref().map(|gate| Arc::clone(gate) as Arc<dyn IntakeStep>);
        let mut intake = Intake::new(Arc::new(steps));
        intake.begin(message("broken"));
        assert!(intake.next().now_or_never().is_none());
        gates[0].0.lock().unwrap().remove(0).send(()).unwrap();
        assert!(matches!(intake.next().now_or_never(), Some(Taken::Failed(_, Outcome::Failed(_)))));
        assert!(gates[1].0.lock().unwrap().is_empty(), "the second step never sees it");
    }

    #[derive(Default)]
    struct InMemory(Mutex<HashSet<String>>);

    impl SeenStore for InMemory {
        fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
            Box::pin(ready(Ok(self.0.lock().unwrap().contains(key))))
        }
        fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
            self.0.lock().unwrap().insert(key.to_owned());
            Box::pin(ready(Ok(())))
        }
    }

    #[tokio::test]
    async fn a_duplicate_waits_until_the_first_is_out_of_hand_and_is_known_then() {
        let seen = Seen::new(Arc::new(InMemory::default()));
        let mut intake = Intake::new(Arc::new([Arc::new(seen.clone()) as Arc<dyn IntakeStep>]));
        intake.begin(message("m"));
        intake.begin(message("m"));
        let Taken::Ready(first) = intake.next().await else { panic!("not seen before") };
        assert!(intake.next().now_or_never().is_none(), "the first is in hand");
        seen.remember(first.seen_key.as_deref().unwrap()).await;
        drop(first);
        assert!(matches!(intake.next().now_or_never(), Some(Taken::HandledBefore(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_rests_keeps_its_claim_and_is_looked_up_again() {
        let seen = Seen::new(Arc::new(InMemory::default()));
        let mut intake = Intake::new(Arc::new([Arc::new(seen.clone()) as Arc<dyn IntakeStep>]));
        intake.begin(message("m"));
        let Taken::Ready(first) = intake.next().await else { panic!("not seen before") };
        intake.rest(&first, first.attempt_number.next(), Duration::from_secs(1), Some(seen.clone()));
        seen.remember(first.seen_key.as_deref().unwrap()).await;
        drop(first);
        intake.begin(message("m"));
        assert!(matches!(intake.next().await, Taken::HandledBefore(again) if again.attempt_number.get() == 2));
        assert!(matches!(intake.next().await, Taken::HandledBefore(again) if again.attempt_number.get() == 1));
    }
}
