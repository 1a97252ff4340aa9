//! What the management API tells about a virtual host.

use serde_json::{Map, Value};

use crate::{
    common::{
        broker::BrokerArgs,
        failure::Failure,
        management::{self, Management},
    },
    topology::{definitions, model::Model},
};

/// The definitions of one virtual host, and the client to ask for more.
pub(crate) struct Told {
    client: Management,
    vhost: String,
    pub(crate) model: Model,
}

/// What is in a queue, and which policy holds for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Ready and unacknowledged, as of the last statistics, which are some seconds old.
    pub(crate) messages: u64,
    pub(crate) consumers: u64,
    pub(crate) policy: Option<Policy>,
}

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) priority: i64,
    pub(crate) definition: Map<String, Value>,
}

impl Told {
    /// Reads the definitions; `None` without `--api`.
    pub(crate) async fn read(args: &BrokerArgs, vhost: &str) -> Result<Option<Self>, Failure> {
        let Some(client) = management::client(args)? else { return Ok(None) };
        let exported = client.export_vhost_definitions(vhost).await;
        let json = exported.map_err(|error| {
            Failure::new(format!(
                "the management API does not give the definitions of the virtual host {vhost:?}: {error}; the user \
                 needs the tag `administrator` and access to the virtual host; without --api, what AMQP tells is used"
            ))
        })?;
        // The API answers for one virtual host, and leaves its name out of the entities.
        let model = definitions::read(&json, None)?;
        Ok(Some(Self { client, vhost: vhost.to_owned(), model }))
    }

    /// The state of a queue; `None` if the API does not know it.
    pub(crate) async fn state(&self, queue: &str) -> Option<State> {
        let info = self.client.get_queue_info(&self.vhost, queue).await.ok()?;
        let policy = match info.policy.filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => self.client.get_policy(&self.vhost, &name).await.ok().map(|policy| Policy {
                name,
                priority: policy.priority.into(),
                definition: policy.definition.0.unwrap_or_default(),
            }),
        };
        Some(State { messages: info.message_count, consumers: info.consumer_count.into(), policy })
    }
}
