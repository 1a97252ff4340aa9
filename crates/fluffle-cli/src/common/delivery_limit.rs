//! What a look at a quorum queue costs: a delivery, up to a limit. Both depend on the broker's version.

use rabbitmq_http_client::responses::QueueInfo;
use serde::Serialize;
use serde_json::Value;

use crate::common::{
    broker::BrokerArgs,
    failure::Failure,
    probe::{self, Probe},
};

/// The delivery limit that a quorum queue of RabbitMQ 4.0 and later has if nobody sets one. It is assumed where the
/// limit cannot be known.
const DEFAULT: u64 = 20;

/// A version of RabbitMQ; nothing for other brokers, and if the broker does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(Option<(u32, u32)>);

impl Version {
    /// The version that the broker greets with. Costs a connection that ends before the login.
    pub(crate) async fn of(args: &BrokerArgs) -> Result<Self, Failure> {
        for endpoint in args.broker()?.endpoints() {
            let greeted = probe::probe(endpoint, args.connect_within).await;
            if !greeted.properties.is_empty() {
                return Ok(Self::greeted(&greeted));
            }
        }
        Ok(Self(None))
    }

    fn greeted(probe: &Probe) -> Self {
        match (probe.property("product"), probe.property("version")) {
            (Some("RabbitMQ"), Some(version)) => Self::read(version),
            _ => Self(None),
        }
    }

    /// From text such as `4.0.5` or `4.3.0-rc.1`.
    pub(crate) fn read(text: &str) -> Self {
        let mut parts = text.split(['.', '-', '+']).map_while(|part| part.parse().ok());
        Self(parts.next().zip(parts.next()))
    }

    /// Whether a quorum queue counts a look as a delivery: before RabbitMQ 4.3. Taken for granted if it is unknown.
    pub(crate) fn counts_looks(self) -> bool {
        self.0.is_none_or(|version| version < (4, 3))
    }

    /// Whether a quorum queue has a limit that nobody set: from RabbitMQ 4.0 on. Taken for granted if it is unknown.
    fn has_a_default(self) -> bool {
        self.0.is_none_or(|version| version >= (4, 0))
    }
}

/// How often a quorum queue hands a message out before it drops or dead-letters it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DeliveryLimit {
    /// `None`: no limit.
    pub(crate) limit: Option<u64>,
    /// `given` by --delivery-limit; `management`: the management API told it; `default` of the broker's version;
    /// `assumed` otherwise.
    pub(crate) known: &'static str,
}

impl DeliveryLimit {
    /// That of --delivery-limit; 0 is none.
    pub(crate) fn given(limit: u64) -> Self {
        Self { limit: (limit > 0).then_some(limit), known: "given" }
    }

    /// The limit of a queue of which nothing is known: a policy may set one on any version.
    pub(crate) fn assumed() -> Self {
        Self { limit: Some(DEFAULT), known: "assumed" }
    }

    /// The limit of a queue that the management API tells of.
    pub(crate) fn of(queue: &QueueInfo, version: Version) -> Self {
        let policy = queue.effective_policy_definition.as_ref().and_then(|policy| policy.0.as_ref());
        let policy = policy.and_then(|policy| policy.get("delivery-limit"));
        Self::set(queue.queue_type == "quorum", queue.arguments.0.get("x-delivery-limit"), policy, version)
    }

    /// If an argument and a policy set one, the lower one counts. A negative one is none (RabbitMQ 4.0 and later).
    fn set(is_quorum: bool, argument: Option<&Value>, policy: Option<&Value>, version: Version) -> Self {
        let set: Vec<i64> = argument.into_iter().chain(policy).filter_map(Value::as_i64).collect();
        let limit = set.iter().filter_map(|limit| u64::try_from(*limit).ok()).min();
        match limit {
            _ if !is_quorum => Self { limit: None, known: "management" },
            None if set.is_empty() && version.has_a_default() => Self { limit: Some(DEFAULT), known: "default" },
            limit => Self { limit, known: "management" },
        }
    }

    /// Whether one more look at a message that was handed out `count` times may bring it past half of the limit.
    pub(crate) fn forbids(self, count: u64) -> bool {
        self.limit.is_some_and(|limit| count >= limit / 2)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limit(argument: Option<i64>, policy: Option<i64>, version: &str) -> (Option<u64>, &'static str) {
        let (argument, policy) = (argument.map(|limit| json!(limit)), policy.map(|limit| json!(limit)));
        let limit = DeliveryLimit::set(true, argument.as_ref(), policy.as_ref(), Version::read(version));
        (limit.limit, limit.known)
    }

    #[test]
    fn looks_count_before_version_4_3_and_where_the_version_is_odd() {
        for counting in ["3.10.8", "4.0.5", "4.2.9", "", "odd"] {
            assert!(Version::read(counting).counts_looks(), "{counting}");
        }
        for free in ["4.3.0", "4.10.1", "5.0.0-rc.1"] {
            assert!(!Version::read(free).counts_looks(), "{free}");
        }
    }

    #[test]
    fn a_queue_without_a_limit_has_one_of_20_from_version_4_0_on() {
        assert_eq!(limit(None, None, "3.10.8"), (None, "management"));
        assert_eq!(limit(None, None, "4.0.5"), (Some(20), "default"));
        assert_eq!(limit(None, None, "odd"), (Some(20), "default"));
    }

    #[test]
    fn the_lower_limit_counts_and_a_negative_one_is_none() {
        assert_eq!(limit(Some(7), Some(5), "4.0.5"), (Some(5), "management"));
        assert_eq!(limit(Some(-1), None, "4.0.5"), (None, "management"));
        assert_eq!(limit(Some(-1), Some(5), "4.0.5"), (Some(5), "management"));
    }
}
