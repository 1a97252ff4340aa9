//! One way, as a service of Fluffle runs it.

use std::{path::Path, sync::Arc, time::Duration};

use ::fluffle::{
    amqp::{Prepared, SeenStore},
    prelude::*,
    telemetry::traces::Traces,
};
use fluffle_outbox::{Relay, Waker, seen};

use crate::{
    body::Parcel,
    contestants::fluffle::{self, BATCH, BURST, Counter},
    course::Course,
    prices::{
        database::Database,
        way::{Handles, KEYS, Parcels, SHARED, Sends, Telemetry, Way},
    },
};

type Done = Result<(), crate::failure::Failure>;

/// The pause between two looks at whether the outbox still has messages.
const LOOK: Duration = Duration::from_millis(2);

/// Handles each message in a transaction that records its id.
struct InTransaction {
    course: Arc<Course>,
    database: Database,
}

impl Actor for InTransaction {
    type Context = Context<Self>;
}

impl Handler<Delivery<Parcel>> for InTransaction {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, message: Delivery<Parcel>, _: &mut Self::Context) -> Self::Result {
        let (course, database) = (Arc::clone(&self.course), self.database.clone());
        Box::pin(async move {
            let id = seen::key(&message).ok_or_else(|| Failure::reject("it has no message id"))?;
            if database.is_new(&id).await? {
                course.handled_parcel(&message);
            }
            Ok(())
        })
    }
}

/// Runs the course to its end, blocking. `postgres` is the URL of a server, if there is one.
pub(super) fn run(way: &Way, postgres: Option<&str>, course: &Arc<Course>) -> Done {
    match way.telemetry {
        Telemetry::Off => work(way, postgres, course, |app| app),
        Telemetry::Metrics => {
            fluffle::read_each_second(|telemetry| work(way, postgres, course, |app| app.telemetry(telemetry)))
        }
        Telemetry::Traces => {
            let traces = Traces::new().sample(0.01);
            work(way, postgres, course, |app| app.observe(traces.observer()).middleware(traces))
        }
    }
}

fn work(way: &Way, postgres: Option<&str>, course: &Arc<Course>, more: impl FnOnce(App) -> App) -> Done {
    let folder = tempfile::tempdir()?;
    System::new().block_on(async {
        let app = more(App::new(Broker::new(&course.url)?));
        match way.sends {
            Sends::With(confirms) => {
                let out = app.publisher(route(way, course).confirms(confirms));
                directly(way, postgres, folder.path(), course, app, out).await
            }
            Sends::Journaled(flush) => {
                let journal = Journal::options().flush(flush).open(folder.path().join("prices.journal"))?;
                let route = route(way, course).confirms(Confirms::Window(way.window())).journal(journal);
                let out = app.publisher(route);
                directly(way, postgres, folder.path(), course, app, out).await
            }
            Sends::ByOutbox(sql) => {
                let database = Database::open(sql, folder.path(), postgres).await?;
                let relay = Relay::new(database.table(), app.forwarder("outbox"));
                let (route, waker) = (route(way, course), relay.waker());
                let service = started(way, postgres, folder.path(), course, app.supervise(relay)).await?;
                let published = by_outbox(course, &database, &route, &waker).await;
                course.end();
                service.shutdown().await?;
                database.close().await;
                published
            }
        }
    })
}

async fn directly(
    way: &Way,
    postgres: Option<&str>,
    folder: &Path,
    course: &Arc<Course>,
    app: App,
    out: Publisher<Parcel>,
) -> Done {
    let service = started(way, postgres, folder, course, app).await?;
    let published = fluffle::publish(course, &out).await;
    course.end();
    service.shutdown().await?;
    published
}

fn route(way: &Way, course: &Course) -> Route<Parcel> {
    let mut route = Route::queue(&course.queue).persistent(way.persistent).lanes(way.lanes);
    if way.gzip {
        route = route.gzip(Gzip::on());
    }
    match way.parcels {
        Parcels::Singles => route,
        Parcels::Batches => route.batch(Batching::default().max_bytes(BATCH)),
        Parcels::Adaptive => route.batch(Batching::adaptive().max_bytes(BATCH)),
    }
}

/// The consumer, consuming.
async fn started(
    way: &Way,
    postgres: Option<&str>,
    folder: &Path,
    course: &Arc<Course>,
    app: App,
) -> Result<Service, crate::failure::Failure> {
    let consume = Consume::<Parcel>::queue(&course.queue).prefetch(way.window() as u16).retry(Retry::none());
    let consume = if way.ordered {
        consume.ordered_by(|parcel| parcel.number % KEYS).instances(SHARED)
    } else {
        consume.instances(way.lanes)
    };
    let once = |consume: Consume<Parcel>, ids: SeenIds| consume.effectively_once(Arc::new(ids) as Arc<dyn SeenStore>);
    let counting = Arc::clone(course);
    let counter = move || Counter { course: Arc::clone(&counting) };
    let app = match way.handles {
        Handles::AtLeastOnce => app.consume(consume, counter),
        Handles::AtMostOnce => app.consume(consume.guarantee(AtMostOnce), counter),
        Handles::OnceInMemory => app.consume(once(consume, SeenIds::options().in_memory()?), counter),
        Handles::OnceOnDisk => {
            app.consume(once(consume, SeenIds::options().open(folder.join("prices.seen"))?), counter)
        }
        Handles::OnceInSql(sql) => {
            let (course, database) = (Arc::clone(course), Database::open(sql, folder, postgres).await?);
            let consume = consume.concurrency(database.transactions());
            app.consume(consume, move || InTransaction { course: Arc::clone(&course), database: database.clone() })
        }
    };
    let service = app.start().await?;
    service.ready().await?;
    Ok(service)
}

/// Writes a burst in each transaction. A message counts as confirmed when the relay has taken it out of the outbox.
async fn by_outbox(course: &Arc<Course>, database: &Database, route: &Route<Parcel>, waker: &Waker) -> Done {
    for mut lap in course.laps() {
        let mut written = 0;
        while let Some(burst) = lap.burst(BURST).await {
            let prepare = |number| route.prepare(&course.bodies.parcel(number), &MessageOptions::new());
            let messages = burst.map(prepare).collect::<Result<Vec<Prepared>, _>>()?;
            database.enqueue(&messages).await?;
            waker.wake();
            written += messages.len() as u64;
        }
        while database.is_waiting().await? {
            tokio::time::sleep(LOOK).await;
        }
        lap.confirmed(written);
        lap.finish().await?;
    }
    Ok(())
}
