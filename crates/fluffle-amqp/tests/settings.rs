//! Settings from files and from the environment: what overrides what, and which words an error has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use config::{Config, Environment, File, FileFormat};
use fluffle_amqp::{
    Batching, Broker, BrokerSettings, CircuitBreaker, ConsumeSettings, RateLimit, Retry, RouteSettings,
};
use serde::Deserialize;

/// The settings of an application.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    broker: BrokerSettings,
    #[serde(default)]
    consume: ConsumeSettings,
    #[serde(default)]
    publish: RouteSettings,
}

/// Reads a file, and then the environment.
fn read(file: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let sources = Config::builder()
        .add_source(File::from_str(file, FileFormat::Toml))
        .add_source(Environment::with_prefix("APP").separator("__").source(Some(variables)));
    sources.build().unwrap().try_deserialize().map_err(|error| error.to_string())
}

/// What the settings are: their `Debug` shows the values.
fn shown(settings: &impl std::fmt::Debug) -> String {
    format!("{settings:?}").replace("None", "").replace(", ", " ")
}

#[test]
fn the_environment_overrides_the_file() {
    let file = "
        [consume]
        prefetch = 50
        handler_timeout = '30s'
        retry = { attempts = 3, first = '100ms' }
        rate_limit = { per_second = 5 }
    ";
    let alone = shown(&read(file, &[]).unwrap().consume);
    let overridden = read(
        file,
        &[
            ("APP__BROKER__URL", "amqp://rabbit/orders"),
            ("APP__BROKER__USER", "app"),
            ("APP__BROKER__PASSWORD", "0123"),
            ("APP__CONSUME__PREFETCH", "100"),
            ("APP__CONSUME__RETRY__ATTEMPTS", "2"),
            ("APP__CONSUME__RATE_LIMIT", "false"),
            ("APP__CONSUME__EXCLUSIVE", "true"),
            ("APP__CONSUME__MAX_BYTES_IN_FLIGHT", "64KiB"),
            ("APP__PUBLISH__CONFIRMS", "256"),
            ("APP__PUBLISH__BATCH__ADAPTIVE", "true"),
        ],
    );
    let overridden = overridden.unwrap();
    let broker = Broker::from_settings(&overridden.broker).unwrap();
    assert_eq!(broker.endpoints()[0].to_string(), "amqp://app@rabbit:5672/orders");
    let publish = shown(&overridden.publish);
    let overridden = shown(&overridden.consume);
    for (before, after) in [
        ("prefetch: Some(Whole(50))", "prefetch: Some(Whole(100))"),
        ("attempts: Some(Whole(3))", "attempts: Some(Whole(2))"),
        ("first: Some(Span(100ms))", "first: Some(Span(100ms))"),
        ("handler_timeout: Some(Span(30s))", "handler_timeout: Some(Span(30s))"),
        ("rate_limit: Some(On(", "rate_limit: Some(Off)"),
        ("exclusive:  ", "exclusive: Some(Flag(true))"),
        ("max_bytes_in_flight:  ", "max_bytes_in_flight: Some(Size(65536))"),
    ] {
        assert!(alone.contains(before), "{before}: {alone}");
        assert!(overridden.contains(after), "{after}: {overridden}");
    }
    for wanted in ["confirms: Some(ConfirmsWritten(Window(256)))", "adaptive: Some(Flag(true))"] {
        assert!(publish.contains(wanted), "{publish}");
    }
}

#[test]
fn a_wrong_value_says_key_value_and_what_is_allowed() {
    let said = WRONG.iter().map(|(file, wanted)| (file, wanted, read(file, &[]).unwrap_err()));
    let others: Vec<String> =
        said.filter(|(_, wanted, said)| said != *wanted).map(|(file, _, said)| format!("{file}\n{said}")).collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
}

/// Lines of a file, and what is said of each.
const WRONG: &[(&str, &str)] = &[
    (
        "consume.prefetch = 0",
        "invalid value: integer `0`, expected a whole number from 1 to 65535 for key `consume.prefetch`",
    ),
    (
        "consume.prefetch = 70000",
        "invalid value: integer `70000`, expected a whole number from 1 to 65535 for key `consume.prefetch`",
    ),
    (
        "consume.prefetch = 'many'",
        "invalid value: string \"many\", expected a whole number from 1 to 65535 for key `consume.prefetch`",
    ),
    (
        "consume.instances = -1",
        "invalid value: integer `-1`, expected a whole number of at least 1 for key `consume.instances`",
    ),
    (
        "consume.instances = 1.5",
        "invalid type: floating point `1.5`, expected a whole number of at least 1 for key \
         `consume.instances`",
    ),
    (
        "consume.prefetchh = 1",
        "unknown field `prefetchh`, expected one of `prefetch`, `instances`, `lanes`, `concurrency`, \
         `guarantee`, `retry`, `delivery_limit`, `retry_requests`, `confirm_timeout`, `handler_timeout`, \
         `give_back_after`, `consumer_timeout`, `handler_backoff`, `handler_intensity`, `blocking`, \
         `exclusive`, `priority`, `max_bytes_in_flight`, `rate_limit`, `circuit_breaker`, `kill_switch`, \
         `dead_letter_queue`, `skip_other_types`, `type_aliases`, `limits` for key `consume`",
    ),
    (
        "consume.priority = 3000000000",
        "invalid value: integer `3000000000`, expected a whole number from -2147483648 to 2147483647 for key \
         `consume.priority`",
    ),
    (
        "consume.delivery_limit = 1",
        "invalid value: integer `1`, expected a whole number of at least 2 for key `consume.delivery_limit`",
    ),
    ("consume.exclusive = 'yes'", r#"invalid value: string "yes", expected true or false for key `consume.exclusive`"#),
    (
        "consume.guarantee = 'exactly-once'",
        "invalid value: string \"exactly-once\", expected \"at-least-once\" or \"at-most-once\" for key \
         `consume.guarantee`",
    ),
    (
        "consume.handler_timeout = 30",
        "\"30\" is no duration (time unit needed, for example 30sec or 30ms); write \"500ms\", \"30s\", \
         \"5m\", \"2h\" or \"1d\" for key `consume.handler_timeout`",
    ),
    (
        "consume.handler_timeout = '30'",
        "\"30\" is no duration (time unit needed, for example 30sec or 30ms); write \"500ms\", \"30s\", \
         \"5m\", \"2h\" or \"1d\" for key `consume.handler_timeout`",
    ),
    (
        "consume.handler_timeout = '0s'",
        "invalid value: 0s, expected a duration from 1ms to 365d for key `consume.handler_timeout`",
    ),
    (
        "consume.handler_timeout = '2years'",
        "invalid value: 2years, expected a duration from 1ms to 365d for key `consume.handler_timeout`",
    ),
    (
        "consume.max_bytes_in_flight = '64MB'",
        "invalid value: string \"64MB\", expected a size in bytes such as 65536, \"64KiB\", \"16MiB\" or \
         \"1GiB\" for key `consume.max_bytes_in_flight`",
    ),
    (
        "consume.retry.attempts = 0",
        "retry policy: attempts = 0, must be 1 to 100 (the first one counts) for key `consume.retry`",
    ),
    (
        "consume.retry.first = '8days'",
        "retry policy: first delay = 691200s, must be 1 ms to 7 days for key `consume.retry`",
    ),
    (
        "consume.retry.factor = 0.5",
        "retry policy: factor = 0.5, must be at least 1, because waits do not shrink for key `consume.retry`",
    ),
    ("consume.retry.jitter = 0.6", "retry policy: jitter = 0.6, must be 0 to 0.5 for key `consume.retry`"),
    (
        "consume.retry.in_process_below = '11s'",
        "retry policy: in_process_below = 11s, must be at most 10s for key `consume.retry`",
    ),
    (
        "consume.retry.atempts = 1",
        "unknown field `atempts`, expected one of `attempts`, `first`, `factor`, `max_delay`, `jitter`, \
         `in_process_below` for key `consume.retry`",
    ),
    (
        "consume.retry = 5",
        "invalid type: integer `5`, expected a table with attempts, first, factor, max_delay, … for key \
         `consume.retry`",
    ),
    ("consume.rate_limit = {}", "a rate limit has either `per_second` or `per_minute` for key `consume.rate_limit`"),
    (
        "consume.rate_limit = { per_second = 1, per_minute = 1 }",
        "a rate limit has either `per_second` or `per_minute` for key `consume.rate_limit`",
    ),
    (
        "consume.rate_limit = 5",
        "invalid type: integer `5`, expected false, or a table with its settings for key \
         `consume.rate_limit`",
    ),
    ("consume.circuit_breaker = true", r#"missing configuration field "consume.circuit_breaker.name""#),
    (
        "consume.circuit_breaker = { name = 'b', ratio = 2 }",
        "failure ratio = 2, must be above 0 and at most 1 for key `consume.circuit_breaker`",
    ),
    (
        "consume.kill_switch = { ratio = 0.5, window = { last = 5, at_least = 6 } }",
        "at_least = 6 never comes true, because last = 5 for key `consume.kill_switch.window`",
    ),
    (
        "consume.handler_backoff = { min = '2s', max = '1s' }",
        "a backoff's shortest wait (2s) must not be longer than its longest (1s) for key \
         `consume.handler_backoff`",
    ),
    ("consume.handler_backoff = { min = '2s' }", r#"missing configuration field "consume.handler_backoff.max""#),
    (
        "consume.handler_backoff = 'never'",
        "invalid value: string \"never\", expected \"none\", or a table such as { min = \"100ms\", max = \
         \"10s\" } for key `consume.handler_backoff`",
    ),
    (
        "consume.handler_intensity = { max_restarts = 3, within = '0s' }",
        "invalid value: 0s, expected a duration from 1ms to 365d for key `consume.handler_intensity.within`",
    ),
    (
        "publish.confirms = 0",
        "invalid value: integer `0`, expected \"off\", \"each\", or a whole number of at least 1 for key \
         `publish.confirms`",
    ),
    (
        "publish.confirms = 'all'",
        "invalid value: string \"all\", expected \"off\", \"each\", or a whole number of at least 1 for key \
         `publish.confirms`",
    ),
    (
        "publish.republish = 'always'",
        "invalid value: string \"always\", expected \"never\" or \"elections\" or \"full\" for key \
         `publish.republish`",
    ),
    (
        "publish.batch.linger = '61s'",
        "invalid value: 1m 1s, expected a duration from 0s to 1m for key `publish.batch.linger`",
    ),
    (
        "publish.gzip = 'fast'",
        "invalid value: string \"fast\", expected \"off\", \"on\" or \"auto\", or a table such as { mode = \
         \"auto\", level = 1 } for key `publish.gzip`",
    ),
    (
        "publish.gzip = { mode = 'on', level = 10 }",
        "invalid value: integer `10`, expected a whole number from 1 to 9 for key `publish.gzip.level`",
    ),
    (
        "publish.max_bytes_in_flight = '5GiB'",
        "invalid value: string \"5GiB\", expected a size in bytes such as 65536, \"64KiB\", \"16MiB\" or \
         \"1GiB\", from 1B to 4GiB for key `publish.max_bytes_in_flight`",
    ),
    (
        "broker.heartbeat = '20h'",
        "invalid value: 20h, expected a duration from 0s to 65535s for key `broker.heartbeat`",
    ),
    (
        "broker.connect_timeout = '0s'",
        "invalid value: 0s, expected a duration from 1ms to 1h for key `broker.connect_timeout`",
    ),
    (
        "broker.endpoint_order = 'random'",
        r#"invalid value: string "random", expected "spread" or "listed" for key `broker.endpoint_order`"#,
    ),
    (
        "broker.pool.connections = 0",
        "invalid value: integer `0`, expected a whole number of at least 1 for key `broker.pool.connections`",
    ),
    (
        "broker.pool.connection = 1",
        "unknown field `connection`, expected one of `connections`, `max_connections`, `spread`, `channels`, \
         `acquire_timeout`, `idle_timeout` for key `broker.pool`",
    ),
    (
        "broker.hartbeat = '5s'",
        "unknown field `hartbeat`, expected one of `url`, `user`, `password`, `endpoint_order`, `tls`, \
         `name`, `heartbeat`, `connect_timeout`, `close_timeout`, `reconnect`, `pool` for key `broker`",
    ),
    (
        "broker.tls.trust = 'ca.pem'",
        "unknown field `trust`, expected one of `trust_file`, `certificate_file`, `key_file` for key \
         `broker.tls`",
    ),
];

/// Two of them through other formats, whose libraries say where it is in their own way.
#[test]
fn json_and_yaml_say_what_is_allowed_too() {
    let json = serde_json::from_str::<ConsumeSettings>(r#"{"prefetch": 0}"#).unwrap_err().to_string();
    assert_eq!(json, "invalid value: integer `0`, expected a whole number from 1 to 65535 at line 1 column 14");
    let yaml =
        serde_saphyr::from_str::<ConsumeSettings>("retry:\n  attempts: 3\n  first: 5\n").unwrap_err().to_string();
    assert!(yaml.starts_with(r#"error: line 3 column 10: "5" is no duration (time unit needed"#), "{yaml}");
    serde_saphyr::from_str::<ConsumeSettings>("retry:\n  attempts: 3\n  first: 5s\nlanes: 2\nexclusive: true").unwrap();
    serde_json::from_str::<RouteSettings>(r#"{"confirms": "each", "rate_limit": {"per_second": 5}}"#).unwrap();
}

#[test]
fn parts_are_read_by_themselves_too() {
    #[derive(Deserialize)]
    struct Parts {
        retry: Retry,
        batching: Batching,
        bank: RateLimit,
        payments: CircuitBreaker,
    }
    let file = "
        retry = { attempts = 1 }
        batching = { max_items = 5 }
        bank = { per_minute = 30 }
        payments = { name = 'payments' }
    ";
    let parts: Parts = toml::from_str(file).unwrap();
    assert_eq!(parts.retry, Retry::none());
    assert_eq!(parts.batching, Batching::default().max_items(5));
    assert_eq!(format!("{:?}", parts.payments), "CircuitBreaker { name: \"payments\", state: Closed, .. }");
    drop(parts.bank);
}

#[test]
fn no_debug_and_no_error_shows_a_secret() {
    for broker in [
        "url = 'amqp://app:hunter2@rabbit/orders'",
        "url = 'http://app:hunter2@rabbit/orders'",
        "url = 'amqp://app:hunter2@rabbit:0/orders'",
        "url = 'amqp://app:hunter2@rabbit/orders?heartbeet=5'",
        "url = ['amqp://app:hunter2@rabbit/orders']",
        "url = { uri = 'amqp://app:hunter2@rabbit/orders' }",
        "url = 'amqp://rabbit'\npassword = 'hunter2'",
        "url = 'amqp://rabbit'\nuser = ''\npassword = 'hunter2'",
        "password = ['hunter2']",
    ] {
        let settings: BrokerSettings = toml::from_str(broker).expect("nothing is refused that would quote its line");
        let said = match Broker::from_settings(&settings) {
            Ok(broker) => format!("{settings:?} {broker:?} {:?}", broker.endpoints()),
            Err(error) => format!("{settings:?} {error} {error:?}"),
        };
        assert!(!said.contains("hunter2"), "{said}");
    }
    let misspelt = read("", &[("APP__BROKER__PASWORD", "hunter2")]).unwrap_err();
    assert!(misspelt.starts_with("unknown field `pasword`") && !misspelt.contains("hunter2"), "{misspelt}");
    // A number that is the password.
    let settings: BrokerSettings = toml::from_str("url = 'amqp://rabbit'\npassword = 271828").unwrap();
    let error = Broker::from_settings(&settings).unwrap_err();
    assert!(!format!("{error} {error:?} {settings:?}").contains("271828"), "{error}");
}
