//! The fields of RabbitMQ's operators that the manifests use, written by hand because no package has their schemas.
//! Others are refused, also those that the operators know: add them here when a manifest needs them.
//!
//! Source: `config/crd/bases` of <https://github.com/rabbitmq/messaging-topology-operator> (at commit 15dd9a5a for
//! queues and bindings, 07f10cbf for exchanges, users and permissions, 02ac82fa for policies), and
//! <https://www.rabbitmq.com/kubernetes/operator/using-operator> for `RabbitmqCluster`.

#![allow(dead_code, reason = "the fields are there to be checked")]

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, ResourceRequirements};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Exchange {
    name: String,
    vhost: Option<String>,
    r#type: Option<ExchangeType>,
    durable: Option<bool>,
    auto_delete: Option<bool>,
    arguments: Option<Map<String, Value>>,
    rabbitmq_cluster_reference: Reference,
}

/// The operator takes any text; these are the types that a broker has, and the one of the plugin in the manifest.
#[derive(Deserialize)]
enum ExchangeType {
    #[serde(rename = "direct")]
    Direct,
    #[serde(rename = "fanout")]
    Fanout,
    #[serde(rename = "topic")]
    Topic,
    #[serde(rename = "headers")]
    Headers,
    #[serde(rename = "x-consistent-hash")]
    ConsistentHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Queue {
    name: String,
    vhost: Option<String>,
    r#type: Option<QueueType>,
    durable: Option<bool>,
    auto_delete: Option<bool>,
    delete_if_empty: Option<bool>,
    delete_if_unused: Option<bool>,
    arguments: Option<Map<String, Value>>,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum QueueType {
    Classic,
    Quorum,
    Stream,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Binding {
    vhost: Option<String>,
    source: String,
    destination: String,
    destination_type: DestinationType,
    routing_key: Option<String>,
    arguments: Option<Map<String, Value>>,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DestinationType {
    Queue,
    Exchange,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Policy {
    name: String,
    vhost: Option<String>,
    pattern: String,
    apply_to: Option<ApplyTo>,
    definition: Map<String, Value>,
    priority: Option<i64>,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ApplyTo {
    Queues,
    ClassicQueues,
    QuorumQueues,
    Exchanges,
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct User {
    tags: Option<Vec<Tag>>,
    import_credentials_secret: Option<LocalObjectReference>,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tag {
    Management,
    Policymaker,
    Monitoring,
    Administrator,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Permission {
    vhost: String,
    user: Option<String>,
    user_reference: Option<LocalObjectReference>,
    permissions: Permissions,
    rabbitmq_cluster_reference: Reference,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permissions {
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Cluster {
    replicas: i32,
    image: Option<String>,
    persistence: Option<Persistence>,
    resources: Option<ResourceRequirements>,
    affinity: Option<Affinity>,
    rabbitmq: Option<Configuration>,
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Persistence {
    storage_class_name: Option<String>,
    storage: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    additional_plugins: Option<Vec<String>>,
    additional_config: Option<String>,
    advanced_config: Option<String>,
    env_config: Option<String>,
}

/// What kustomize reads (<https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/>).
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Kustomization {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    pub(crate) resources: Vec<String>,
}
