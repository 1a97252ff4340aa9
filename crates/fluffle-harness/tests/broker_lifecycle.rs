//! The life of a private node. These tests start nodes of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use client::{connect, declare_durable, get, publish_confirmed};
use fluffle_harness::{HarnessError, RabbitMq, TlsFiles};
use lapin::{Connection, ConnectionProperties, tcp::OwnedTLSConfig};

#[test]
fn a_started_node_answers_an_amqp_handshake() {
    let broker = RabbitMq::start().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    stream.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut start = [0; 11];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(start[7..], [0, 10, 0, 10], "expected connection.start");
}

#[test]
fn a_node_listens_on_loopback_only() {
    let broker = RabbitMq::start().unwrap();
    let listening = listening_addresses(broker.pid().unwrap());
    assert!(listening.len() >= 2, "AMQP and Erlang distribution, but found {listening:?}");
    // 127.0.0.1 in the kernel's notation on a little-endian machine.
    assert!(listening.iter().all(|address| address.starts_with("0100007F:")), "{listening:?}");
}

#[test]
fn a_node_with_the_management_plugin_answers_its_api_on_loopback_only() {
    let broker = RabbitMq::builder().management().start().unwrap();
    let address = broker.api_url().unwrap().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    // "guest:guest" in base64.
    let request = format!(
        "GET /api/overview HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("management_version"), "{answer}");
    let listening = listening_addresses(broker.pid().unwrap());
    assert!(listening.iter().all(|address| address.starts_with("0100007F:")), "{listening:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_messages_survive_a_sigkill_and_a_shutdown() {
    let broker = RabbitMq::start().unwrap();
    let connection = connect(&broker.url(), "writer").await;
    let channel = connection.create_channel().await.unwrap();
    declare_durable(&channel, "kept").await;
    publish_confirmed(&channel, "kept", 50).await;

    broker.kill().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", broker.port())).is_err(), "a killed node takes no connection");
    broker.start_again().unwrap();
    assert_eq!(broker.queue_depths("/").unwrap()["kept"].ready, 50);

    broker.restart().unwrap();
    let connection = connect(&broker.url(), "reader").await;
    let channel = connection.create_channel().await.unwrap();
    assert_eq!(get(&channel, "kept").await.unwrap(), b"0");
    assert_eq!(broker.queue_depths("/").unwrap()["kept"].ready, 49);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_side_by_side_share_nothing() {
    let (one, two) = (RabbitMq::start().unwrap(), RabbitMq::start().unwrap());
    for (broker, queue) in [(&one, "first"), (&two, "second")] {
        let connection = connect(&broker.url(), "side by side").await;
        declare_durable(&connection.create_channel().await.unwrap(), queue).await;
    }
    assert_eq!(one.queue_depths("/").unwrap().into_keys().collect::<Vec<_>>(), ["first"]);
    assert_eq!(two.queue_depths("/").unwrap().into_keys().collect::<Vec<_>>(), ["second"]);

    one.kill().unwrap();
    assert_eq!(two.ctl(&["list_queues", "name", "--no-table-headers"]).unwrap().trim(), "second");
}

#[test]
fn a_stopped_node_says_so_and_a_running_one_is_not_started_twice() {
    let broker = RabbitMq::start().unwrap();
    assert!(matches!(broker.start_again(), Err(HarnessError::AlreadyRunning)));
    broker.stop().unwrap();
    assert!(matches!(broker.queue_depths("/"), Err(HarnessError::NotRunning { operation: "queue_depths" })));
    broker.stop().unwrap();
}

#[test]
fn a_failed_boot_shows_what_the_node_said() {
    let error = RabbitMq::builder().config("no_such_setting = 1").start().unwrap_err();
    let HarnessError::BootFailed { why, log, .. } = error else { panic!("{error}") };
    assert!(why.contains("ended during boot"), "{why}");
    assert!(log.contains("no_such_setting"), "{log}");
}

#[test]
fn a_boot_past_its_limit_is_given_up() {
    let error = RabbitMq::builder().boot_limit(Duration::from_millis(1)).start().unwrap_err();
    assert!(matches!(error, HarnessError::BootFailed { ref why, .. } if why.contains("not ready")), "{error}");
}

#[test]
fn a_plugin_name_cannot_smuggle_in_erlang_terms() {
    let error = RabbitMq::builder().plugin("x].[y").start().unwrap_err();
    assert!(matches!(error, HarnessError::BadSetting { name: "plugin", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_tls_files_speaks_tls() {
    let folder = fs::canonicalize(std::env::temp_dir()).unwrap().join(format!("harness-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, own.cert.pem()).unwrap();
    fs::write(&key, own.signing_key.serialize_pem()).unwrap();

    let tls = TlsFiles { ca: cert.clone(), cert, key, verify_peer: false };
    let broker = RabbitMq::builder().tls(tls).start().unwrap();
    fs::remove_dir_all(&folder).unwrap();

    let url = format!("amqps://guest:guest@localhost:{}/%2f", broker.amqps_port().unwrap());
    let trust = OwnedTLSConfig { identity: None, cert_chain: Some(own.cert.pem()) };
    let runtime = lapin::runtime::default_runtime().unwrap();
    let connection = Connection::connect_with_config(&url, ConnectionProperties::default(), trust, runtime).await;
    assert!(connection.unwrap().status().connected());
}

/// The local addresses of a process's listening TCP sockets, from `/proc`.
fn listening_addresses(pid: u32) -> Vec<String> {
    let own: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for fields in text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            let listens = fields[3] == "0A";
            if listens && own.iter().any(|inode| inode == fields[9]) {
                found.push(fields[1].to_owned());
            }
        }
    }
    found
}
