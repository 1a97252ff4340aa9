//! What the death, the restart and the silence of nodes cost a service on a cluster of three.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use fluffle_harness::Cluster;

use crate::{
    load::{Handled, Load, Noting, by_hand},
    shared::{Failure, PATIENCE, blocking},
};

struct Running {
    cluster: Arc<Cluster>,
    service: Service,
    load: Load,
    handled: Handled,
}

async fn cluster() -> Result<Arc<Cluster>, Failure> {
    Ok(Arc::new(blocking(Cluster::start).await?))
}

/// A service that publishes to a quorum queue on three nodes and consumes from it.
async fn running() -> Result<Running, Failure> {
    let (cluster, handled) = (cluster().await?, Handled::default());
    let app = App::new(Broker::new(&cluster.url())?).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q").deadline(PATIENCE));
    let noted = handled.clone();
    let service = app.consume(Consume::queue("q"), move || Noting(noted.clone())).start().await?;
    service.ready().await?;
    let load = Load::begin(out);
    load.more(500).await?;
    Ok(Running { cluster, service, load, handled })
}

impl Running {
    /// Checks that nothing is lost or out of order.
    async fn end(self) -> Result<(), Failure> {
        let published = self.load.end().await?;
        self.handled.complete(published).await?;
        self.service.shutdown().await?;
        Ok(())
    }

    /// The number of the node that a connection of the service is on.
    fn node_of(&self, connection: &str) -> Option<usize> {
        let connections = self.service.status().connections;
        let endpoint = connections.into_iter().find(|one| one.name.starts_with(connection))?.endpoint?;
        self.cluster.urls().iter().position(|url| {
            let port = |url: &str| url.split('/').nth(2).and_then(|host| host.rsplit(':').next()).map(str::to_owned);
            port(url).is_some() && port(url) == port(&endpoint)
        })
    }
}

/// The node that leads the queue and holds the consuming connection is killed. A client by hand on a node that lives
/// shows how long the election itself takes.
pub(crate) async fn leader() -> Result<Vec<(&'static str, Duration)>, Failure> {
    let running = running().await?;
    let victim = running.node_of("consume").ok_or("the consuming connection is nowhere")?;
    let witness_node = (0..3).find(|node| *node != victim && Some(*node) != running.node_of("publish")).unwrap_or(0);
    let (witness, witnessed) = by_hand(&running.cluster.urls()[witness_node], "by.hand").await?;
    witness.more(200).await?;
    let cluster = Arc::clone(&running.cluster);
    blocking(move || {
        cluster.move_leader("/", "q", victim)?;
        cluster.move_leader("/", "by.hand", victim)
    })
    .await?;
    running.load.more(500).await?;
    let (cluster, killed) = (Arc::clone(&running.cluster), Instant::now());
    blocking(move || cluster.node(victim)?.kill()).await?;
    running.load.more(1_000).await?;
    witness.more(200).await?;
    let (pause, election) = (running.handled.longest_pause(killed), witnessed.longest_pause(killed));
    witness.end().await?;
    running.end().await?;
    Ok(vec![
        ("leader killed: longest pause of the service", pause),
        ("leader killed: longest pause of lapin on a node that lives", election),
    ])
}

pub(crate) async fn rolling() -> Result<Vec<(&'static str, Duration)>, Failure> {
    let running = running().await?;
    let (cluster, begun) = (Arc::clone(&running.cluster), Instant::now());
    blocking(move || cluster.restart_one_by_one(|_| ())).await?;
    running.load.more(500).await?;
    let pause = running.handled.longest_pause(begun);
    running.end().await?;
    Ok(vec![("all nodes restarted one by one: longest pause", pause)])
}

/// From the start of a service whose first endpoint is a black hole to its first confirmed message.
pub(crate) async fn black_hole() -> Result<Vec<(&'static str, Duration)>, Failure> {
    let cluster = cluster().await?;
    cluster.proxy(0)?.silence();
    let broker = Broker::new(&cluster.url())?.endpoint_order(EndpointOrder::Listed);
    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let begun = Instant::now();
    let service = app.start().await?;
    out.publish("first".to_owned()).await.map_err(|error| error.to_string())?;
    let took = begun.elapsed();
    service.shutdown().await?;
    Ok(vec![("first endpoint is a black hole: start to first confirm", took)])
}
