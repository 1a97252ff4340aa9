//! Dispatch driven without a broker: attempts pushed into a handler queue, answers taken from it.

use std::{cell::RefCell, rc::Rc, time::Instant};

use actix::{AsyncContext, ResponseFuture};
use fluffle_wire::{Encoded, Wire};
use lapin::BasicProperties;
use tokio::{sync::oneshot, time::timeout};

use actix::Handler;

use super::*;
use crate::{
    base::requests::Request,
    consume::{
        attempt::{attempt::tests::attempt_at, ticket::Completion},
        handler::{adapter::OneByOne, delivery::Delivery},
        queue::{handler_queue::Answers, waiting::Waiting},
    },
};

/// What the handler was given, in order.
type Given = Rc<RefCell<Vec<String>>>;

struct Plain(Given);

impl Actor for Plain {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Plain {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.borrow_mut().push(text.clone());
        if text.starts_with("bad") { Err(Failure::reject("bad")) } else { Ok(()) }
    }
}

/// Answers when the test says so.
struct Slow(Given, Rc<RefCell<Vec<oneshot::Receiver<()>>>>);

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Slow {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.borrow_mut().push(text.clone());
        let gate = self.1.borrow_mut().pop();
        Box::pin(async move {
            if let Some(gate) = gate {
                let _ = gate.await;
            }
            Ok(())
        })
    }
}

fn queue() -> Arc<HandlerQueue> {
    HandlerQueue::new(Waiting::new(false, 1_000_000, None, false), None)
}

fn feeder(queue: &Arc<HandlerQueue>) -> Feeder<impl Fn() -> OneByOne<String, ()> + Clone + use<>> {
    let adapter = || OneByOne { wire: Wire::protobuf(), reply: Wire::protobuf() };
    Feeder { queue: Arc::clone(queue), seen: None, middleware: Middlewares::default(), adapter }
}

fn start<A>(actor: A, queue: &Arc<HandlerQueue>, concurrency: usize)
where
    A: Actor<Context = Context<A>> + Handler<Delivery<String>, Result: 'static>,
{
    let feeder = feeder(queue);
    A::create(move |ctx| {
        ctx.spawn(feeder.dispatch(0, concurrency, CrashLog::new("q", 0)));
        actor
    });
}

fn push(queue: &HandlerQueue, encoded: Encoded, change: impl FnOnce(&mut crate::consume::message::received::Received)) {
    let labels = BasicProperties::default()
        .with_content_type((&*encoded.content_type).into())
        .with_type((&*encoded.type_name).into());
    queue.push(Arc::new(attempt_at(labels, |message| {
        message.body = encoded.body;
        change(message);
    })));
    queue.announce();
}

fn push_text(queue: &HandlerQueue, text: &str) {
    push(queue, Wire::<String>::protobuf().encode(&text.to_owned()).unwrap(), |_| ());
}

async fn outcome(answers: &mut Answers) -> Outcome {
    let mut into = Vec::new();
    timeout(Duration::from_secs(5), answers.take(&mut into, 1)).await.expect("an answer");
    let Completion { outcome, .. } = into.pop().unwrap();
    outcome
}

#[actix::test]
async fn a_message_goes_to_the_handler_and_its_result_is_the_outcome() {
    let (queue, given) = (queue(), Given::default());
    queue.begin(1);
    let mut answers = queue.answers().unwrap();
    start(Plain(Rc::clone(&given)), &queue, 1);
    push_text(&queue, "good");
    assert!(matches!(outcome(&mut answers).await, Outcome::Handled(None)));
    push_text(&queue, "bad");
    assert!(matches!(outcome(&mut answers).await, Outcome::Failed(_)));
    push(
        &queue,
        Encoded { body: b"\xff".to_vec().into(), ..Wire::<String>::protobuf().encode(&String::new()).unwrap() },
        |_| (),
    );
    assert!(matches!(outcome(&mut answers).await, Outcome::Undecodable(_)));
    assert_eq!(*given.borrow(), ["good", "bad"], "what cannot be decoded never gets there");
}

#[actix::test]
async fn a_delivery_of_an_older_channel_and_an_expired_request_never_get_to_the_handler() {
    let (queue, given) = (queue(), Given::default());
    queue.begin(2);
    let mut answers = queue.answers().unwrap();
    start(Plain(Rc::clone(&given)), &queue, 1);
    let encoded = || Wire::<String>::protobuf().encode(&"text".to_owned()).unwrap();
    push(&queue, encoded(), |message| message.generation = 1);
    assert!(matches!(outcome(&mut answers).await, Outcome::NotStarted));
    push(&queue, encoded(), |message| {
        message.generation = 2;
        message.request = Some(Request { expires: Some(Instant::now()), retried: false });
    });
    assert!(matches!(outcome(&mut answers).await, Outcome::Expired));
    assert!(given.borrow().is_empty());
}

#[actix::test]
async fn the_items_of_a_batch_have_each_their_own_result() {
    let (queue, given) = (queue(), Given::default());
    queue.begin(1);
    let mut answers = queue.answers().unwrap();
    start(Plain(Rc::clone(&given)), &queue, 1);
    let batch = Wire::<String>::protobuf().encode_batch(&["a", "bad", "c"].map(str::to_owned)).unwrap();
    push(&queue, batch, |_| ());
    match outcome(&mut answers).await {
        Outcome::Items(items) => {
            assert!(items.is_complete(3));
            assert_eq!(items.failed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(*given.borrow(), ["a", "bad", "c"]);
}

#[actix::test]
async fn futures_run_at_a_time_up_to_the_concurrency_and_one_given_up_makes_room() {
    let (queue, given) = (queue(), Given::default());
    queue.begin(1);
    let mut answers = queue.answers().unwrap();
    let (open, gate) = oneshot::channel();
    start(Slow(Rc::clone(&given), Rc::new(RefCell::new(vec![gate]))), &queue, 1);
    let first = Arc::new(attempt_at(BasicProperties::default(), |message| {
        message.body = Wire::<String>::protobuf().encode(&"first".to_owned()).unwrap().body;
    }));
    queue.push(Arc::clone(&first));
    push_text(&queue, "second");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(*given.borrow(), ["first"], "one at a time");
    first.give_up();
    assert!(matches!(outcome(&mut answers).await, Outcome::Handled(None)), "the second has taken its place");
    assert_eq!(*given.borrow(), ["first", "second"]);
    open.send(()).unwrap();
    assert!(matches!(outcome(&mut answers).await, Outcome::Handled(None)), "the late answer comes all the same");
}
