//! Fluffle as its users have it: an `App` with a publisher and a consumer, and a handler actor with a plain result. On top of
//! what the others do it labels each message with an id, a type and a time, has it returned when no queue takes it, encodes and
//! decodes Protobuf, and survives what breaks.

use std::{collections::VecDeque, sync::Arc};

use ::fluffle::prelude::*;

use crate::{body::Parcel, course::Course};

/// Messages handed over together.
const BURST: usize = 50;

struct Counter {
    course: Arc<Course>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<Parcel>> for Counter {
    type Result = Result<(), Failure>;

    fn handle(&mut self, parcel: Delivery<Parcel>, _: &mut Self::Context) -> Self::Result {
        self.course.handled_parcel(&parcel);
        Ok(())
    }
}

pub(crate) fn run(course: &Arc<Course>) -> Result<(), crate::Failure> {
    work(course, route(course))
}

/// What is accepted is on the local disk first, in groups.
pub(crate) fn run_journaled(course: &Arc<Course>) -> Result<(), crate::Failure> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::options().flush(Flush::Grouped).open(folder.path().join("compare.journal"))?;
    work(course, route(course).journal(journal))
}

fn route(course: &Course) -> Route<Parcel> {
    let terms = course.terms;
    Route::queue(&course.queue).confirms(Confirms::Window(terms.window)).persistent(terms.durable)
}

fn work(course: &Arc<Course>, route: Route<Parcel>) -> Result<(), crate::Failure> {
    System::new().block_on(async {
        let app = App::new(Broker::new(&course.url)?);
        let out = app.publisher(route);
        let consume = Consume::queue(&course.queue).prefetch(course.terms.prefetch).retry(Retry::none());
        let counting = Arc::clone(course);
        let service = app.consume(consume, move || Counter { course: Arc::clone(&counting) }).start().await?;
        service.ready().await?;
        let published = publish(course, &out).await;
        course.end();
        service.shutdown().await?;
        published
    })
}

async fn publish(course: &Arc<Course>, out: &Publisher<Parcel>) -> Result<(), crate::Failure> {
    for mut lap in course.laps() {
        let mut receipts = VecDeque::new();
        while let Some(burst) = lap.burst(BURST.min(course.terms.window)).await {
            for number in burst {
                receipts.push_back(out.enqueue(course.bodies.parcel(number)).await?);
            }
            while receipts.len() > course.terms.window
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
