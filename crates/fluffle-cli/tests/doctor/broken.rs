//! A broker with many mistakes.

use std::fs;

use fluffle_harness::RabbitMq;
use lapin::{
    BasicProperties, Channel, Connection, Consumer, ExchangeKind, options::QueueDeclareOptions, types::FieldTable,
};

use crate::{
    client::{bind, connect, consume, durable, exchange, exclusive, give_back, prefetch, publish, publish_confirmed},
    run::{doctor, is_version_4, json, json_until},
};

const CONFIGURATION: &str = "\
collect_statistics_interval = 500
consumer_timeout = 4000
heartbeat = 0
channel_max = 0
frame_max = 8192
num_acceptors.tcp = 2
tcp_listen_options.backlog = 64
tcp_listen_options.nodelay = false
tcp_listen_options.recbuf = 8192
vm_memory_high_watermark.relative = 0.2
loopback_users = none
queue_leader_locator = client-local
";

const TOPOLOGY: &str = r#"
[[exchange]]
name = "spread"
type = "x-consistent-hash"

[[queue]]
name = "works.on"
type = "quorum"
"#;

/// Each mistake: its kind, the entity that has it, a part of its mending, and how it is known.
const MISTAKES: [(&str, &str, &str, &str); 47] = [
    // In the file rabbitmq.conf.
    ("conf.consumer_timeout", "consumer_timeout", "consumer_timeout = 1800000", CONF),
    ("conf.heartbeat", "heartbeat", "heartbeat = 60", CONF),
    ("conf.memory_watermark", "vm_memory_high_watermark", "vm_memory_high_watermark.relative = 0.6", CONF),
    ("conf.few_acceptors", "num_acceptors.tcp", "num_acceptors.tcp = 10", CONF),
    ("conf.guest_from_anywhere", "loopback_users", "loopback_users.guest = true", CONF),
    ("conf.leader_locator", "queue_leader_locator", "queue_leader_locator = balanced", CONF),
    ("conf.channel_max", "channel_max", "channel_max = 2047", CONF),
    // In what the broker agrees to, and does.
    ("broker.channel_max", "broker", "channel_max = 2047", AMQP),
    ("broker.frame_max", "broker", "frame_max = 131072", AMQP),
    ("queue.missing", "never.declared", "fluffle topology apply", AMQP),
    ("queue.exclusive_elsewhere", "locked", "owner_pid", AMQP),
    // In the node and the vhost.
    ("listener.short_backlog", "listener amqp", "tcp_listen_options.backlog = 4096", API),
    ("listener.no_nodelay", "listener amqp", "tcp_listen_options.nodelay = true", API),
    ("listener.small_buffers", "recbuf", "tcp_listen_options.recbuf = 196608", API),
    ("node.disk_limit_too_low", "rabbit@localhost", "disk_free_limit.absolute = ", API),
    ("vhost.default_queue_type", "vhost /", "--default-queue-type quorum", API),
    ("policy.mirrors_classic_queues", "mirror", "rabbitmqctl clear_policy mirror", API),
    ("policy.matches_nothing", "misspelt", "rabbitmqctl clear_policy misspelt", API),
    // In queues and exchanges.
    ("queue.transient", "queue gone.after.restart", "durable", API),
    ("queue.dead_letters.no_exchange", "queue letters.to.nothing", "name=never.made", API),
    ("queue.dead_letters.nowhere", "queue letters.unbound", "source=unbound", API),
    ("queue.dead_letters.nowhere", "queue letters.no.queue", "name=not.there", API),
    ("queue.dead_letters.none_with_delivery_limit", "queue limited", "dead-letter-exchange", API),
    ("queue.dead_letters.ttl_circle", "queue circle.one", "reject", API),
    ("queue.dead_letters.classic_at_most_once", "queue letters.classic", "quorum", API),
    ("queue.dead_letters.at_most_once", "queue letters.once", "at-least-once", API),
    ("queue.dead_letters.strategy_ignored", "queue letters.ignored", "reject-publish", API),
    ("queue.drops_its_oldest", "queue full", "reject-publish", API),
    ("queue.expired_are_dropped", "queue expiring", "dead-letter-exchange", API),
    ("queue.many_priorities", "queue priorities", "x-max-priority", API),
    ("queue.no_consumer", "queue forgotten", "start its consumer", API),
    ("queue.letters_wait", "queue graveyard", "fluffle dlq groups graveyard", API),
    ("queue.too_deep", "queue deep", "larger prefetch", API),
    ("queue.oldest_message", "queue old", "fluffle tail old", API),
    ("queue.redelivers", "queue hot", "without requeue", API),
    ("exchange.no_binding", "exchange unbound", "declare binding source=unbound", API),
    // In how clients use the broker.
    ("channel.publishes_without_confirms", "careless", "confirm.select", API),
    ("channel.publishes_into_the_void", "careless", "mandatory", API),
    ("connection.publishes_and_consumes", "both ways", "one connection to publish", API),
    ("connection.no_heartbeat", "careless", "heartbeat = 60", API),
    ("connection.many_channels", "leak", "channel_max = 128", API),
    ("channel.unacked_for_long", "stuck", "consumer_timeout = 8000", API),
    ("consumer.auto_ack", "consumer forgetful of queue works.on", "no_ack = false", API),
    ("consumer.unlimited_prefetch", "consumer greedy of queue works.on", "default_consumer_prefetch", API),
    ("consumer.prefetch_of_one", "consumer slow of queue deep", "prefetch 10 or more", API),
    ("consumer.prefetch_below_batch", "consumer slow of queue deep", "prefetch 100", API),
    ("channel.global_prefetch", "global", "global = false", API),
];

const CONF: &str = "read_from_the_configuration";
const AMQP: &str = "proved_over_amqp";
const API: &str = "told_by_the_management_api";

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_of_a_broken_broker_is_named_with_its_mending() {
    let broker = RabbitMq::builder().management().config(CONFIGURATION).start().unwrap();
    let _clients = break_it(&broker).await;
    let conf = broker.folder().join("rabbitmq.conf");
    let topology = broker.folder().join("topology.toml");
    fs::write(&topology, TOPOLOGY).unwrap();
    let (url, api) = (broker.url(), broker.api_url().unwrap());
    let arguments = [
        "--url",
        &url,
        "--api",
        &api,
        "--depth",
        "100",
        "--batch",
        "deep=50",
        "--conf",
        conf.to_str().unwrap(),
        "--topology",
        topology.to_str().unwrap(),
        "--queue",
        "never.declared",
        "--queue",
        "locked",
    ];
    let mut mistakes = MISTAKES.to_vec();
    if is_version_4(&broker) {
        // It has no mirrors, and refuses a policy for them. Its API does not tell the prefetch of a channel.
        let impossible = ["policy.mirrors_classic_queues", "channel.global_prefetch"];
        mistakes.retain(|(id, ..)| !impossible.contains(id));
        mistakes.push(("consumer.unlimited_prefetch", "consumer global of queue works.on", "basic.qos", API));
    }
    let report =
        json_until(&arguments, |report| mistakes.iter().all(|(id, entity, ..)| report.find(id, entity).is_some()));
    assert_eq!(
        report.is_unknown("the channel of consumer global"),
        is_version_4(&broker),
        "{}",
        report.json["unknown"]
    );
    for (id, entity, mending, evidence) in mistakes {
        let finding = report.find(id, entity);
        let finding = finding.unwrap_or_else(|| panic!("{id} of {entity} is not found: {:#?}", report.list()));
        let mend = format!("{} {}", finding["mend"].as_str().unwrap(), finding["conf"].as_str().unwrap_or_default());
        assert!(mend.contains(mending), "{id}: {mend}");
        assert_eq!(finding["evidence"], evidence, "{id}");
        assert!(!finding["why"].as_str().unwrap().is_empty(), "{id}");
        assert!(finding["page"].as_str().unwrap().starts_with("https://www.rabbitmq.com/docs/"), "{id}");
    }
    assert!(report.find("queue.transient", "locked").is_none(), "a queue that is exclusive may be transient");
    // The topology wants a plugin, and a queue of another type.
    assert!(
        report.find("topology.plugin_missing", "spread").unwrap()["mend"]
            .as_str()
            .unwrap()
            .contains("rabbitmq-plugins enable rabbitmq_consistent_hash_exchange")
    );
    let differs = report.find("topology.differs", "argument x-queue-type of queue works.on").unwrap();
    let both = "the topology declares quorum, the broker has classic.";
    assert!(differs["what"].as_str().unwrap().starts_with(both), "{differs}");
    assert_eq!(report.code, 2);
    let levels: Vec<&str> = report.findings().iter().map(|finding| finding["level"].as_str().unwrap()).collect();
    let rank = |level: &&str| ["error", "warning", "advice"].iter().position(|known| known == level);
    assert!(levels.is_sorted_by_key(rank), "worst first: {levels:?}");

    let text = doctor(&arguments);
    assert_eq!(text.code, 2);
    assert!(text.text.contains("conf  consumer_timeout = 1800000"), "{}", text.text);
    assert!(!text.text.contains("guest:guest"), "no password");

    // An alarm: told by both.
    broker.block_publishers().unwrap();
    let report = json_until(&arguments, |report| report.find("node.memory_alarm", "rabbit@localhost").is_some());
    assert!(report.find("node.memory_alarm", "rabbit@localhost").is_some(), "{:#?}", report.list());
    assert_eq!(report.find("broker.blocks_publishers", "broker").unwrap()["evidence"], AMQP);
    broker.unblock_publishers().unwrap();
    let report = json(&arguments);
    assert!(report.find("broker.blocks_publishers", "broker").is_none());
}

/// Makes the mistakes that are not in the configuration. What is returned keeps connections and channels open.
async fn break_it(broker: &RabbitMq) -> (Vec<Connection>, Vec<Channel>, Vec<Consumer>) {
    let url = broker.url();
    if !is_version_4(broker) {
        broker.ctl(&["set_policy", "mirror", "^letters.classic$", r#"{"ha-mode":"all"}"#]).unwrap();
    }
    broker.ctl(&["set_policy", "misspelt", "^no.such.queue$", r#"{"max-length":10}"#]).unwrap();
    let careful = connect(&url, "careful").await;
    let channel = careful.create_channel().await.unwrap();
    declare(&channel).await;
    fill(&careful).await;

    let careless = connect(&format!("{url}?heartbeat=0"), "careless").await;
    let careless_channel = careless.create_channel().await.unwrap();
    publish(&careless_channel, "no.such.key", 5, BasicProperties::default()).await;

    let both = connect(&url, "both ways").await;
    let both_channel = both.create_channel().await.unwrap();
    prefetch(&both_channel, 10, false).await;
    // A consumer that is dropped is cancelled.
    let mut consumers = vec![consume(&both_channel, "works.on", "ordinary", false).await];
    let other = both.create_channel().await.unwrap();
    publish(&other, "void", 1, BasicProperties::default()).await;

    let leak = connect(&url, "leak").await;
    let mut channels = vec![channel, careless_channel, both_channel, other];
    for _ in 0..101 {
        channels.push(leak.create_channel().await.unwrap());
    }

    let mut connections = vec![careful, careless, both, leak];
    // Queue, name of connection and consumer, prefetch, whether it is for the whole channel, whether without acks.
    for (queue, name, most, global, no_ack) in [
        ("stuck", "stuck", 2, false, false),
        ("deep", "slow", 1, false, false),
        ("works.on", "forgetful", 10, false, true),
        ("works.on", "greedy", 0, false, false),
        ("works.on", "global", 5, true, false),
    ] {
        let connection = connect(&url, name).await;
        let channel = connection.create_channel().await.unwrap();
        if most > 0 {
            prefetch(&channel, most, global).await;
        }
        consumers.push(consume(&channel, queue, name, no_ack).await);
        connections.push(connection);
        channels.push(channel);
    }
    (connections, channels, consumers)
}

async fn declare(channel: &Channel) {
    let quorum = ("x-queue-type", "quorum");
    let to_graveyard = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "graveyard")];
    for queue in ["works.on", "stuck", "graveyard", "forgotten", "deep", "old", "hot", "void"] {
        durable(channel, queue, &[]).await;
    }
    exchange(channel, "unbound", ExchangeKind::Topic).await;
    exchange(channel, "rounds", ExchangeKind::Direct).await;
    durable(channel, "letters.to.nothing", &[quorum, ("x-dead-letter-exchange", "never.made")]).await;
    durable(channel, "letters.unbound", &[quorum, ("x-dead-letter-exchange", "unbound")]).await;
    let missing = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "not.there")];
    durable(channel, "letters.no.queue", &[&[quorum], &missing[..]].concat()).await;
    durable(channel, "limited", &[quorum, ("x-delivery-limit", "5")]).await;
    durable(channel, "letters.classic", &to_graveyard).await;
    durable(channel, "letters.once", &[&[quorum], &to_graveyard[..]].concat()).await;
    let ignored = [quorum, ("x-dead-letter-strategy", "at-least-once")];
    durable(channel, "letters.ignored", &[&ignored, &to_graveyard[..]].concat()).await;
    durable(channel, "full", &[("x-max-length", "10")]).await;
    durable(channel, "expiring", &[("x-message-ttl", "3600000")]).await;
    durable(channel, "priorities", &[("x-max-priority", "200")]).await;
    for (one, other) in [("circle.one", "circle.two"), ("circle.two", "circle.one")] {
        let round =
            [("x-message-ttl", "3600000"), ("x-dead-letter-exchange", "rounds"), ("x-dead-letter-routing-key", other)];
        durable(channel, one, &round).await;
        bind(channel, one, "rounds", one).await;
    }
    exclusive(channel, "locked").await;
    let options = QueueDeclareOptions::default();
    channel.queue_declare("gone.after.restart".into(), options, FieldTable::default()).await.unwrap();
}

async fn fill(connection: &Connection) {
    let plain = BasicProperties::default;
    publish_confirmed(connection, "forgotten", 3, plain()).await;
    publish_confirmed(connection, "graveyard", 2, plain()).await;
    publish_confirmed(connection, "deep", 150, plain()).await;
    publish_confirmed(connection, "stuck", 2, plain()).await;
    publish_confirmed(connection, "old", 1, plain().with_timestamp(1_000_000_000)).await;
    publish_confirmed(connection, "hot", 1, plain()).await;
    let channel = connection.create_channel().await.unwrap();
    prefetch(&channel, 10, false).await;
    let consumer = consume(&channel, "hot", "rejecting", false).await;
    give_back(consumer, 150).await;
}
