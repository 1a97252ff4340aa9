//! Brokers that do not answer, or not all, and the embedded broker.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use fluffle_broker::Broker;
use fluffle_harness::RabbitMq;

use crate::{
    boot::each_subcommand_says_it_cannot_connect,
    client::{connect, durable, exclusive, publish_confirmed},
    run::{Report, doctor, json},
};

/// The only finding, in an examination that could not be carried out.
fn only(report: &Report, id: &str) -> String {
    assert_eq!(report.code, 3, "{:#?}", report.list());
    assert_eq!(report.findings().len(), 1, "{:#?}", report.list());
    let finding = report.find(id, "broker amqp").unwrap_or_else(|| panic!("{:#?}", report.list()));
    format!("{} {}", finding["what"].as_str().unwrap(), finding["mend"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_plugin_named_queues_are_looked_at_and_the_rest_is_said_to_be_unknown() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let url = vhost.url();
    let connection = connect(url, "owner").await;
    let channel = connection.create_channel().await.unwrap();
    durable(&channel, "waiting", &[]).await;
    exclusive(&channel, "mine").await;
    publish_confirmed(&connection, "waiting", 3, lapin::BasicProperties::default()).await;
    let arguments = ["--url", url, "--queue", "waiting", "--queue", "mine", "--queue", "missing", "--depth", "2"];
    let report = json(&arguments);
    assert_eq!(report.code, 2);
    for (id, entity) in [
        ("queue.missing", "queue missing"),
        ("queue.exclusive_elsewhere", "queue mine"),
        ("queue.no_consumer", "queue waiting"),
        ("queue.too_deep", "queue waiting"),
    ] {
        let finding = report.find(id, entity).unwrap_or_else(|| panic!("{id}: {:#?}", report.list()));
        assert_eq!(finding["evidence"], "proved_over_amqp");
    }
    assert_eq!(report.findings().len(), 4, "{:#?}", report.list());
    for what in ["where dead letters go", "publish with confirms", "memory and disk", "consumer_timeout"] {
        assert!(report.is_unknown(what), "{what}: {}", report.json["unknown"]);
    }
    let facts = report.json["facts"].to_string();
    assert!(facts.contains("RabbitMQ") && facts.contains("the median of"), "{facts}");
    // Doctor looks, and takes nothing. While its own queue ends, the broker does not tell depths.
    let until = Instant::now() + Duration::from_secs(30);
    let depths = loop {
        match vhost.queue_depths() {
            Ok(depths) => break depths,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(depths["waiting"].ready, 3);
}

#[test]
fn a_wrong_password_a_missing_vhost_and_a_wrong_port_are_told_apart() {
    let broker = RabbitMq::shared().unwrap();
    let port = broker.port();
    let refused = only(&json(&["--url", &format!("amqp://guest:se-cret@127.0.0.1:{port}")]), "connect.refused_login");
    assert!(refused.contains("change_password guest") && !refused.contains("se-cret"), "{refused}");
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/no-such");
    assert!(only(&json(&["--url", &url]), "connect.refused_vhost").contains("set_permissions --vhost no-such guest"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unreachable = only(&json(&["--url", &format!("amqp://127.0.0.1:{nobody}")]), "connect.unreachable");
    assert!(unreachable.contains("await_startup"), "{unreachable}");
    let tls = only(&json(&["--url", &format!("amqps://localhost:{port}")]), "connect.tls");
    assert!(tls.contains("5672 that for amqp://"), "{tls}");
}

#[test]
fn a_vhost_that_the_user_may_not_enter_is_named_with_the_command_that_lets_in() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let user = format!("stranger-{}", vhost.name().replace('/', "-"));
    vhost.broker().add_user(&user, "pw", "/", ["", "", ""]).unwrap();
    let url = vhost.url().replace("guest:guest", &format!("{user}:pw"));
    let said = only(&json(&["--url", &url]), "connect.refused_vhost");
    vhost.broker().delete_user(&user).unwrap();
    assert!(said.contains(&format!("set_permissions --vhost {} {user}", vhost.name())), "{said}");
}

#[test]
fn a_user_without_any_permission_gets_what_is_known_and_what_is_not() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let user = format!("poor-{}", vhost.name().replace('/', "-"));
    vhost.broker().add_user(&user, "pw", vhost.name(), ["^$", "^$", "^$"]).unwrap();
    let url = vhost.url().replace("guest:guest", &format!("{user}:pw"));
    let report = json(&["--url", &url, "--queue", "any"]);
    vhost.broker().delete_user(&user).unwrap();
    assert!(report.is_unknown("how long a confirm takes"), "{}", report.json);
    assert!(report.find("queue.refused", "any").or(report.find("queue.missing", "any")).is_some(), "{report:#?}");
}

/// A node in the middle of its boot, and proxies: the port is open, and nobody answers.
#[test]
fn a_port_that_is_open_and_silent_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let said = only(&json(&["--url", &url, "--connect-within", "500ms"]), "connect.no_greeting");
    assert!(said.contains("no answer within 500ms"), "{said}");
}

/// A proxy before a node that boots, and a listener whose node ends: the connection is accepted, and ends.
#[test]
fn a_port_that_accepts_and_closes_is_told_by_each_subcommand_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || listener.incoming().for_each(drop));
    let said = only(&json(&["--url", &url, "--connect-within", "2s"]), "connect.no_greeting");
    assert!(said.contains("await_startup"), "{said}");
    each_subcommand_says_it_cannot_connect(&url);
}

#[test]
fn a_port_that_speaks_something_else_is_said_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let said = only(&json(&["--url", &url, "--connect-within", "2s"]), "connect.no_greeting");
    assert!(said.contains("does not speak AMQP 0-9-1"), "{said}");
}

#[test]
fn an_api_that_cannot_be_used_is_a_finding_and_the_rest_goes_on() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let report = json(&["--url", vhost.url(), "--api", &format!("http://me:se-cret@127.0.0.1:{nobody}")]);
    assert_eq!(report.code, 1, "{:#?}", report.list());
    let finding = report.find("api.not_usable", "management API").unwrap();
    assert!(finding["mend"].as_str().unwrap().contains("rabbitmq-plugins enable rabbitmq_management"), "{finding}");
    assert!(!finding.to_string().contains("se-cret"), "{finding}");
    assert!(report.is_unknown("where dead letters go"));
}

#[test]
fn a_file_that_cannot_be_read_ends_with_code_3_and_says_which() {
    let url = RabbitMq::shared().unwrap().url();
    for option in ["--conf", "--topology"] {
        let run = doctor(&["--url", &url, option, "/no/such/file"]);
        assert_eq!((run.code, run.text.as_str()), (3, ""), "{}", run.error);
        assert!(run.error.contains(option) && run.error.contains("/no/such/file"), "{}", run.error);
    }
    assert_eq!(doctor(&["--url", "amqp:/nonsense"]).code, 3);
}

#[test]
fn the_embedded_broker_is_examined_over_amqp() {
    let broker = Broker::start().unwrap();
    let url = broker.url();
    let sound = json(&["--url", &url]);
    assert!(sound.findings().is_empty(), "{:#?}", sound.list());
    assert_eq!(sound.code, 0);
    let report = json(&["--url", &url, "--queue", "missing"]);
    assert!(report.find("queue.missing", "missing").is_some(), "{:#?}", report.list());
    assert_eq!(report.code, 2);
    broker.stop().unwrap();
    assert!(only(&json(&["--url", &url]), "connect.unreachable").contains("refused"));
}
