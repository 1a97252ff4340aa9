//! The consumers, their queues and their settings.

use std::{sync::Arc, time::Duration};

use fluffle::prelude::*;

use crate::{
    fact::Facts,
    foreign,
    handlers::{AtOnce, Scripted, Store, Types, Undertaker},
    id::{Lane, READER},
    script::{ATTEMPTS, DELIVERIES, Script},
};

/// The consumers of the surviving process.
///
/// Effectively once is here because its mark is in memory: a process killed between an effect and its mark repeats the
/// effect, unless the application writes both in one transaction.
pub const STEADY_CONSUMERS: [Lane; 2] = [Lane::Once, Lane::Story];

/// The consumers of the killed process.
pub const MORTAL_CONSUMERS: [Lane; 5] = [Lane::Wild, Lane::Order, Lane::Most, Lane::Bulk, Lane::Both];

/// A configuration that detects and repairs faults quickly, so that a short run sees many of them.
///
/// # Errors
/// If the URL is invalid.
pub fn client(url: &str, name: &str) -> Result<Broker, fluffle::Error> {
    let waits = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(300))?;
    let broker = Broker::new(url)?.name(name).reconnect(waits);
    Ok(broker.heartbeat(Duration::from_secs(1)).connect_timeout(Duration::from_secs(2)))
}

/// A queue for each lane. The ordered one has a single active consumer: as long as a broker has not noticed that a
/// connection is dead, it considers messages delivered on it, and would give later ones to a second consumer.
pub fn topology() -> Topology {
    let topology = Topology::new().exchange(Exchange::topic(foreign::EXCHANGE));
    Lane::ALL.into_iter().fold(topology, |topology, lane| {
        if lane == Lane::Story {
            return topology.queue(Queue::stream(lane.queue()));
        }
        let queue = Queue::quorum(lane.queue()).bind(foreign::EXCHANGE, format!("{}.#", lane.queue()));
        topology.queue(match lane {
            Lane::Wild | Lane::Once | Lane::Bulk | Lane::Both => queue.dead_letter(),
            Lane::Order => queue.dead_letter().single_active_consumer(),
            Lane::Most | Lane::Story => queue,
        })
    })
}

/// Adds the consumers of these lanes. During the storm, no message of the ordered lane is a suspect: a consumer that
/// takes one message at a time, and loses its connection again and again, gets them back from a quorum queue in another
/// order. In the poison part there are suspects, and order must hold.
///
/// # Errors
/// None with the settings below.
pub fn consume(
    mut app: App,
    lanes: &[Lane],
    store: &Arc<Store>,
    offsets: &Offsets,
    script: Script,
    facts: &Facts,
    beside_poison: bool,
) -> Result<App, fluffle::Error> {
    let retry = Retry::exponential(ATTEMPTS, Duration::from_millis(20), 2.0)?;
    let crashed = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(100))?;
    for lane in lanes {
        let facts = facts.clone();
        if *lane == Lane::Both {
            let consume = Consume::queue(lane.queue()).prefetch(32).handler_backoff(crashed).instances(2);
            let consume = consume.retry(retry.clone()).delivery_limit(DELIVERIES);
            let consume = if script.handlers_are_on_io(*lane) { consume.on_io() } else { consume };
            app = app.consume_types::<_, Types, _, _>(consume, move || Scripted { script, facts: facts.clone() });
            continue;
        }
        let consume = Consume::queue(lane.queue()).prefetch(32).handler_backoff(crashed);
        let deliveries = if *lane == Lane::Order && !beside_poison { u32::MAX } else { DELIVERIES };
        let consume = consume.retry(retry.clone()).delivery_limit(deliveries);
        let consume = match lane {
            Lane::Wild => consume.instances(2).handler_timeout(Duration::from_secs(1)),
            Lane::Order => consume.concurrency(1),
            Lane::Once => consume.instances(2).effectively_once(store.clone()),
            Lane::Most => consume.guarantee(AtMostOnce),
            Lane::Bulk => consume.prefetch(8),
            Lane::Both => consume,
            Lane::Story => consume.stream(StreamReader::new(READER, offsets.clone()).keep_every(8)),
        };
        let consume = if script.handlers_are_on_io(*lane) { consume.on_io() } else { consume };
        app = match lane {
            Lane::Bulk => app.consume_batches(consume, move || AtOnce { script, facts: facts.clone() }),
            _ => app.consume(consume, move || Scripted { script, facts: facts.clone() }),
        };
    }
    Ok(app)
}

/// Reads the dead letters of every lane that has them.
///
/// # Errors
/// None with the settings below.
pub fn bury(broker: Broker, facts: &Facts) -> App {
    Lane::ALL.into_iter().filter(|lane| lane.loses_nothing()).fold(App::new(broker), |app, lane| {
        let facts = facts.clone();
        let queue = lane.dead_letters();
        if lane == Lane::Both {
            let consume = Consume::queue(queue).retry(Retry::none());
            return app.consume_types::<_, Types, _, _>(consume, move || Undertaker { facts: facts.clone() });
        }
        let consume = Consume::<String>::queue(queue).retry(Retry::none());
        app.consume(consume, move || Undertaker { facts: facts.clone() })
    })
}
