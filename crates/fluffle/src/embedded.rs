//! The embedded broker, used if neither settings nor `AMQP_URL` name a broker.

use std::sync::{Mutex, PoisonError};

use fluffle_amqp::{Broker, BrokerSettings};

use crate::error::Error;

/// One broker for the whole process, so that two calls mean the same broker, as they do with `AMQP_URL`.
static IN_THIS_PROCESS: Mutex<Option<fluffle_broker::Broker>> = Mutex::new(None);

/// Adds `Broker::from_env_or_embedded()` and `Broker::from_settings_or_embedded()` to [`Broker`]. The
/// [prelude](crate::prelude) includes this trait.
pub trait Embedded: Sized {
    /// Returns the broker that the environment variable `AMQP_URL` names. If the variable is unset or empty, returns a
    /// broker inside this process. The first call starts that broker, and prints one line with its port to standard
    /// error; later calls share it.
    ///
    /// The embedded broker speaks AMQP 0-9-1 on loopback and behaves like RabbitMQ, but **its messages and queues end
    /// with the process**. Use it for first runs and tests. In production, set the variable, or call
    /// [`Broker::from_env`], which never starts a broker.
    ///
    /// ```
    /// use fluffle::prelude::*;
    ///
    /// let app = App::new(Broker::from_env_or_embedded()?);
    /// # Ok::<(), fluffle::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `AMQP_URL` is set but is not an AMQP URI, or if no port or thread is available.
    fn from_env_or_embedded() -> Result<Self, Error>;

    /// Returns the broker that the settings name, or else the one of `AMQP_URL`, or else the
    /// [one inside this process](Self::from_env_or_embedded), each with the settings.
    ///
    /// ```
    /// use fluffle::prelude::*;
    ///
    /// let settings = BrokerSettings::default();
    /// let app = App::new(Broker::from_settings_or_embedded(&settings)?);
    /// # Ok::<(), fluffle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Broker::from_settings`]; also if the broker inside this process finds no port or thread.
    fn from_settings_or_embedded(settings: &BrokerSettings) -> Result<Self, Error>;
}

impl Embedded for Broker {
    fn from_env_or_embedded() -> Result<Self, Error> {
        match Self::from_env_if_set()? {
            Some(broker) => Ok(broker),
            None => Ok(Self::new(&in_this_process()?)?),
        }
    }

    fn from_settings_or_embedded(settings: &BrokerSettings) -> Result<Self, Error> {
        match Self::from_settings_if_named(settings)? {
            Some(broker) => Ok(broker),
            None => Ok(Self::new(&in_this_process()?)?.settings(settings)?),
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
        "AMQP_URL is not set: using a broker inside this process, on port {}; its messages end with the process",
        broker.port()
    );
    Ok(running.insert(broker).url())
}
