//! The management API of the broker, where there is one.

use rabbitmq_http_client::api::{Client, ClientBuilder};

use crate::common::{broker::BrokerArgs, failure::Failure};

/// A client of the management API.
pub(crate) type Management = Client<String, String, String>;

/// Where the management API is, and how to log in.
pub(crate) struct Access {
    /// The URL, to `/api`, without user and password.
    pub(crate) endpoint: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// The client for `--api`; `None` without it.
pub(crate) fn client(args: &BrokerArgs) -> Result<Option<Management>, Failure> {
    let Some(access) = access(args)? else { return Ok(None) };
    let builder = ClientBuilder::new().with_endpoint(access.endpoint);
    let client = builder.with_basic_auth_credentials(access.user, access.password).build();
    client.map(Some).map_err(|error| Failure::new(format!("--api: {error}")))
}

/// The way to the API of `--api`; `None` without it.
pub(crate) fn access(args: &BrokerArgs) -> Result<Option<Access>, Failure> {
    let Some(api) = &args.api else { return Ok(None) };
    // Without the URL, which may hold a password.
    let api = url::Url::parse(api).map_err(|error| Failure::new(format!("--api is not a URL: {error}")))?;
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
    Ok(Some(Access { endpoint, user, password }))
}
