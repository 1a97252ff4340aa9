//! The faults of a run, and their times, drawn from the seed.

use std::{
    cell::Cell,
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use fastrand::Rng;
use fluffle::{
    Error,
    broker::{Fault, Faults},
    testing::Storm,
};
use futures_util::future::try_join_all;
use tokio::time::{sleep, sleep_until};

use crate::{
    child::{DISKS_FILL, Full, Mortal},
    damage::Damage,
    fact::{Fact, Facts},
    nodes,
    place::Place,
};

/// How often new faults are written to the log.
const LOOK: Duration = Duration::from_millis(20);

/// The average time between two faults.
const GUSTS_EMBEDDED: Duration = Duration::from_millis(120);
const GUSTS_RABBITMQ: Duration = Duration::from_millis(700);

/// Of each of the proxies.
const GUSTS_CLUSTER: Duration = Duration::from_secs(3);

/// The average life of the child. On a cluster it needs time to find a node that is up.
const LIFE: Duration = Duration::from_millis(1_500);
const LIFE_ON_CLUSTER: Duration = Duration::from_secs(8);

/// How long the child's disk has room, and is full, on average.
const ROOMY: Duration = Duration::from_millis(900);
const FULL: Duration = Duration::from_millis(500);

/// Causes faults for this long. When it returns, everything is healed.
///
/// # Errors
/// If a fault cannot be caused, or the child had ended by itself.
pub async fn rage(
    place: &Place,
    children: &mut [Mortal],
    seed: u64,
    lasting: Duration,
    facts: &Facts,
) -> Result<Damage, Error> {
    let (every, life) = match place {
        Place::Embedded(_) => (GUSTS_EMBEDDED, LIFE),
        Place::RabbitMq { .. } => (GUSTS_RABBITMQ, LIFE),
        Place::Cluster { .. } => (GUSTS_CLUSTER, LIFE_ON_CLUSTER),
    };
    let until = Instant::now() + lasting;
    let storms = place.faults().into_iter().enumerate().map(|(way, faults)| {
        let storm = Storm::seeded(seed ^ (way as u64) << 32).lasting(lasting).every(every);
        async move {
            let over = Cell::new(false);
            let storming = async {
                let report = storm.rage(faults).await;
                over.set(true);
                report
            };
            let (report, restarts) = tokio::try_join!(storming, chronicle(faults, facts, &over))?;
            Ok::<_, Error>(Damage { faults: report.fired, restarts, disk_full: 0 })
        }
    });
    // One disk fills up: that of the first.
    let haunted = children.iter_mut().enumerate().map(|(number, child)| async move {
        let random = Rng::with_seed((seed ^ 1) + number as u64);
        haunt(child, random, life, DISKS_FILL && number == 0, until).await.map_err(Error::from)
    });
    let (stormed, haunted, node) = tokio::try_join!(try_join_all(storms), try_join_all(haunted), async {
        match place {
            Place::Embedded(_) => Ok(Damage::default()),
            Place::RabbitMq { node, .. } => nodes::operate(node, Rng::with_seed(seed ^ 2), until, facts).await,
            Place::Cluster { cluster, .. } => {
                nodes::operate_cluster(cluster, Rng::with_seed(seed ^ 2), until, facts).await
            }
        }
    },)?;
    Ok(stormed.into_iter().chain(haunted).chain([node]).fold(Damage::default(), Damage::and))
}

/// Writes every fault of the storm to the log. Returns how often a fault restarted the broker.
async fn chronicle(faults: &Faults, facts: &Facts, over: &Cell<bool>) -> Result<u64, Error> {
    let mut told = 0;
    let mut restarts = HashSet::new();
    loop {
        let last = over.get();
        let mut history = faults.history()?;
        history.retain(|fired| fired.number > told);
        for fired in history {
            told = fired.number;
            if matches!(fired.fault, Fault::Restart { .. } | Fault::Crash { .. }) {
                restarts.insert(fired.id);
            }
            facts.tell(&Fact::Fault(fired.to_string()));
        }
        if last {
            return Ok(restarts.len() as u64);
        }
        sleep(LOOK).await;
    }
}

/// Kills the child again and again, and fills its disk. When it returns, the disk has room.
async fn haunt(child: &mut Mortal, mut random: Rng, life: Duration, fills: bool, until: Instant) -> io::Result<Damage> {
    let mut damage = Damage::default();
    let mut from_now = |mean: Duration| (Instant::now() + mean.mul_f64(0.2 + 1.6 * random.f64()), random.bool());
    let mut kill = from_now(life).0;
    let (mut disk, mut copying) = if fills { from_now(ROOMY) } else { (until, false) };
    loop {
        let next = kill.min(disk);
        if next >= until {
            break;
        }
        sleep_until(next.into()).await;
        if next == kill {
            child.kill()?;
            kill = from_now(life).0;
            damage.faults += 1;
            damage.restarts += 1;
        } else if child.is_full() {
            child.make_room()?;
            (disk, copying) = from_now(ROOMY);
        } else {
            child.fill_disk(if copying { Full::Copying } else { Full::InPlace })?;
            (disk, _) = from_now(FULL);
            damage.faults += 1;
            damage.disk_full += 1;
        }
    }
    sleep_until(until.into()).await;
    if child.is_full() {
        child.make_room()?;
    }
    Ok(damage)
}
