//! The broker inside this process, for when `AMQP_URL` names none.

use std::sync::{Mutex, PoisonError};

use fluffle_amqp::Broker;

use crate::error::Error;

/// One for the process: who asks twice means the same broker, as with `AMQP_URL`.
static IN_THIS_PROCESS: Mutex<Option<fluffle_broker::Broker>> = Mutex::new(None);

/// A [`Broker`] inside this process. In the [prelude](crate::prelude), so that `Broker::from_env_or_embedded()` can be
/// written.
pub trait Embedded: Sized {
    /// The broker that the environment variable `AMQP_URL` names; when that is unset or empty, a broker inside this
    /// process, started by the first call and shared by all. A line on standard error says so, and on which port.
    ///
    /// The one inside speaks AMQP 0-9-1 on loopback and behaves as RabbitMQ does, but **what it holds ends with the
    /// process**: it is for first runs and tests. In production the variable is set, or the code says
    /// [`Broker::from_env`], which knows no other broker.
    ///
    /// ```
    /// use fluffle::prelude::*;
    ///
    /// let app = App::new(Broker::from_env_or_embedded()?);
    /// # Ok::<(), fluffle::Error>(())
    /// ```
    ///
    /// # Errors
    /// When `AMQP_URL` is set but is not an AMQP URI, or no port or thread can be had.
    fn from_env_or_embedded() -> Result<Self, Error>;
}

impl Embedded for Broker {
    fn from_env_or_embedded() -> Result<Self, Error> {
        match Self::from_env_if_set()? {
            Some(broker) => Ok(broker),
            None => Ok(Self::new(&in_this_process()?)?),
        }
    }
}

fn in_this_process() -> Result<String, Error> {
    let mut running = IN_THIS_PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = &*running {
        return Ok(broker.url());
    }
    let broker = fluffle_broker::Broker::start()?;
    eprintln!(
        "AMQP_URL is not set: using a broker inside this process, on port {}; what it holds ends with the process",
        broker.port()
    );
    Ok(running.insert(broker).url())
}
