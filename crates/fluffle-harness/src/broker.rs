//! The broker that `AMQP_URL` names, or else a private one.

use std::{env, fmt};

use crate::{HarnessError, RabbitMq, URL_VAR};

/// A broker for a program that works with any broker.
pub enum Broker {
    /// A broker that runs outside of this program, by its URL.
    External(String),
    /// A private node.
    Private(Box<RabbitMq>),
}

impl Broker {
    /// Uses the broker that `AMQP_URL` names. If the variable is not set, starts a private node.
    ///
    /// An external broker is not contacted here, because a client's own error says better why it cannot be reached.
    ///
    /// # Errors
    ///
    /// [`HarnessError::BadSetting`] if `AMQP_URL` is not an AMQP URI, otherwise the errors of
    /// [`Builder::start`](crate::Builder::start).
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

    /// The URL to connect to. It contains a password, so it must not be logged.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::External(url) => url.clone(),
            Self::Private(rabbit) => rabbit.url(),
        }
    }

    /// The private node, to stop, kill or administer it. `operation` names the intended operation in the error.
    ///
    /// # Errors
    ///
    /// [`HarnessError::NeedsOwnBroker`] if the broker is external.
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
                Err(HarnessError::NeedsOwnBroker { operation, broker: "AMQP_URL names an external one; unset it" })
            }
        }
    }
}

/// The error for an invalid `AMQP_URL`. It does not repeat the value, which may contain a password.
fn no_uri() -> HarnessError {
    HarnessError::BadSetting { name: URL_VAR, why: "it must look like amqp://user:password@host:5672/vhost".into() }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External(url) => {
                // Only the part after the credentials.
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
