//! What the management API tells about a virtual host.

use rabbitmq_http_client::commons::{PolicyTarget, QueueType};
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

    /// The state of a queue.
    pub(crate) async fn state(&self, queue: &str) -> Result<State, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("the management API does not tell the state of queue {queue:?}: {error}"))
        };
        let info = self.client.get_queue_info(&self.vhost, queue).await.map_err(|error| failed(&error))?;
        // What the API says about the queue itself is as old as its statistics.
        let policies = self.client.list_policies_in(&self.vhost).await.map_err(|error| failed(&error))?;
        let kind = PolicyTarget::from(QueueType::from(info.queue_type.as_str()));
        let matching = policies.into_iter().filter(|it| it.does_match_name(&self.vhost, queue, kind));
        let policy = matching.max_by_key(|it| it.priority).map(|it| Policy {
            name: it.name,
            priority: it.priority.into(),
            definition: it.definition.0.unwrap_or_default(),
        });
        Ok(State { messages: info.message_count, consumers: info.consumer_count.into(), policy })
    }
}
