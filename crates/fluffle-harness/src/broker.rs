//! Whatever broker there is: the one `AMQP_URL` names, or a private one.

use std::{env, fmt};

use crate::{HarnessError, RabbitMq, URL_VAR};

/// A broker for a program that can use any.
pub enum Broker {
    /// A broker somebody else runs, by its URL.
    External(String),
    /// A node of our own.
    Private(Box<RabbitMq>),
}

impl Broker {
    /// Uses the broker that `AMQP_URL` names; without it, starts a private node.
    ///
    /// The external broker is not contacted here: a client says better than we could why it cannot reach one.
    ///
    /// # Errors
    ///
    /// [`HarnessError::BadSetting`] when `AMQP_URL` is no AMQP URI, else as [`Builder::start`](crate::Builder::start).
    pub fn from_env_or_private() -> Result<Self, HarnessError> {
        match env::var(URL_VAR) {
            Ok(url) if !url.is_empty() => Self::external(url),
            Err(env::VarError::NotUnicode(_)) => Err(no_uri()),
            _ => RabbitMq::start().map(|rabbit| Self::Private(Box::new(rabbit))),
        }
    }

    fn external(url: String) -> Result<Self, HarnessError> {
        if url.starts_with("amqp://") || url.starts_with("amqps://") { Ok(Self::External(url)) } else { Err(no_uri()) }
    }

    /// The URL to connect to. It holds a password: not for logs.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::External(url) => url.clone(),
            Self::Private(rabbit) => rabbit.url(),
        }
    }

    /// The node, for those who want to stop, kill or administer it; `operation` names that wish in the error.
    ///
    /// # Errors
    ///
    /// [`HarnessError::NeedsOwnBroker`] when the broker is somebody else's.
    ///
    /// ```no_run
    /// # let broker = fluffle_harness::Broker::from_env_or_private()?;
    /// broker.private("cutting every connection")?.close_all_connections("a bad day")?;
    /// # Ok::<(), fluffle_harness::HarnessError>(())
    /// ```
    pub fn private(&self, operation: &'static str) -> Result<&RabbitMq, HarnessError> {
        match self {
            Self::Private(rabbit) => Ok(rabbit),
            Self::External(_) => {
                Err(HarnessError::NeedsOwnBroker { operation, broker: "AMQP_URL names somebody else's; unset it" })
            }
        }
    }
}

/// The value is not repeated: it may hold a password.
fn no_uri() -> HarnessError {
    HarnessError::BadSetting { name: URL_VAR, why: "it must look like amqp://user:password@host:5672/vhost".into() }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External(url) => {
                // Only what follows the credentials.
                let place = url.rsplit_once('@').map_or(url.as_str(), |(_, place)| place);
                f.debug_tuple("External").field(&place).finish()
            }
            Self::Private(rabbit) => f.debug_tuple("Private").field(rabbit.as_ref()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_another_scheme_is_refused_without_repeating_it() {
        let error = Broker::external("http://me:secret@host".into()).unwrap_err();
        assert!(matches!(error, HarnessError::BadSetting { name: "AMQP_URL", .. }));
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn debug_shows_no_password() {
        let broker = Broker::external("amqp://me:se@cret@host/v".into()).unwrap();
        assert_eq!(format!("{broker:?}"), "External(\"host/v\")");
    }

    #[test]
    fn an_external_broker_is_not_ours_to_kill() {
        let broker = Broker::external("amqp://host".into()).unwrap();
        let refused = broker.private("kill").unwrap_err();
        assert!(matches!(refused, HarnessError::NeedsOwnBroker { operation: "kill", .. }));
    }
}
