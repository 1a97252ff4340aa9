//! The management API of the broker, where there is one.

use rabbitmq_http_client::api::{Client, ClientBuilder};

use crate::common::{broker::BrokerArgs, failure::Failure};

/// A client of the management API.
pub(crate) type Management = Client<String, String, String>;

/// The client for `--api`; `None` without it.
pub(crate) fn client(args: &BrokerArgs) -> Result<Option<Management>, Failure> {
    let Some(api) = &args.api else { return Ok(None) };
    let api = url::Url::parse(api).map_err(|error| Failure::new(format!("--api {api}: {error}")))?;
    let amqp = args.url_with_password()?;
    let amqp = url::Url::parse(amqp.split(',').next().unwrap_or_default())?;
    let own = if api.username().is_empty() { &amqp } else { &api };
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = if own.username().is_empty() { "guest".to_owned() } else { decoded(own.username()) };
    let password = own.password().map_or_else(|| "guest".to_owned(), decoded);
    let mut endpoint = api.clone();
    // Fail only for a URL without a host.
    let _ = (endpoint.set_username(""), endpoint.set_password(None));
    let endpoint = format!("{}/api", endpoint.as_str().trim_end_matches('/').trim_end_matches("/api"));
    let client = ClientBuilder::new().with_endpoint(endpoint).with_basic_auth_credentials(user, password).build();
    client.map(Some).map_err(|error| Failure::new(format!("--api: {error}")))
}
