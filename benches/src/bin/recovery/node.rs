//! A lone broker that comes back, and a handler that panics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{prelude::*, testing::TestBroker};
use fluffle_harness::RabbitMq;
use lapin::{Connection, ConnectionProperties};

use crate::{
    load::{Handled, Load, Noting},
    shared::{Failure, PATIENCE, blocking},
};

/// From the moment at which a client can log in again to the first message handled.
pub(crate) async fn broker_is_back() -> Result<Vec<(&'static str, Duration)>, Failure> {
    let (node, handled) = (Arc::new(blocking(RabbitMq::start).await?), Handled::default());
    let app = App::new(Broker::new(&node.url())?).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q").deadline(PATIENCE));
    let noted = handled.clone();
    let service = app.consume(Consume::queue("q"), move || Noting(noted.clone())).start().await?;
    service.ready().await?;
    let load = Load::begin(out);
    load.more(500).await?;
    let restarted = Arc::clone(&node);
    blocking(move || restarted.kill()).await?;
    let (url, restarted) = (node.url(), Arc::clone(&node));
    let starting = actix::spawn(blocking(move || restarted.start_again()));
    let back = loop {
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(1), connecting).await {
            let back = Instant::now();
            connection.close(200, "it is back".into()).await?;
            break back;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    load.more(200).await?;
    starting.await??;
    let first = handled.first_after(back).ok_or("nothing was handled")? - back;
    let published = load.end().await?;
    handled.complete(published).await?;
    service.shutdown().await?;
    Ok(vec![("lone broker back: until the first message is handled", first)])
}

/// Panics at the message `panic`, once.
struct Fragile {
    handled: Handled,
    panicked: Arc<std::sync::Mutex<Option<Instant>>>,
}

const WAIT: Duration = Duration::from_millis(100);

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Fragile {
    type Result = Result<(), fluffle::prelude::Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        if *text == "panic" {
            *self.panicked.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
            std::panic::resume_unwind(Box::new("for the measurement"));
        }
        self.handled.note(0);
        Ok(())
    }
}

/// From the panic of the only handler to the next message handled by its successor. The shortest wait before a restart
/// is part of it.
pub(crate) async fn handler_panics() -> Result<Vec<(&'static str, Duration)>, Failure> {
    let (broker, handled) = (TestBroker::start()?, Handled::default());
    let app = App::new(broker.client()?).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q"));
    let (noted, panicked) = (handled.clone(), Arc::<std::sync::Mutex<Option<Instant>>>::default());
    let when = Arc::clone(&panicked);
    let make = move || Fragile { handled: noted.clone(), panicked: Arc::clone(&when) };
    let consume = Consume::queue("q").concurrency(1).handler_backoff(Backoff::exponential(WAIT, WAIT)?);
    let service = app.consume(consume, make).start().await?;
    service.ready().await?;
    for text in ["panic", "next"] {
        out.publish(text.to_owned()).await.map_err(|error| error.to_string())?;
    }
    while handled.count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let panicked = *panicked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let took = handled.first_after(panicked.ok_or("no panic")?).ok_or("nothing was handled")? - panicked.ok_or("?")?;
    service.shutdown().await?;
    Ok(vec![("handler panicked: until the next message, with a wait of 100 ms", took)])
}
