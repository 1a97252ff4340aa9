//! Fluffle as its users write it: an `App` with a publisher and a consumer, and a handler actor with a plain result.
//! Unlike the others, it also labels each message with an id, a type and a time, asks the broker to return it if no
//! queue takes it, encodes and decodes Protobuf, and survives failures.

use std::{
    collections::VecDeque,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ::fluffle::{
    amqp::Payload,
    prelude::*,
    telemetry::{Telemetry, text, traces::Traces},
};
use protos::usgs::Quake;

use crate::{body::Parcel, course::Course};

/// How many messages are published together.
pub(crate) const BURST: usize = 50;

/// Bytes of messages in a batch; this is the default.
pub(crate) const BATCH: usize = 64 * 1024;

/// The handler: counts each message.
pub(crate) struct Counter {
    pub(crate) course: Arc<Course>,
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

/// The kind of message that is sent.
pub(crate) trait Cargo: Payload {
    /// Message `number`.
    fn make(course: &Course, number: u64) -> Self;

    /// Counts it as handled.
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

pub(crate) fn run(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    with(course, |app| app)
}

/// With metrics, the looks of the status page at the service, and a reader of `/metrics` each second.
pub(crate) fn run_measured(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    read_each_second(|telemetry| with(course, |app| app.telemetry(telemetry)))
}

/// Does `work` while somebody reads all metrics as text each second.
pub(crate) fn read_each_second(
    work: impl FnOnce(&Telemetry) -> Result<(), crate::failure::Failure>,
) -> Result<(), crate::failure::Failure> {
    let telemetry = Telemetry::new();
    let (over, read) = (AtomicBool::new(false), &telemetry);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                black_box(text::prometheus(&read.read()));
                thread::park_timeout(Duration::from_secs(1));
            }
        });
        let done = work(&telemetry);
        over.store(true, Ordering::SeqCst);
        done
    })
}

/// With spans of one message in a hundred.
pub(crate) fn run_traced(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    let traces = Traces::new().sample(0.01);
    with(course, |app| app.observe(traces.observer()).middleware(traces))
}

fn with(course: &Arc<Course>, more: impl FnOnce(App) -> App) -> Result<(), crate::failure::Failure> {
    if course.terms.records {
        work::<Quake>(course, route(course).gzip(Gzip::auto()), |consume| consume, more)
    } else {
        work::<Parcel>(course, route(course), |consume| consume, more)
    }
}

/// With handlers on the thread where deliveries arrive.
pub(crate) fn run_on_io(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    work::<Parcel>(course, route(course), Consume::on_io, |app| app)
}

/// Records in batches, without gzip.
pub(crate) fn run_uncompressed(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    work::<Quake>(course, route(course), |consume| consume, |app| app)
}

/// With batches that form by themselves, in every scenario.
pub(crate) fn run_adaptive(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    work::<Parcel>(course, route(course).batch(Batching::adaptive().max_bytes(BATCH)), |consume| consume, |app| app)
}

/// Accepted messages are first written to the local disk, in groups.
pub(crate) fn run_journaled(course: &Arc<Course>) -> Result<(), crate::failure::Failure> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::options().flush(Flush::Grouped).open(folder.path().join("compare.journal"))?;
    work::<Parcel>(course, route(course).journal(journal), |consume| consume, |app| app)
}

fn route<T: Cargo>(course: &Course) -> Route<T> {
    let terms = course.terms;
    let route = Route::queue(&course.queue).confirms(Confirms::Window(terms.window)).persistent(terms.durable);
    if terms.batched { route.batch(Batching::default().max_bytes(BATCH)) } else { route }
}

/// How many confirms may be outstanding: as many messages as the window's batches hold.
fn window(course: &Course) -> usize {
    let each = if course.terms.batched { BATCH / course.bodies.bytes() } else { 1 };
    course.terms.window * each
}

fn work<T: Cargo>(
    course: &Arc<Course>,
    route: Route<T>,
    place: impl FnOnce(Consume<T>) -> Consume<T>,
    more: impl FnOnce(App) -> App,
) -> Result<(), crate::failure::Failure> {
    System::new().block_on(async {
        let app = more(App::new(Broker::new(&course.url)?));
        let out = app.publisher(route);
        let consume = Consume::<T>::queue(&course.queue).prefetch(course.terms.prefetch).retry(Retry::none());
        let counting = Arc::clone(course);
        let service = app.consume(place(consume), move || Counter { course: Arc::clone(&counting) }).start().await?;
        service.ready().await?;
        let published = publish(course, &out).await;
        course.end();
        service.shutdown().await?;
        published
    })
}

/// Publishes all messages of the course, and awaits every confirm.
pub(crate) async fn publish<T: Cargo>(course: &Arc<Course>, out: &Publisher<T>) -> Result<(), crate::failure::Failure> {
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
