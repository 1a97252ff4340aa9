//! 406: what a topology declares, against what is on the broker, argument by argument.

use std::fs;

use fluffle_broker::Broker;
use fluffle_harness::RabbitMq;
use lapin::{ExchangeKind, options::QueueDeclareOptions};

use crate::{
    client::{arguments, connect, durable, exchange},
    run::{doctor, json},
};

const TOPOLOGY: &str = r#"
[[exchange]]
name = "shop"
type = "topic"

[[queue]]
name = "orders"
type = "quorum"
max_length = 10

[[queue]]
name = "audit"
type = "classic"
max_length = 1000

[[queue]]
name = "equal"
type = "classic"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_argument_that_the_broker_would_refuse_is_told_with_both_values_and_what_to_do() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let connection = connect(vhost.url(), "owner").await;
    let channel = connection.create_channel().await.unwrap();
    exchange(&channel, "shop", ExchangeKind::Fanout).await;
    durable(&channel, "orders", &[("x-message-ttl", "3600000"), ("x-max-length", "5")]).await;
    durable(&channel, "audit", &[]).await;
    durable(&channel, "equal", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    fs::write(&file, TOPOLOGY).unwrap();
    let arguments_of_doctor = ["--url", vhost.url(), "--topology", file.to_str().unwrap()];
    let report = json(&arguments_of_doctor);
    assert_eq!(report.code, 2);
    let by_policy = format!("rabbitmqctl set_policy -p {} --priority 0", vhost.name());
    let expected = [
        ("argument type of exchange shop", "topic", "fanout", "declare type as fanout"),
        ("argument x-queue-type of queue orders", "quorum", "classic", "declare x-queue-type as classic"),
        ("argument x-max-length of queue orders", "10", "5", "declare x-max-length as 5"),
        ("argument x-message-ttl of queue orders", "nothing", "3600000", "declare x-message-ttl as 3600000"),
        ("argument x-max-length of queue audit", "1000", "nothing", &*by_policy),
    ];
    for (entity, declared, existing, mending) in expected {
        let finding = report.find("topology.differs", entity);
        let finding = finding.unwrap_or_else(|| panic!("{entity}: {:#?}", report.list()));
        let what = finding["what"].as_str().unwrap();
        let both = format!("the topology declares {declared}, the broker has {existing}.");
        assert!(what.starts_with(&both), "{entity}: {what}");
        assert!(finding["mend"].as_str().unwrap().contains(mending), "{entity}: {finding:#}");
        assert_eq!(finding["evidence"], "proved_over_amqp");
    }
    assert_eq!(report.findings().len(), expected.len(), "{:#?}", report.list());

    // What is told of the broker's answer is what a service really gets.
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let refused = channel.queue_declare("audit".into(), options, arguments(&[("x-max-length", "1000")])).await;
    let (refused, finding) =
        (refused.unwrap_err().to_string(), report.find("topology.differs", "queue audit").unwrap());
    let (_, told) = finding["what"].as_str().unwrap().split_once("is answered: ").unwrap();
    assert!(told.starts_with("PRECONDITION_FAILED") && refused.contains(told), "{told}\n{refused}");

    // Nothing was created or changed by the look; and a topology that says what is there has no finding.
    let depths = vhost.queue_depths().unwrap();
    assert_eq!(depths.len(), 3, "{depths:?}");
    let mended = TOPOLOGY
        .replace("topic", "fanout")
        .replace("quorum\"\nmax_length = 10", "classic\"\nmax_length = 5\nmessage_ttl = \"1h\"")
        .replace("max_length = 1000\n", "");
    fs::write(&file, mended).unwrap();
    let report = json(&arguments_of_doctor);
    assert!(report.findings().is_empty(), "{:#?}", report.list());
}

/// docs/OPERATIONS.md shows what the program prints.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_findings_as_they_are_printed() {
    let broker = Broker::start().unwrap();
    let connection = connect(&broker.url(), "owner").await;
    let channel = connection.create_channel().await.unwrap();
    durable(&channel, "orders", &[]).await;
    durable(&channel, "audit", &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    let orders = "[[queue]]\nname = \"orders\"\ntype = \"quorum\"\n";
    fs::write(&file, format!("{orders}[[queue]]\nname = \"audit\"\ntype = \"classic\"\nmax_length = 1000\n")).unwrap();
    let printed = doctor(&["--url", &broker.url(), "--topology", file.to_str().unwrap()]).text;
    let page = include_str!("../../../../docs/OPERATIONS.md");
    let (_, shown) = page.split_once("$ fluffle doctor --topology topology.toml\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert!(printed.contains(shown), "the page shows:\n{shown}\nprinted is:\n{printed}");
}
