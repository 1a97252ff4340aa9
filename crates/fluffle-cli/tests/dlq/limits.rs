//! Delivery limits that nobody set, which depend on the version of RabbitMQ.

use std::process::Command;

use fluffle_harness::RabbitMq;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

/// Runs `fluffle dlq list --json`, and returns its exit code, its answer and its errors.
fn list(broker: &RabbitMq, options: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluffle"));
    command.args(["dlq", "list", "orders.dead", "--json", "--url", &broker.url()]).args(options);
    let output = command.env_remove("RABBITMQ_API").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_nobody_set_is_that_of_the_brokers_version() {
    let broker = RabbitMq::builder().management().start().unwrap();
    let is_4 = broker.eval("list_to_binary(rabbit_misc:version())").unwrap().starts_with("4.");
    let api = broker.api_url().unwrap();
    let connection = lapin::Connection::connect(&broker.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("orders.dead".into(), durable, quorum).await.unwrap();
    let publish = channel.basic_publish(
        "".into(),
        "orders.dead".into(),
        BasicPublishOptions::default(),
        b"letter",
        BasicProperties::default(),
    );
    publish.await.unwrap();

    let (_, without_api, _) = list(&broker, &[]);
    assert_eq!(without_api["delivery_limit"], json!({"limit": 20, "known": "assumed"}), "{without_api}");
    let told =
        if is_4 { json!({"limit": 20, "known": "default"}) } else { json!({"limit": null, "known": "management"}) };
    let (_, with_api, _) = list(&broker, &["--api", &api]);
    assert_eq!(with_api["delivery_limit"], told, "{with_api}");

    // Looks in spite of the limit, until half of 20 is reached.
    for _ in 0..10 {
        let (code, _, error) = list(&broker, &["--delivery-limit", "0"]);
        assert_eq!(code, Some(0), "{error}");
    }
    let (code, _, error) = list(&broker, &[]);
    assert!(code == Some(3) && error.contains("the delivery limit is 20 (assumed)"), "{error}");
    let (code, _, error) = list(&broker, &["--api", &api]);
    if is_4 {
        assert!(code == Some(3) && error.contains("the delivery limit is 20 (default)"), "{error}");
    } else {
        assert_eq!(code, Some(0), "RabbitMQ 3.10 has no limit that nobody set: {error}");
    }
}
