//! Lesson 6: requests and answers.
//!
//! A [`Requester`] sends a question and waits for its answer. A handler returns the answer: `Result<Answer, Failure>`.
//! Answers come back over RabbitMQ's *direct reply-to*, without a queue of their own. A question can be answered, or
//! refused by the handler, or get no answer by its deadline. In the last case it is unknown whether the question was
//! handled, so ask only questions that may be asked twice.
//!
//! Run it: `cargo run -p examples --bin 06_request_reply`
//!
//! Try: `concurrency(1)` on the consumer. The questions are then answered one after the other.
//!
//! Next: `07_pipeline`, in which handlers also publish.

use std::time::{Duration, Instant};

use examples::{
    check,
    messages::{Answer, Question},
    say,
};
use fluffle::{Error, prelude::*};
use futures_util::future::join_all;

struct Adder;

impl Actor for Adder {
    type Context = Context<Self>;
}

impl Handler<Delivery<Question, Answer>> for Adder {
    type Result = ResponseFuture<Result<Answer, Failure>>;

    fn handle(&mut self, question: Delivery<Question, Answer>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(question.milliseconds.into())).await;
            let sum = question.numbers.iter().try_fold(0_i64, |sum, number| sum.checked_add(*number));
            match sum {
                Some(sum) => Ok(Answer { sum }),
                // Asking again would not help. `reject` is an answer: the requester gets `Refused` at once.
                None => Err(Failure::reject("the sum does not fit in 64 bits")),
            }
        })
    }
}

fn question(numbers: impl Into<Vec<i64>>) -> Question {
    Question { numbers: numbers.into(), milliseconds: 100 }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    // Keep log lines out of the lesson's output.
    examples::logging_from("off");
    let broker = Broker::from_env_or_embedded()?;

    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("sums")));
    let ask = app.requester::<Question, Answer>(Route::queue("sums").deadline(Duration::from_secs(5)));
    let hurried = app.requester::<Question, Answer>(Route::queue("sums").deadline(Duration::from_millis(50)));
    let service = app.consume(Consume::queue("sums").retry(Retry::none()), || Adder).start().await?;
    service.ready().await?;

    say("One question:");
    let answer = ask.request(question([1, 2, 3])).await.map_err(Error::other)?;
    println!("  1 + 2 + 3 = {}", answer.sum);

    say("Fifty at once; each takes 100 ms to answer:");
    let began = Instant::now();
    let answers = join_all((0..50).map(|n| ask.request(question([n, n])))).await;
    let took = began.elapsed();
    let right = answers.iter().zip(0..).filter(|(answer, n)| answer.as_ref().is_ok_and(|it| it.sum == 2 * n)).count();
    println!("  {right} right answers in {} ms", took.as_millis());

    say("One that cannot be answered:");
    let refused = ask.request(question([i64::MAX, 1])).await;
    let refused = refused.err().filter(|error| matches!(error.kind(), RequestErrorKind::Refused { .. }));
    println!("  {}", refused.as_ref().map_or("answered?".to_owned(), ToString::to_string));

    say("One whose requester waits only 50 ms:");
    let late = hurried.request(question([20, 22])).await;
    let late = late.err().filter(|error| matches!(error.kind(), RequestErrorKind::TimedOut));
    println!("  {}", late.as_ref().map_or("answered?".to_owned(), ToString::to_string));

    service.shutdown().await?;
    let counts = (usize::from(refused.is_some()), usize::from(late.is_some()));
    say(format!("06_request_reply: answered={} refused={} timed_out={}", right + 1, counts.0, counts.1));
    check(right == 50 && counts == (1, 1), "51 answers, 1 refusal, 1 time-out")
}
