//! The broker against which a behaviour runs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use fluffle_broker::{Broker, BrokerBuilder};
use fluffle_harness::{RabbitMq, Vhost};
use lapin::{Connection, ConnectionProperties};
use tokio::sync::OnceCell;

use crate::{Chan, Wire, within};

/// A second virtual host of the embedded broker.
const ANOTHER: &str = "another";

/// The kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// RabbitMQ, on the node that all tests share.
    Real,
    /// `fluffle-broker`, a new one for each test.
    Embedded,
}

/// An empty broker, or virtual host, for one test.
pub struct Target {
    url: String,
    vhost: String,
    connection: OnceCell<Connection>,
    home: Home,
}

/// Keeps a broker, or a virtual host in it, running during its test.
enum Home {
    Real(Vhost<'static>),
    RealNode(Box<RabbitMq>),
    Embedded(Arc<Broker>),
}

impl Target {
    /// A virtual host for this test only. Blocks: on RabbitMQ for about 50 ms, and once for its boot.
    ///
    /// # Panics
    ///
    /// If the broker cannot be started.
    pub fn fresh(half: Half) -> Self {
        match half {
            Half::Real => Self::on_rabbitmq(RabbitMq::shared().unwrap()),
            Half::Embedded => Self::embedded(Broker::builder()),
        }
    }

    /// Whether the installed RabbitMQ is a 4.x.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn is_rabbitmq_4() -> bool {
        let version = RabbitMq::shared().unwrap().eval("rabbit_misc:version()").unwrap();
        version.trim_matches('"').starts_with('4')
    }

    fn embedded(builder: BrokerBuilder) -> Self {
        let broker = builder.vhost(ANOTHER).start().unwrap();
        Self::new(broker.url(), "/".to_owned(), Home::Embedded(Arc::new(broker)))
    }

    fn on_rabbitmq(node: &'static RabbitMq) -> Self {
        let vhost = node.fresh_vhost().unwrap();
        Self::new(vhost.url().to_owned(), vhost.name().to_owned(), Home::Real(vhost))
    }

    fn new(url: String, vhost: String, home: Home) -> Self {
        Self { url, vhost, connection: OnceCell::new(), home }
    }

    /// Another virtual host of the same broker. Blocks like [`fresh`](Self::fresh).
    pub fn another_vhost(&self) -> Self {
        match &self.home {
            Home::Real(vhost) => Self::on_rabbitmq(vhost.broker()),
            Home::RealNode(_) => panic!("a broker of one's own has one virtual host"),
            Home::Embedded(broker) => {
                let url = self.url.replace("%2f", ANOTHER);
                Self::new(url, ANOTHER.to_owned(), Home::Embedded(Arc::clone(broker)))
            }
        }
    }

    /// A broker for this test only, which it may restart. Its consumers have one second to acknowledge. Blocks, on
    /// RabbitMQ for about 5 s.
    pub fn of_its_own(&self) -> Self {
        match &self.home {
            Home::Embedded(_) => Self::embedded(Broker::builder().consumer_timeout(Duration::from_secs(1))),
            Home::Real(_) | Home::RealNode(_) => {
                let node = RabbitMq::to_share().config("consumer_timeout = 1000").start().unwrap();
                // `rabbitmq.conf` has no setting for how often a channel checks the age of its deliveries.
                node.eval("application:set_env(rabbit, channel_tick_interval, 200), <<>>").unwrap();
                Self::new(node.url(), "/".to_owned(), Home::RealNode(Box::new(node)))
            }
        }
    }

    /// Stops the broker in order, and starts it again. Only for [`of_its_own`](Self::of_its_own).
    pub fn restart(&mut self) {
        self.connection = OnceCell::new();
        match &self.home {
            Home::Real(_) => panic!("this broker is not ours to restart"),
            Home::RealNode(node) => node.restart().unwrap(),
            Home::Embedded(broker) => {
                broker.stop().unwrap();
                broker.start_again().unwrap();
            }
        }
    }

    /// The URL to connect to, as user `guest`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of the virtual host, as shown in reply texts.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The broker's TCP address.
    pub fn address(&self) -> SocketAddr {
        let (_, place) = self.url().rsplit_once('@').unwrap();
        place.split('/').next().unwrap().parse().unwrap()
    }

    /// Opens a new connection.
    pub async fn connect(&self) -> Connection {
        within("a connection", Connection::connect(self.url(), ConnectionProperties::default())).await.unwrap()
    }

    /// The first connection of the test, opened on first use.
    pub async fn connection(&self) -> &Connection {
        self.connection.get_or_init(|| self.connect()).await
    }

    /// A channel on [`connection`](Self::connection), in confirm mode, so that published messages are in their queues.
    pub async fn channel(&self) -> Chan {
        let channel = self.plain_channel().await;
        channel.confirm_select(Default::default()).await.unwrap();
        channel
    }

    /// A channel on [`connection`](Self::connection) without confirms.
    pub async fn plain_channel(&self) -> Chan {
        Chan::open(self.connection().await).await
    }

    /// A frame-level connection, with channel 1 open.
    pub async fn wire(&self) -> Wire {
        Wire::open(self.address(), self.vhost()).await
    }
}
