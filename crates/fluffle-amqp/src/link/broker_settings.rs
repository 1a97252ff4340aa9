//! The settings of a broker from a file or the environment.

use std::path::PathBuf;

use crate::{
    base::{
        secret::{Secret, SecretText},
        written::{BackoffWritten, Choice, Span, Whole, Word, or},
    },
    link::{
        broker::Broker,
        endpoint_order::EndpointOrder,
        pool_config::PoolConfig,
        tls::{Tls, TlsError},
        uri::{self, UriError},
    },
};

/// The settings of a [`Broker`] from a file or the environment, by serde: [`Broker::from_settings`].
///
/// | key | value | |
/// |---|---|---|
/// | `url` | text | one AMQP URI, or several separated by commas: [`Broker::new`] |
/// | `user`, `password` | text | in place of those in `url`, so that a file needs no secret |
/// | `endpoint_order` | `"spread"`, `"listed"` | [`Broker::endpoint_order`] |
/// | `tls` | `trust_file`, `certificate_file`, `key_file` | names of PEM files: [`Tls`] |
/// | `name` | text | [`Broker::name`] |
/// | `heartbeat` | 0 s to 65,535 s | [`Broker::heartbeat`] |
/// | `connect_timeout` | 1 ms to 1 h | [`Broker::connect_timeout`] |
/// | `close_timeout` | 0 s to 1 h | [`Broker::close_timeout`] |
/// | `reconnect` | as in [`ConsumeSettings`](crate::ConsumeSettings#backoff) | [`Broker::reconnect`] |
/// | `pool` | the fields of [`PoolConfig`] | [`Broker::pool`] |
///
/// How values are written, and what a key overrides: see [`ConsumeSettings`](crate::ConsumeSettings).
///
/// No `Debug` and no error of Fluffle shows the URL or the password. A wrong URL is therefore refused by
/// [`Broker::from_settings`], and not while the file is read: the error of a file format may quote the line. For the
/// same reason, show `message()` of an error of the crate `toml`, and not the error.
///
/// ```
/// use fluffle_amqp::{Broker, BrokerSettings};
///
/// let settings: BrokerSettings = toml::from_str(r#"
///     url = "amqp://rabbit-1/orders,amqp://rabbit-2/orders"
///     user = "invoices"
///     password = "hunter2"        # better from the environment
///     heartbeat = "15s"
///     pool = { connections = 2 }
/// "#)?;
/// let broker = Broker::from_settings(&settings)?;
/// assert_eq!(broker.endpoints()[1].to_string(), "amqp://invoices@rabbit-2:5672/orders");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with the settings of a broker")]
pub struct BrokerSettings {
    url: Option<SecretText>,
    user: Option<String>,
    password: Option<SecretText>,
    endpoint_order: Option<Word<EndpointOrder>>,
    tls: Option<TlsWritten>,
    name: Option<String>,
    heartbeat: Option<Span<0, 65_535_000>>,
    connect_timeout: Option<Span<1, HOUR>>,
    close_timeout: Option<Span<0, HOUR>>,
    reconnect: Option<BackoffWritten>,
    pool: Option<PoolWritten>,
}

impl Choice for EndpointOrder {
    const WORDS: &'static [(&'static str, Self)] = &[("spread", Self::Spread), ("listed", Self::Listed)];
}

/// In milliseconds.
const HOUR: u64 = 3_600_000;

/// Why the settings of a broker cannot be used. The error never contains a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerSettingsError {
    /// `url`, or the environment variable `AMQP_URL` if `url` is not set, holds no AMQP URI.
    #[error("{of} is {error}")]
    Uri {
        /// Which of the two.
        of: &'static str,
        /// What is wrong with it.
        error: UriError,
    },
    /// A file of `tls` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A value that is no text, or that needs another one.
    #[error("the broker's settings: {0}")]
    Invalid(&'static str),
}

/// Names of PEM files.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with trust_file, certificate_file, key_file")]
struct TlsWritten {
    trust_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl TlsWritten {
    /// `code` with what is written here. Reads the files.
    fn over(&self, code: Tls) -> Result<Tls, BrokerSettingsError> {
        let Self { trust_file, certificate_file, key_file } = self;
        let trusting = match trust_file {
            Some(file) => code.trust_file(file)?,
            None => code,
        };
        match (certificate_file, key_file) {
            (Some(certificate), Some(key)) => Ok(trusting.client_certificate_files(certificate, key)?),
            (None, None) => Ok(trusting),
            _ => Err(BrokerSettingsError::Invalid(
                "`tls.certificate_file` and `tls.key_file` go together: set both, or neither",
            )),
        }
    }
}

/// The fields of [`PoolConfig`].
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table with connections, max_connections, spread, …")]
struct PoolWritten {
    connections: Option<Whole<usize, 1>>,
    max_connections: Option<Whole<usize, 1>>,
    spread: Option<Whole<usize, 1>>,
    channels: Option<Whole<usize, 1>>,
    acquire_timeout: Option<Span>,
    idle_timeout: Option<Span>,
}

impl PoolWritten {
    /// `code` with what is written here.
    fn over(self, code: PoolConfig) -> PoolConfig {
        // Neither side with `..`: a bound without a setting does not compile.
        let Self { connections, max_connections, spread, channels, acquire_timeout, idle_timeout } = self;
        PoolConfig {
            connections: or(connections, code.connections),
            max_connections: or(max_connections, code.max_connections),
            spread: or(spread, code.spread),
            channels: or(channels, code.channels),
            acquire_timeout: or(acquire_timeout, code.acquire_timeout),
            idle_timeout: or(idle_timeout, code.idle_timeout),
        }
    }
}

impl Broker {
    /// A broker with these settings. Without `url` it is the broker of [`from_env`](Self::from_env): the one that
    /// `AMQP_URL` names, or `amqp://guest:guest@localhost:5672/%2f`. Reads the files of `tls`.
    ///
    /// # Errors
    /// If `url`, or `AMQP_URL` without it, holds no AMQP URI; or if a file of `tls` cannot be used.
    pub fn from_settings(settings: &BrokerSettings) -> Result<Self, BrokerSettingsError> {
        match Self::from_settings_if_named(settings)? {
            Some(broker) => Ok(broker),
            None => Self::from_env().map_err(in_environment)?.settings(settings),
        }
    }

    /// A broker with these settings; `None` if neither they nor `AMQP_URL` name one.
    ///
    /// # Errors
    /// As [`from_settings`](Self::from_settings).
    pub fn from_settings_if_named(settings: &BrokerSettings) -> Result<Option<Self>, BrokerSettingsError> {
        let named = match &settings.url {
            Some(url) => Some(Self::new(text(url, NO_URL)?.reveal()).map_err(in_settings)?),
            None => Self::from_env_if_set().map_err(in_environment)?,
        };
        named.map(|broker| broker.settings(settings)).transpose()
    }

    /// Overrides what the settings name, and leaves the rest as the code says. A setter that is called afterwards
    /// overrides the settings.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fluffle_amqp::{Broker, BrokerSettings};
    ///
    /// let settings: BrokerSettings = toml::from_str("heartbeat = '20s'")?;
    /// let broker = Broker::new("amqp://localhost")?.heartbeat(Duration::from_secs(5)).settings(&settings)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_settings`](Self::from_settings).
    pub fn settings(self, settings: &BrokerSettings) -> Result<Self, BrokerSettingsError> {
        // Neither side with `..`: a setting that nothing reads does not compile, nor does a knob without a setting.
        let BrokerSettings {
            url,
            user,
            password,
            endpoint_order,
            tls,
            name,
            heartbeat,
            connect_timeout,
            close_timeout,
            reconnect,
            pool,
        } = settings;
        let mut endpoints = match url {
            Some(url) => uri::list(text(url, NO_URL)?.reveal()).map_err(in_settings)?,
            None => self.endpoints,
        };
        let password = password.as_ref().map(|password| text(password, NO_PASSWORD)).transpose()?;
        if user.as_ref().is_some_and(|user| user.is_empty() || user.contains('\0')) {
            return Err(BrokerSettingsError::Invalid("`user` is empty, or holds a zero byte, which AMQP cannot carry"));
        }
        for endpoint in &mut endpoints {
            user.iter().for_each(|user| endpoint.user.clone_from(user));
            password.iter().for_each(|password| endpoint.password = (*password).clone());
        }
        Ok(Self {
            endpoints,
            endpoint_order: or(*endpoint_order, self.endpoint_order),
            tls: match tls {
                Some(tls) => tls.over(self.tls)?,
                None => self.tls,
            },
            name: name.clone().unwrap_or(self.name),
            heartbeat: or(*heartbeat, self.heartbeat),
            connect_timeout: or(*connect_timeout, self.connect_timeout),
            close_timeout: or(*close_timeout, self.close_timeout),
            reconnect: or(*reconnect, self.reconnect),
            pool: match pool {
                Some(pool) => pool.over(self.pool),
                None => self.pool,
            },
        })
    }
}

const NO_URL: &str = "`url` is no text: put it in quotes";
const NO_PASSWORD: &str = "`password` is no text without zero bytes: put it in quotes";

fn text<'a>(written: &'a SecretText, otherwise: &'static str) -> Result<&'a Secret, BrokerSettingsError> {
    let text = written.0.as_ref().filter(|secret| !secret.reveal().contains('\0'));
    text.ok_or(BrokerSettingsError::Invalid(otherwise))
}

fn in_settings(error: UriError) -> BrokerSettingsError {
    BrokerSettingsError::Uri { of: "the broker's `url`", error }
}

fn in_environment(error: UriError) -> BrokerSettingsError {
    BrokerSettingsError::Uri { of: "the environment variable AMQP_URL", error }
}

#[cfg(test)]
mod tests;
