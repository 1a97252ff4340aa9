//! A cluster of three nodes: sound, with a queue that has too few replicas, and with a node that is away.

use std::time::{Duration, Instant};

use actix::prelude::*;
use fluffle::prelude::{App, Broker, Consume, Delivery, Exchange, Failure, Queue, Route, Topology};
use fluffle_harness::Cluster;

use crate::{
    client::{connect, durable},
    run::{Report, json, json_until},
};

const CONFIGURATION: &str = "\
collect_statistics_interval = 500
consumer_timeout = 1800000
heartbeat = 60
tcp_listen_options.backlog = 4096
disk_free_limit.absolute = 1GB
queue_leader_locator = balanced
";

const LIMIT: Duration = Duration::from_secs(60);

struct Orders;

impl Actor for Orders {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Orders {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

#[actix::test]
async fn on_a_cluster_nothing_is_found_but_what_is_true() {
    let cluster = Cluster::builder().management().config(CONFIGURATION).start().unwrap();
    let first = cluster.node(0).unwrap();
    first.ctl(&["add_vhost", "shop", "--default-queue-type", "quorum"]).unwrap();
    first.ctl(&["set_permissions", "--vhost", "shop", "guest", ".*", ".*", ".*"]).unwrap();
    let unlimited = r#"{"delivery-limit":-1}"#;
    if first.eval("list_to_binary(rabbit_misc:version())").unwrap().starts_with("4.") {
        // Its quorum queues have a delivery limit, dead-letter queues among them. Doctor advises this policy.
        first.ctl(&["set_policy", "--vhost", "shop", "letters", r"^orders\.dead$", unlimited]).unwrap();
    }
    let url = format!("amqp://guest:guest@127.0.0.1:{}/shop", first.port());
    let api = first.api_url().unwrap();
    let topology = Topology::new()
        .exchange(Exchange::topic("orders"))
        .queue(Queue::quorum("orders").delivery_limit(20).dead_letter().bind("orders", "order.#"));
    let app = App::new(Broker::new(&url).unwrap()).topology(topology);
    let out = app.publisher::<String>(Route::exchange("orders").key("order.new"));
    let service = app.consume(Consume::queue("orders").prefetch(100), || Orders).start().await.unwrap();
    out.publish("an order".to_owned()).await.unwrap();
    let conf = first.folder().join("rabbitmq.conf");
    let arguments = ["--url", &url, "--api", &api, "--conf", conf.to_str().unwrap(), "--queue", "orders"];
    // The statistics know the consumer before the examination counts.
    let with_batch = [&arguments[..], &["--batch", "orders=500"]].concat();
    let seen = |report: &Report| report.find("consumer.prefetch_below_batch", "orders").is_some();
    assert!(seen(&json_until(&with_batch, seen)));
    let report = json_until(&arguments, |report| report.findings().is_empty());
    assert!(report.findings().is_empty(), "{:#?}", report.list());
    assert_eq!((report.code, report.json["unknown"].as_array().unwrap().len()), (0, 0), "{}", report.json["unknown"]);

    // As a queue that was declared when the cluster had one node.
    let connection = connect(&url, "owner").await;
    let channel = connection.create_channel().await.unwrap();
    let letters = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "orders.dead")];
    let sound =
        [("x-queue-type", "quorum"), ("x-dead-letter-strategy", "at-least-once"), ("x-overflow", "reject-publish")];
    let alone = [("x-quorum-initial-group-size", "1")];
    durable(&channel, "few", &[&sound[..], &letters, &alone].concat()).await;
    let few = |report: &Report| report.find("queue.too_few_replicas", "queue few").is_some();
    let report = json_until(&arguments, few);
    let finding = report.find("queue.too_few_replicas", "queue few").unwrap_or_else(|| panic!("{:#?}", report.list()));
    assert_eq!(finding["what"], "1 of 3 nodes have a replica");
    assert_eq!(report.findings().len(), 1, "{:#?}", report.list());
    let mend = finding["mend"].as_str().unwrap();
    let mut grown = 0;
    for command in mend.split("; ") {
        let words: Vec<_> = command.split_whitespace().collect();
        let ["rabbitmq-queues", "grow", node, "all", "--vhost-pattern", vhost, "--queue-pattern", queue] = words[..]
        else {
            panic!("{command}");
        };
        // What that command calls in the node.
        let binary = |pattern: &str| format!("<<\"{}\">>", pattern.trim_matches('\''));
        let call = format!("rabbit_quorum_queue:grow('{node}', {}, {}, all)", binary(vhost), binary(queue));
        let until = Instant::now() + LIMIT;
        // Refused while the queue's leader is new, or the member before is still joining.
        while first.eval(&format!("[{{_, {{ok, _}}}}] = {call}, <<>>")).is_err() {
            assert!(Instant::now() < until, "{command} is refused for {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        grown += 1;
    }
    assert_eq!(grown, 2, "{mend}");
    let report = json_until(&arguments, |report| report.findings().is_empty());
    assert!(report.findings().is_empty(), "{:#?}", report.list());

    cluster.node(2).unwrap().kill().unwrap();
    // Until the queues that it led have another leader, they are down, which is true and told.
    let true_of_it = ["node.down", "queue.replicas_away"];
    let is_true = |report: &Report| {
        let is_told = report.find("node.down", "rabbit3@localhost").is_some()
            && report.find("queue.replicas_away", "queue few").is_some();
        is_told && report.findings().iter().all(|finding| true_of_it.contains(&finding["id"].as_str().unwrap()))
    };
    let report = json_until(&arguments, is_true);
    assert!(is_true(&report), "{:#?}", report.list());
    cluster.node(2).unwrap().start_again().unwrap();
    let report = json_until(&arguments, |report| report.findings().is_empty());
    assert!(report.findings().is_empty(), "{:#?}", report.list());
    assert_eq!(json(&arguments).code, 0);
    service.shutdown().await.unwrap();
}
