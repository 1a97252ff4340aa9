//! Asks the management API.
//!
//! By hand and not by `rabbitmq_http_client`: its types lack most of what is asked for here (file descriptors and
//! memory in use, free disk space, publishes of a channel, the time of a queue's oldest message), they demand fields
//! that RabbitMQ 3.10 does not send, and the client has no way to the JSON itself.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    common::{failure::Failure, management::Access},
    doctor::{json::Object, snapshot::Snapshot},
};

/// How long one answer may take. A broker with 100,000 queues needs several seconds for a page of them.
const LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// The entities of a page; 500 is the API's limit.
const PAGE: u32 = 500;
/// The most pages: 100,000 entities.
const MOST_PAGES: u32 = 200;

/// Why the API gave no answer.
pub(crate) enum Refusal {
    /// The user may not ask this.
    NotAllowed(String),
    /// This version of RabbitMQ has no such question, or there is no such entity.
    NotFound,
    /// No answer, or one that is not RabbitMQ's.
    Failed(String),
}

impl Refusal {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::NotAllowed(why) | Self::Failed(why) => why.clone(),
            Self::NotFound => "404 Not Found".to_owned(),
        }
    }
}

/// The management API of one broker.
pub(crate) struct Api {
    client: reqwest::Client,
    access: Access,
}

impl Api {
    pub(crate) fn new(access: Access) -> Result<Self, Failure> {
        // Without redirects, which would take the password elsewhere.
        let builder = reqwest::Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none());
        Ok(Self { client: builder.build()?, access })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Object, Refusal> {
        let url = format!("{}/{path}", self.access.endpoint);
        let failed = |error: reqwest::Error| Refusal::Failed(chain(&error));
        let request = self.client.get(&url).basic_auth(&self.access.user, Some(&self.access.password));
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(Refusal::Failed(format!("{path}: the answer has more than {MOST_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let json = serde_json::from_slice::<Value>(&body);
        let reason = || match &json {
            Ok(json) => json.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned(),
            Err(_) => String::new(),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Refusal::NotAllowed(format!("{status} for user {}: {}", self.access.user, reason())))
            }
            StatusCode::NOT_FOUND => Err(Refusal::NotFound),
            status if status.is_success() => match json {
                Ok(json) => Ok(Object::new(json)),
                Err(error) => Err(Refusal::Failed(format!("{path}: the answer is not JSON: {error}"))),
            },
            status => Err(Refusal::Failed(format!("{path}: {status} {}", reason()))),
        }
    }

    /// All pages of a list.
    async fn pages(&self, path: &str) -> Result<Vec<Object>, Refusal> {
        self.pages_with(path, "").await
    }

    /// As [`pages`](Self::pages), with more of a query: `&key=value`.
    async fn pages_with(&self, path: &str, query: &str) -> Result<Vec<Object>, Refusal> {
        let mut all = Vec::new();
        for page in 1..=MOST_PAGES {
            let answer = self.get(&format!("{path}?page={page}&page_size={PAGE}&pagination=true{query}")).await?;
            if answer.length("items").is_none() {
                // This list has no pages.
                return Ok(answer.into_list());
            }
            all.extend(answer.list("items"));
            if u64::from(page) >= answer.number("page_count").unwrap_or(0) {
                break;
            }
        }
        Ok(all)
    }

    /// All queues of the vhost, with the parts that `query` names.
    pub(crate) async fn queues(&self, vhost: &str, query: &str) -> Result<Vec<Object>, Refusal> {
        self.pages_with(&format!("queues/{}", utf8_percent_encode(vhost, NON_ALPHANUMERIC)), query).await
    }

    async fn list(&self, path: &str) -> Result<Vec<Object>, Refusal> {
        self.get(path).await.map(Object::into_list)
    }

    /// Asks for everything that the rules look at. `denied` receives what this user may not ask.
    ///
    /// # Errors
    /// If the API cannot be reached, or does not let this user in.
    pub(crate) async fn snapshot(
        &self,
        vhost: &str,
        mut denied: impl FnMut(&str, &Refusal),
    ) -> Result<Snapshot, Refusal> {
        let overview = self.get("overview").await?;
        let name = utf8_percent_encode(vhost, NON_ALPHANUMERIC);
        let mut snapshot = Snapshot { vhost: vhost.to_owned(), overview, ..Snapshot::default() };
        let tags = self.get("whoami").await.map(|user| user.texts("tags")).unwrap_or_default();
        if !tags.iter().any(|tag| ["monitoring", "administrator"].contains(&tag.as_str())) {
            // The API answers, and leaves out what belongs to others.
            let why = Refusal::NotAllowed(format!("the user has the tags [{}]", tags.join(", ")));
            denied("connections, channels and consumers of other users", &why);
        }
        match self.get(&format!("vhosts/{name}")).await {
            Ok(about) => snapshot.about_vhost = about,
            Err(why) => denied("the vhost's default queue type", &why),
        }
        let queues = self.pages(&format!("queues/{name}")).await;
        let exchanges = self.list(&format!("exchanges/{name}")).await;
        let bindings = self.list(&format!("bindings/{name}")).await;
        let consumers = self.list(&format!("consumers/{name}")).await;
        let channels = self.pages(&format!("vhosts/{name}/channels")).await;
        let connections = self.pages(&format!("vhosts/{name}/connections")).await;
        let policies = self.list(&format!("policies/{name}")).await;
        let nodes = self.list("nodes").await;
        let flags = self.list("feature-flags").await;
        let deprecated = self.list("deprecated-features/used").await;
        for (what, asked, place) in [
            ("queues", queues, &mut snapshot.queues),
            ("exchanges", exchanges, &mut snapshot.exchanges),
            ("bindings, and so which dead letters have a way", bindings, &mut snapshot.bindings),
            ("consumers and their prefetch", consumers, &mut snapshot.consumers),
            ("channels: confirms, and unacked messages", channels, &mut snapshot.channels),
            ("connections", connections, &mut snapshot.connections),
            ("policies", policies, &mut snapshot.policies),
            ("nodes: alarms, memory, disk and file descriptors", nodes, &mut snapshot.nodes),
            ("feature flags", flags, &mut snapshot.feature_flags),
            ("deprecated features in use", deprecated, &mut snapshot.deprecated),
        ] {
            match asked {
                Ok(list) => *place = list,
                // Asked of a RabbitMQ that is too old to have it.
                Err(Refusal::NotFound) => {}
                Err(why) => denied(what, &why),
            }
        }
        Ok(snapshot)
    }
}

/// An error of the HTTP client with its causes, which alone say what happened.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
