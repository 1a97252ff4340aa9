//! The broker that the example breaks: an embedded one, or a private RabbitMQ node.

use std::{sync::Arc, time::Instant};

use fluffle::{
    Error,
    broker::{Fault, Target},
    prelude::Broker,
};
use fluffle_harness::RabbitMq;

#[derive(Clone)]
pub(crate) enum Node {
    Embedded(Arc<fluffle::broker::Broker>),
    RabbitMq(Arc<RabbitMq>),
}

impl Node {
    /// Starts the broker. `AMQP_URL` is ignored, because the example must not break a broker that it does not own.
    pub(crate) fn start(rabbitmq: bool) -> Result<Self, Error> {
        if !rabbitmq {
            let broker = fluffle::broker::Broker::start()?;
            eprintln!(
                "using a broker inside this process, on port {}; --rabbitmq takes a RabbitMQ node",
                broker.port()
            );
            return Ok(Self::Embedded(Arc::new(broker)));
        }
        eprint!("starting a private RabbitMQ … ");
        let began = Instant::now();
        let node = RabbitMq::start().map_err(Error::other)?;
        eprintln!("ready on port {} in {:.1} s", node.port(), began.elapsed().as_secs_f64());
        Ok(Self::RabbitMq(Arc::new(node)))
    }

    pub(crate) fn client(&self) -> Result<Broker, Error> {
        let url = match self {
            Self::Embedded(broker) => broker.url(),
            Self::RabbitMq(node) => node.url(),
        };
        Ok(Broker::new(&url)?)
    }

    /// Closes the connections with this name.
    pub(crate) async fn close(&self, connection: &'static str) -> Result<(), Error> {
        self.order(
            move |broker| {
                let text = "CONNECTION_FORCED - cut for the lesson".to_owned();
                let fault = Fault::CloseConnection { code: 320, text };
                broker.faults().strike(fault, Target::connection(connection)).map(|_| ()).map_err(Error::other)
            },
            move |node| {
                node.close_connections_named(connection, "cut for the lesson").map(|_| ()).map_err(Error::other)
            },
        )
        .await
    }

    pub(crate) async fn stop(&self) -> Result<(), Error> {
        self.order(|broker| Ok(broker.stop()?), |node| node.stop().map_err(Error::other)).await
    }

    pub(crate) async fn start_again(&self) -> Result<(), Error> {
        self.order(|broker| Ok(broker.start_again()?), |node| node.start_again().map_err(Error::other)).await
    }

    /// Runs a command on another thread, because both kinds of broker block, and the flow of messages must go on.
    async fn order(
        &self,
        embedded: impl FnOnce(&fluffle::broker::Broker) -> Result<(), Error> + Send + 'static,
        rabbitmq: impl FnOnce(&RabbitMq) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let node = self.clone();
        let order = move || match node {
            Self::Embedded(broker) => embedded(&broker),
            Self::RabbitMq(node) => rabbitmq(&node),
        };
        tokio::task::spawn_blocking(order).await.map_err(Error::other)?
    }
}
