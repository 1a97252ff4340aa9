//! A service that declares `orders.toml`, on a real RabbitMQ, as the user of `access.yaml`, after the objects of
//! `topology.yaml` were declared as the operator declares them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use actix::prelude::*;
use fluffle::prelude::*;
use fluffle_harness::{RabbitMq, Vhost};
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use crate::manifests::{Object, of_kind, only, path};

/// The longest that the test waits for any one thing.
const SOON: Duration = Duration::from_secs(30);

struct Orders {
    receipts: Publisher<String>,
}

impl Actor for Orders {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Orders {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let receipts = self.receipts.clone();
        Box::pin(async move {
            match order.as_str() {
                "impossible" => return Err(Failure::reject("it cannot be handled")),
                "later" if order.attempt() == 1 => return Err(Failure::retry("not yet")),
                _ => {}
            }
            receipts.publish(order.to_string()).await?;
            Ok(())
        })
    }
}

#[actix::test]
async fn a_service_runs_with_the_queues_and_the_rights_of_the_manifests() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    declare(vhost.url()).await;
    let url = limited_user(&vhost);
    let topology = Topology::from_toml_file(path("orders.toml")).unwrap();
    let app = App::new(Broker::new(&url).unwrap()).topology(topology);
    let receipts = app.publisher(Route::queue("receipts"));
    let service = app.consume(Consume::queue("orders"), move || Orders { receipts: receipts.clone() }).start().await;
    let service = service.unwrap();
    // An argument that differs ends the service, and a right that is missing lets it not be ready.
    ready(&service).await;

    let sender = App::new(Broker::new(vhost.url()).unwrap());
    let orders = sender.publisher::<String>(Route::exchange("orders").key("order.new"));
    let sender = sender.start().await.unwrap();
    for order in ["first", "later", "impossible"] {
        orders.publish(order.to_owned()).await.unwrap();
    }
    vhost.wait_queue("receipts", SOON, |depth| depth.ready == 2).unwrap();
    vhost.wait_queue("orders.dead", SOON, |depth| depth.ready == 1).unwrap();
    sender.shutdown().await.unwrap();
    service.shutdown().await.unwrap();

    let there: BTreeSet<String> = vhost.queue_depths().unwrap().into_keys().collect();
    let declared: BTreeSet<String> = of_kind("Queue").iter().map(|queue| queue.text("/spec/name").to_owned()).collect();
    assert_eq!(there, declared, "what the service has declared, and what topology.yaml has");
}

/// Waits until the service does all of its work.
async fn ready(service: &Service) {
    let deadline = Instant::now() + SOON;
    loop {
        let health = service.health();
        if health.is_ready() {
            return;
        }
        assert!(health.is_alive() && Instant::now() < deadline, "{health:?}");
        actix::clock::sleep(Duration::from_millis(20)).await;
    }
}

/// Adds a user with the rights of `access.yaml`, and returns the address for it.
fn limited_user(vhost: &Vhost<'_>) -> String {
    let permission = only("Permission");
    let right = |name: &str| permission.text(&format!("/spec/permissions/{name}"));
    let user = format!("orders-{}", vhost.name());
    let rights = ["configure", "write", "read"].map(right);
    vhost.broker().add_user(&user, "secret", vhost.name(), rights).unwrap();
    vhost.url().replace("guest:guest", &format!("{user}:secret"))
}

async fn declare(url: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    for exchange in of_kind("Exchange") {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Custom(exchange.text("/spec/type").to_owned());
        let name = exchange.text("/spec/name");
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    }
    for queue in of_kind("Queue") {
        declare_queue(&channel, &queue).await;
    }
    for binding in of_kind("Binding") {
        let [source, queue, key] =
            ["source", "destination", "routingKey"].map(|field| binding.text(&format!("/spec/{field}")));
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.into(), source.into(), key.into(), options, FieldTable::default()).await.unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
}

async fn declare_queue(channel: &Channel, queue: &Object) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue.text("/spec/type").into()));
    for (name, value) in queue.value["spec"]["arguments"].as_object().into_iter().flatten() {
        let value = match value {
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap()),
            Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            other => panic!("{}: {name} is {other}", queue.title()),
        };
        arguments.insert(name.as_str().into(), value);
    }
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(queue.text("/spec/name").into(), options, arguments).await.unwrap();
}
