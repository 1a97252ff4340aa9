//! Which broker a subcommand works on.

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use fluffle::prelude::{Broker, Tls};

use crate::{common::failure::Failure, units};

/// The broker, and how to reach it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Broker")]
pub(crate) struct BrokerArgs {
    /// The broker, amqp://user@host/vhost or amqps://…; several, separated by commas, are one cluster
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true)]
    pub(crate) url: String,
    /// A file with the password, which is then not needed in the URL
    #[arg(long, value_name = "FILE", env = "AMQP_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The management API, http://host:15672, with the user and password of --url unless it has its own
    #[arg(long, value_name = "URL", env = "RABBITMQ_API", hide_env_values = true)]
    pub(crate) api: Option<String>,
    /// A file with the certificates of authorities to trust, in PEM, besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// How long to wait for the broker's answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::some_time)]
    pub(crate) connect_within: Duration,
}

impl BrokerArgs {
    /// The broker, as the library takes it.
    pub(crate) fn broker(&self) -> Result<Broker, Failure> {
        let broker = Broker::new(&self.url_with_password()?)?.connect_timeout(self.connect_within);
        Ok(match &self.ca {
            Some(ca) => broker.tls(Tls::new().trust_file(ca)?),
            None => broker,
        })
    }

    /// The URL, with the password from the file, if one is given.
    pub(crate) fn url_with_password(&self) -> Result<String, Failure> {
        let Some(file) = &self.password_file else { return Ok(self.url.clone()) };
        let read = fs::read_to_string(file);
        let password = read.map_err(|error| Failure::new(format!("--password-file {}: {error}", file.display())))?;
        let with = |url: &str| {
            let mut url = url::Url::parse(url)?;
            // Fails only for a URL without a host, which the library refuses with a reason.
            let _ = url.set_password(Some(password.trim_end_matches(['\r', '\n'])));
            Ok::<_, Failure>(url.to_string())
        };
        Ok(self.url.split(',').map(with).collect::<Result<Vec<_>, _>>()?.join(","))
    }
}
