//! Declarations that the broker refuses, or does not answer because it is silent or gone.

use std::time::Duration;

use fluffle_harness::RabbitMq;
use lapin::{Channel, types::FieldTable};

use super::{Client, LIMIT, connect, declare_on, everything, messages, publish};
use crate::link::declare::{self, Scope};
use crate::topology::{Entity, Exchange, Queue, Topology, TopologyErrorKind as Kind};

#[tokio::test]
async fn a_binding_to_a_missing_exchange_names_binding_queue_and_exchange() {
    let client = Client::new().await;
    let topology = Topology::new().queue(Queue::classic("orders").bind("ordres", "eu.#"));
    let error = client.declare(&topology).await.unwrap_err();
    let Kind::NotFound { missing, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*missing, Some(Entity::Exchange("ordres".into())));
    assert!(error.is_permanent());
    assert_eq!(
        error.to_string(),
        "binding of queue \"orders\" to exchange \"ordres\" with key \"eu.#\": there is no exchange \
         \"ordres\" on the broker (404): correct the name, or add it to the topology"
    );
}

#[tokio::test]
async fn an_exchange_bound_to_a_missing_exchange_names_the_missing_one() {
    let client = Client::new().await;
    let topology = Topology::new().exchange(Exchange::topic("eu").bind("ordres", "eu.#"));
    let error = client.declare(&topology).await.unwrap_err();
    let Kind::NotFound { missing, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*missing, Some(Entity::Exchange("ordres".into())));
}

#[tokio::test]
async fn an_unknown_exchange_type_is_permanent_though_the_broker_closes_the_connection() {
    let client = Client::new().await;
    let topology = Topology::new().exchange(Exchange::custom("later", "x-no-such-plugin"));
    let error = client.declare(&topology).await.unwrap_err();
    let Kind::Invalid { entity, problem } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*entity, Entity::Exchange("later".into()));
    assert!(problem.contains("x-no-such-plugin"), "{problem}");
    assert!(error.is_permanent());
}

#[tokio::test]
async fn a_consistent_hash_exchange_without_its_plugin_names_the_plugin_and_the_command() {
    let node = RabbitMq::start().unwrap();
    let connection = connect(&node.url()).await;
    let topology = Topology::new().partitioned("orders", 2);
    let error = declare_on(&connection, &topology, Scope::Shared { without: &[] }).await.unwrap_err();
    assert!(error.is_permanent());
    let Kind::Invalid { entity, problem } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*entity, Entity::Exchange("orders".into()));
    assert!(problem.contains("rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"), "{problem}");
}

#[tokio::test]
async fn a_partitioned_stream_sends_each_key_to_one_of_its_queues() {
    let client = Client::new().await;
    client.declare(&Topology::new().partitioned("orders", 3)).await.unwrap();
    let channel = client.channel().await;
    for number in 0..30 {
        publish(&channel, "orders", &format!("customer-{number}"), FieldTable::default()).await;
    }
    let mut counts = Vec::new();
    for queue in Topology::partitions("orders", 3) {
        counts.push(messages(&channel, &queue).await);
    }
    assert!(counts.iter().all(|count| *count > 0) && counts.iter().sum::<u32>() == 30, "{counts:?}");
}

#[tokio::test]
async fn what_the_broker_alone_refuses_is_permanent_and_keeps_its_text() {
    let client = Client::new().await;
    let queue = Queue::classic("q").argument("x-overflow", "sometimes");
    let error = client.declare(&Topology::new().queue(queue)).await.unwrap_err();
    let Kind::Invalid { entity, problem } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*entity, Entity::Queue("q".into()));
    assert!(problem.contains("invalid_overflow"), "{problem}");
}

#[tokio::test]
async fn an_exclusive_queue_is_locked_until_its_connection_ends() {
    let client = Client::new().await;
    let topology = Topology::new().queue(Queue::classic("mine").exclusive());
    let scope = Scope::Queues(&["mine"]);
    declare_on(&client.connection, &topology, scope).await.unwrap();

    let other = connect(client.vhost.url()).await;
    let error = declare_on(&other, &topology, scope).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Locked { .. }), "{error:?}");
    assert!(!error.is_permanent());

    // The broker deletes the connection's queues before it answers close.
    client.connection.close(200, "done".into()).await.unwrap();
    declare_on(&other, &topology, scope).await.unwrap();
}

#[tokio::test]
async fn an_unknown_queue_in_the_scope_is_named() {
    let client = Client::new().await;
    let scope = Scope::Queues(&["nobody"]);
    let error = declare_on(&client.connection, &Topology::new(), scope).await.unwrap_err();
    let Kind::Invalid { entity, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*entity, Entity::Queue("nobody".into()));
}

#[tokio::test]
async fn a_user_without_permission_is_told_which_entity_it_may_not_touch() {
    let client = Client::new().await;
    let (broker, vhost) = (client.vhost.broker(), client.vhost.name());
    let user = format!("reader-{vhost}");
    broker.ctl(&["add_user", &user, "secret"]).unwrap();
    broker.ctl(&["set_permissions", "-p", vhost, &user, "", ".*", ".*"]).unwrap();
    let limited = connect(&client.vhost.url().replace("guest:guest", &format!("{user}:secret"))).await;

    let topology = Topology::new().queue(Queue::classic("orders"));
    let error = declare_on(&limited, &topology, Scope::Shared { without: &[] }).await.unwrap_err();
    let Kind::AccessRefused { entity, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(*entity, Entity::Queue("orders".into()));
    assert!(error.is_permanent());
    broker.ctl(&["delete_user", &user]).unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_transient() {
    let client = Client::new().await;
    client.connection.close(200, "gone".into()).await.unwrap();
    let error = client.declare(&everything()).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Connection { .. }), "{error:?}");
    assert!(!error.is_permanent());
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_left_after_the_limit() {
    let limit = Duration::from_millis(20);
    let open = async || std::future::pending::<Result<Channel, lapin::Error>>().await;
    let topology = Topology::new().queue(Queue::classic("q"));
    let waiting = declare::declare(&topology, open, Scope::Shared { without: &[] }, None, |_| false, limit);
    let error = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), Kind::Timeout { entity: None, limit });
    assert!(!error.is_permanent());
}

#[tokio::test]
async fn a_wrong_topology_is_refused_before_any_channel_is_opened() {
    let open = async || -> Result<Channel, lapin::Error> { panic!("opened a channel") };
    let topology = Topology::new().queue(Queue::quorum("q").exclusive());
    let error =
        declare::declare(&topology, open, Scope::Shared { without: &[] }, None, |_| false, LIMIT).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Invalid { .. }));
}
