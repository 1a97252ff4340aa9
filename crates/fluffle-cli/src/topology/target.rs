//! The broker and the virtual host that a command is about, in words that hold no password.

use crate::common::{broker::BrokerArgs, failure::Failure};

pub(crate) struct Target {
    /// The addresses, without user and password.
    pub(crate) broker: String,
    pub(crate) vhost: String,
}

impl Target {
    pub(crate) fn of(args: &BrokerArgs) -> Result<Self, Failure> {
        let broker = args.broker()?;
        let address = |it: &fluffle::amqp::Endpoint| {
            format!("{}://{}:{}", if it.is_tls() { "amqps" } else { "amqp" }, it.host(), it.port())
        };
        let addresses: Vec<_> = broker.endpoints().iter().map(address).collect();
        let vhost = broker.endpoints().first().map_or_else(|| "/".to_owned(), |it| it.vhost().to_owned());
        Ok(Self { broker: addresses.join(","), vhost })
    }
}
