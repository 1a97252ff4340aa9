//! Numbers and names of different manifests agree with each other, and with the framework.

use fluffle::amqp::DRAIN;
use fluffle_telemetry::names;

use crate::manifests::{Object, of_kind, only};

const CONTAINER: &str = "/spec/template/spec/containers/0";

/// The queue, of which everything is named.
const QUEUE: &str = "orders";

fn triggers(scaler: &str) -> Vec<Object> {
    let mut objects = of_kind("ScaledObject");
    objects.retain(|object| object.text("/spec/triggers/0/type") == scaler);
    assert_eq!(objects.len(), 1, "{scaler}");
    objects
}

/// The query of the overlay drain-time.
pub(crate) fn query() -> String {
    triggers("prometheus")[0].text("/spec/triggers/0/metadata/query").to_owned()
}

#[test]
fn a_pod_is_not_killed_before_its_drain_is_over() {
    let deployment = only("Deployment");
    let grace = deployment.number("/spec/template/spec/terminationGracePeriodSeconds");
    let before = deployment.number(&format!("{CONTAINER}/lifecycle/preStop/sleep/seconds"));
    let drain = i64::try_from(DRAIN.as_secs()).unwrap();
    assert!(before + drain < grace, "preStop {before} s and a drain of {drain} s do not fit into {grace} s");
}

/// A thread that is blocked is found by the probe after the first one that meets it, and one that is slow for a moment
/// must not end the process.
#[test]
fn probes_ask_what_the_status_server_answers() {
    let deployment = only("Deployment");
    let port = deployment.text(&format!("{CONTAINER}/ports/0/name"));
    for (probe, path) in [("livenessProbe", "/live"), ("readinessProbe", "/ready")] {
        assert_eq!(deployment.text(&format!("{CONTAINER}/{probe}/httpGet/path")), path);
        assert_eq!(deployment.text(&format!("{CONTAINER}/{probe}/httpGet/port")), port);
    }
    assert!(deployment.number(&format!("{CONTAINER}/livenessProbe/failureThreshold")) >= 3);
    assert!(deployment.value.pointer(&format!("{CONTAINER}/startupProbe")).is_none());
}

#[test]
fn no_password_is_outside_the_secret_and_none_is_real() {
    let (deployment, secret, user) = (only("Deployment"), only("Secret"), only("User"));
    let keys = secret.value["stringData"].as_object().unwrap();
    for variable in deployment.value.pointer(&format!("{CONTAINER}/env")).unwrap().as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        if name == "RUST_LOG" {
            continue;
        }
        assert!(variable.get("value").is_none(), "{name} is in plain text");
        let reference = &variable["valueFrom"]["secretKeyRef"];
        assert_eq!(reference["name"], secret.value["metadata"]["name"], "{name}");
        assert!(keys.contains_key(reference["key"].as_str().unwrap()), "{name}: {reference}");
    }
    assert_eq!(secret.text("/stringData/password"), "CHANGE-ME");
    let expected = format!("amqp://{}:CHANGE-ME@", secret.text("/stringData/username"));
    assert!(secret.text("/stringData/url").starts_with(&expected));
    assert_eq!(user.text("/spec/importCredentialsSecret/name"), secret.text("/metadata/name"));
}

#[test]
fn everything_names_the_same_broker_and_the_same_deployment() {
    let (cluster, secret, deployment) = (only("RabbitmqCluster"), only("Secret"), only("Deployment"));
    let broker = cluster.text("/metadata/name");
    for kind in ["Exchange", "Queue", "Binding", "Policy", "User", "Permission"] {
        for object in of_kind(kind) {
            assert_eq!(object.text("/spec/rabbitmqClusterReference/name"), broker, "{}", object.title());
        }
    }
    assert!(secret.text("/stringData/url").contains(&format!("@{broker}.orders.svc:")));
    for scaled in of_kind("ScaledObject") {
        assert_eq!(scaled.text("/spec/scaleTargetRef/name"), deployment.text("/metadata/name"));
        assert!(scaled.number("/spec/minReplicaCount") >= 2, "one pod is none while its node is drained");
    }
    assert!(deployment.value.pointer("/spec/replicas").is_none(), "an apply would undo what KEDA has scaled");
    let labels = &deployment.value["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&only("PodDisruptionBudget").value["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&deployment.value["spec"]["selector"]["matchLabels"], labels);
}

#[test]
fn the_scalers_look_at_a_queue_that_is_declared() {
    let declared: Vec<String> = of_kind("Queue").iter().map(|object| object.text("/spec/name").to_owned()).collect();
    assert!(declared.contains(&QUEUE.to_owned()));
    assert_eq!(triggers("rabbitmq")[0].text("/spec/triggers/0/metadata/queueName"), QUEUE);
    let labels = query().matches("{queue=\"orders\"}").count();
    assert_eq!(labels, query().matches('{').count(), "each selector names the queue");
    let access = of_kind("TriggerAuthentication");
    assert_eq!(
        triggers("rabbitmq")[0].text("/spec/triggers/0/authenticationRef/name"),
        access[0].text("/metadata/name")
    );
    assert_eq!(access[0].text("/spec/secretTargetRef/0/name"), only("Secret").text("/metadata/name"));
}

#[test]
fn the_metrics_of_the_scaler_exist() {
    let query = query();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let metrics: Vec<&str> = query
        .match_indices('{')
        .map(|(end, _)| {
            let start = query[..end].rfind(|c| !is_of_a_name(c)).map_or(0, |place| place + 1);
            &query[start..end]
        })
        .collect();
    assert!(metrics.len() >= 4, "{metrics:?}");
    for metric in metrics {
        // The only one that is RabbitMQ's own: https://www.rabbitmq.com/docs/prometheus.
        let is_known = metric == "rabbitmq_queue_messages_ready"
            || names::ALL.iter().any(|name| name.prometheus == metric && name.labels.contains(&"queue"));
        assert!(is_known, "there is no metric {metric} with the label `queue`");
    }
    let configuration = only("RabbitmqCluster");
    let configuration = configuration.text("/spec/rabbitmq/additionalConfig");
    assert!(configuration.contains("prometheus.return_per_object_metrics = true"), "no queue would have a metric");
}
