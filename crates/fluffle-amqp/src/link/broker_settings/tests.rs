use std::time::Duration;

use fluffle_supervise::Backoff;

use super::*;
use crate::base::written::tests::names_all;

fn settings(text: &str) -> BrokerSettings {
    toml::from_str(text).unwrap()
}

fn authority() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["rabbit".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), key.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), key.signing_key.serialize_pem()).unwrap();
    let name = |file: &str| folder.path().join(file).display().to_string();
    let (certificate, key) = (name("cert.pem"), name("key.pem"));
    (folder, certificate, key)
}

#[test]
fn each_setting_arrives() {
    let (_folder, certificate, key) = authority();
    let text = format!(
        r#"
        url = "amqp://a:b@one/orders,amqps://two"
        user = "invoices"
        password = "hunter2"
        endpoint_order = "listed"
        tls = {{ trust_file = '{certificate}', certificate_file = '{certificate}', key_file = '{key}' }}
        name = "billing"
        heartbeat = "15s"
        connect_timeout = "3s"
        close_timeout = "4s"
        reconnect = {{ min = "20ms", max = "7s" }}
        pool = {{ connections = 2, max_connections = 3, spread = 4, channels = 5, acquire_timeout = "6s",
                  idle_timeout = "7s" }}
        "#
    );
    names_all::<BrokerSettings>(&text);
    let seconds = Duration::from_secs;
    let broker = Broker::from_settings(&settings(&text)).unwrap();
    // Settings that name nothing leave it all.
    let broker = broker.settings(&BrokerSettings::default()).unwrap();
    let places: Vec<String> = broker.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["amqp://invoices@one:5672/orders", "amqps://invoices@two:5671/%2f"]);
    assert!(broker.endpoints.iter().all(|endpoint| endpoint.password.reveal() == "hunter2"));
    assert_eq!(broker.endpoint_order, EndpointOrder::Listed);
    assert_eq!(format!("{:?}", broker.tls), "Tls { extra_roots: true, client_certificate: true }");
    assert_eq!(broker.name, "billing");
    assert_eq!((broker.heartbeat, broker.connect_timeout, broker.close_timeout), (seconds(15), seconds(3), seconds(4)));
    assert_eq!(broker.reconnect, Backoff::exponential(Duration::from_millis(20), seconds(7)).unwrap());
    let pool = PoolConfig {
        connections: 2,
        max_connections: 3,
        spread: 4,
        channels: 5,
        acquire_timeout: seconds(6),
        idle_timeout: seconds(7),
    };
    assert_eq!(broker.pool, pool);
}

#[test]
fn settings_override_what_they_name_and_leave_the_rest_as_the_code_says() {
    let code = || Broker::new("amqp://a:b@one/orders").unwrap().name("code").heartbeat(Duration::from_secs(5));
    let pool = PoolConfig { connections: 2, ..PoolConfig::default() };
    let named = code().pool(pool.clone()).settings(&settings("name = 'file'\npool = { channels = 9 }")).unwrap();
    assert_eq!((named.name.as_str(), named.heartbeat), ("file", Duration::from_secs(5)));
    assert_eq!(named.pool, PoolConfig { channels: 9, ..pool });
    assert_eq!(named.endpoints, code().endpoints);
    let elsewhere = code().settings(&settings("url = 'amqp://two'\npassword = 'c'")).unwrap();
    assert_eq!(elsewhere.endpoints.len(), 1);
    assert_eq!((elsewhere.endpoints[0].host(), elsewhere.endpoints[0].password.reveal()), ("two", "c"));
}

#[test]
fn what_cannot_be_used_is_refused_in_plain_words() {
    let (_folder, certificate, _) = authority();
    for (text, wanted) in [
        ("url = 'http://one'".to_owned(), "the broker's `url` is not an AMQP URI: the scheme is `http`"),
        ("url = ''".to_owned(), "the broker's `url` is not an AMQP URI: it is empty"),
        ("url = 5672".to_owned(), "the broker's settings: `url` is no text: put it in quotes"),
        ("url = 'amqp://one'\npassword = 1234".to_owned(), "the broker's settings: `password` is no text without"),
        ("url = 'amqp://one'\nuser = ''".to_owned(), "the broker's settings: `user` is empty"),
        (
            format!("url = 'amqp://one'\ntls = {{ certificate_file = '{certificate}' }}"),
            "the broker's settings: `tls.certificate_file` and `tls.key_file` go together: set both, or neither",
        ),
        (
            "url = 'amqp://one'\ntls = { trust_file = '/no/such/file.pem' }".to_owned(),
            "TLS file /no/such/file.pem: cannot be read",
        ),
    ] {
        let refused = Broker::from_settings(&settings(&text)).unwrap_err().to_string();
        assert!(refused.starts_with(wanted), "{text}: {refused}");
    }
}
