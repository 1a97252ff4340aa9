//! Handlers on the session's own thread, as with `Consume::on_io`.

use actix::{Actor, AsyncContext, Context, Handler};
use fluffle_wire::Wire;

use super::*;
use crate::consume::handler::{
    adapter::OneByOne, around::Middlewares, crash_log::CrashLog, delivery::Delivery as Message, dispatch::Feeder,
    on_io::OnIo,
};

/// Answers at once.
struct Plain;

impl Actor for Plain {
    type Context = Context<Self>;
}

impl Handler<Message<String>> for Plain {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Message<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

/// One turn of the thread's loop: each task that is ready runs, and each that it wakes.
async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

#[tokio::test]
async fn what_a_handler_on_the_same_thread_answers_at_once_is_acked_in_the_same_turn() {
    local(async {
        // With a small prefetch, one finished delivery would be reason enough for an ack.
        let session = Running::start(&settings(consume().prefetch(128)), 1);
        let adapter = || OneByOne { wire: Wire::<String>::protobuf(), reply: Wire::<()>::protobuf() };
        let (on_io, _blocked) = OnIo::new("q", Arc::default());
        let (queue, middleware) = (Arc::clone(&session.settings.handler_queue), Middlewares::default().on_io(on_io));
        let feeder = Feeder { queue, seen: None, middleware, adapter };
        Plain::create(|ctx| {
            ctx.spawn(feeder.dispatch(0, 10, CrashLog::new("q", 0)));
            Plain
        });
        let body = Wire::<String>::protobuf().encode(&"text".to_owned()).unwrap().body.to_vec();
        for tag in 1..=3 {
            // An ack that comes less than a millisecond after another one waits.
            sleep(3 * LEAST_APART).await;
            turn().await;
            session.deliver.send(Some(Delivery::mock(tag, "".into(), "q".into(), false, body.clone()))).unwrap();
            turn().await;
            assert_eq!(session.said.all().last(), Some(&format!("ack {tag}")));
        }
        session.drained().await;
    })
    .await;
}
