//! Fluffle as its users have it: an `App` with a publisher and a consumer, and a handler actor with a plain result. On top of
//! what the others do it labels each message with an id, a type and a time, has it returned when no queue takes it, encodes and
//! decodes Protobuf, and survives what breaks.

use std::{collections::VecDeque, sync::Arc};

use ::fluffle::{amqp::Payload, prelude::*};
use protos::usgs::Quake;

use crate::{body::Parcel, course::Course};

/// Messages handed over together.
const BURST: usize = 50;

/// Bytes of messages in a batch, as is the default.
const BATCH: usize = 64 * 1024;

struct Counter {
    course: Arc<Course>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl<T: Cargo> Handler<Delivery<T>> for Counter {
    type Result = Result<(), Failure>;

    fn handle(&mut self, message: Delivery<T>, _: &mut Self::Context) -> Self::Result {
        message.count(&self.course);
        Ok(())
    }
}

/// What is sent.
trait Cargo: Payload {
    /// Message `number`.
    fn make(course: &Course, number: u64) -> Self;

    /// It was handled.
    fn count(&self, course: &Course);
}

impl Cargo for Parcel {
    fn make(course: &Course, number: u64) -> Self {
        course.bodies.parcel(number)
    }

    fn count(&self, course: &Course) {
        course.handled_parcel(self);
    }
}

impl Cargo for Quake {
    fn make(course: &Course, number: u64) -> Self {
        course.bodies.quake(number)
    }

    fn count(&self, course: &Course) {
        course.handled_quake(self);
    }
}

pub(crate) fn run(course: &Arc<Course>) -> Result<(), crate::Failure> {
    if course.terms.records {
        work::<Quake>(course, route(course).gzip(Gzip::auto()))
    } else {
        work::<Parcel>(course, route(course))
    }
}

/// Records in batches as they are.
pub(crate) fn run_uncompressed(course: &Arc<Course>) -> Result<(), crate::Failure> {
    work::<Quake>(course, route(course))
}

/// What is accepted is on the local disk first, in groups.
pub(crate) fn run_journaled(course: &Arc<Course>) -> Result<(), crate::Failure> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::options().flush(Flush::Grouped).open(folder.path().join("compare.journal"))?;
    work::<Parcel>(course, route(course).journal(journal))
}

fn route<T: Cargo>(course: &Course) -> Route<T> {
    let terms = course.terms;
    let route = Route::queue(&course.queue).confirms(Confirms::Window(terms.window)).persistent(terms.durable);
    if terms.batched { route.batch(Batching::default().max_bytes(BATCH)) } else { route }
}

/// Messages whose confirms may be open: as many as the window's batches hold.
fn window(course: &Course) -> usize {
    let each = if course.terms.batched { BATCH / course.bodies.bytes() } else { 1 };
    course.terms.window * each
}

fn work<T: Cargo>(course: &Arc<Course>, route: Route<T>) -> Result<(), crate::Failure> {
    System::new().block_on(async {
        let app = App::new(Broker::new(&course.url)?);
        let out = app.publisher(route);
        let consume = Consume::<T>::queue(&course.queue).prefetch(course.terms.prefetch).retry(Retry::none());
        let counting = Arc::clone(course);
        let service = app.consume(consume, move || Counter { course: Arc::clone(&counting) }).start().await?;
        service.ready().await?;
        let published = publish(course, &out).await;
        course.end();
        service.shutdown().await?;
        published
    })
}

async fn publish<T: Cargo>(course: &Arc<Course>, out: &Publisher<T>) -> Result<(), crate::Failure> {
    let window = window(course);
    for mut lap in course.laps() {
        let mut receipts = VecDeque::new();
        while let Some(burst) = lap.burst(BURST.min(window)).await {
            for number in burst {
                receipts.push_back(out.enqueue(T::make(course, number)).await?);
            }
            while receipts.len() > window
                && let Some(oldest) = receipts.pop_front()
            {
                oldest.confirmed().await?;
                lap.confirmed(1);
            }
        }
        for receipt in receipts {
            receipt.confirmed().await?;
            lap.confirmed(1);
        }
        lap.finish().await?;
    }
    Ok(())
}
