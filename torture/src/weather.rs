//! The faults of a run, and their times, drawn from the seed.

use std::{
    cell::Cell,
    collections::HashSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use fluffle::{
    Error,
    broker::{Fault, Faults},
    testing::Storm,
};
use fluffle_harness::{HarnessError, RabbitMq};
use tokio::time::{sleep, sleep_until};

use crate::{
    child::{DISKS_FILL, Full, Mortal},
    fact::{Fact, Facts},
    place::Place,
};

/// How often new faults are written to the log.
const LOOK: Duration = Duration::from_millis(20);

/// The average time between two faults.
const GUSTS_EMBEDDED: Duration = Duration::from_millis(120);
const GUSTS_RABBITMQ: Duration = Duration::from_millis(700);

/// The average life of the child.
const LIFE: Duration = Duration::from_millis(1_500);

/// How long the child's disk has room, and is full, on average.
const ROOMY: Duration = Duration::from_millis(900);
const FULL: Duration = Duration::from_millis(500);

/// The average time between two faults of a node, not counting its boot.
const NODE: Duration = Duration::from_secs(3);

/// The faults of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The number of faults, restarts included.
    pub faults: u64,
    /// How often the broker or the child was killed or restarted.
    pub restarts: u64,
    /// How often the disk with the child's journals was full for a while. These count as faults, too.
    pub disk_full: u64,
}

/// Causes faults for this long. When it returns, everything is healed.
///
/// # Errors
/// If a fault cannot be caused, or the child had ended by itself.
pub async fn rage(
    place: &Place,
    child: &mut Mortal,
    seed: u64,
    lasting: Duration,
    facts: &Facts,
) -> Result<Damage, Error> {
    let every = match place {
        Place::Embedded(_) => GUSTS_EMBEDDED,
        Place::RabbitMq { .. } => GUSTS_RABBITMQ,
    };
    let storm = Storm::seeded(seed).lasting(lasting).every(every);
    let over = Cell::new(false);
    let storming = async {
        let report = storm.rage(place.faults()).await;
        over.set(true);
        report
    };
    let until = Instant::now() + lasting;
    let (report, broker_restarts, haunted, node) = tokio::try_join!(
        storming,
        chronicle(place.faults(), facts, &over),
        async { haunt(child, Rng::with_seed(seed ^ 1), until).await.map_err(Error::from) },
        async {
            match place {
                Place::Embedded(_) => Ok(Damage::default()),
                Place::RabbitMq { node, .. } => {
                    operate(node, Rng::with_seed(seed ^ 2), until, facts).await.map_err(Error::other)
                }
            }
        },
    )?;
    Ok(Damage {
        faults: report.fired + haunted.faults + node.faults,
        restarts: broker_restarts + haunted.restarts + node.restarts,
        disk_full: haunted.disk_full,
    })
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
async fn haunt(child: &mut Mortal, mut random: Rng, until: Instant) -> io::Result<Damage> {
    let mut damage = Damage::default();
    let mut from_now = |mean: Duration| (Instant::now() + mean.mul_f64(0.2 + 1.6 * random.f64()), random.bool());
    let mut kill = from_now(LIFE).0;
    let (mut disk, mut copying) = if DISKS_FILL { from_now(ROOMY) } else { (until, false) };
    loop {
        let next = kill.min(disk);
        if next >= until {
            break;
        }
        sleep_until(next.into()).await;
        if next == kill {
            child.kill()?;
            kill = from_now(LIFE).0;
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

/// What an operator or a power failure does to a node. No queue is deleted: if a quorum queue is declared again and its
/// node is killed then, RabbitMQ 3.10 may know the queue without finding it, and closes every connection that consumes
/// from it (541).
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// SIGKILL, and a boot on the same data.
    Kill,
    /// An orderly stop, and a boot.
    Restart,
    /// The memory alarm, for a second.
    Block,
    /// All connections closed with 320.
    CloseConnections,
}

impl Deed {
    fn draw(random: &mut Rng) -> Self {
        match random.u8(0..10) {
            0..3 => Self::Kill,
            3..4 => Self::Restart,
            4..6 => Self::Block,
            _ => Self::CloseConnections,
        }
    }

    /// Carries out the fault, and blocks until it is done. A busy node may refuse some of these commands, which is then
    /// another fault, or none.
    fn do_to(self, node: &RabbitMq) -> Result<(), HarnessError> {
        match self {
            Self::Kill => node.kill().and_then(|()| node.start_again()),
            Self::Restart => {
                // A node that does not stop in time is killed.
                let _ = node.stop();
                node.start_again()
            }
            Self::Block => {
                let _ = node.block_publishers();
                std::thread::sleep(Duration::from_secs(1));
                node.unblock_publishers()
            }
            Self::CloseConnections => {
                let _ = node.close_all_connections("by the torture");
                Ok(())
            }
        }
    }
}

async fn operate(node: &Arc<RabbitMq>, mut random: Rng, until: Instant, facts: &Facts) -> Result<Damage, Error> {
    let mut damage = Damage::default();
    loop {
        let next = Instant::now() + NODE.mul_f64(2.0 * random.f64());
        if next >= until {
            return Ok(damage);
        }
        sleep_until(next.into()).await;
        let (deed, node) = (Deed::draw(&mut random), Arc::clone(node));
        facts.tell(&Fact::Fault(format!("{deed:?} of the node")));
        let done = tokio::task::spawn_blocking(move || deed.do_to(&node)).await;
        done.map_err(Error::other)?.map_err(Error::other)?;
        facts.tell(&Fact::Fault(format!("{deed:?} of the node is over")));
        damage.faults += 1;
        damage.restarts += u64::from(matches!(deed, Deed::Kill | Deed::Restart));
    }
}
