//! Tables of URIs: each row has a URI and its endpoint, or a part of its error.

use crate::{Broker, link::uri::*};

/// What is shown of an endpoint and its password, or a part of the error.
type Outcome = Result<(&'static str, &'static str), &'static str>;

const GUEST: &str = "guest";

#[rustfmt::skip]
const URIS: &[(&str, Outcome)] = &[
    // Parts left out.
    ("amqp://localhost", Ok(("amqp://guest@localhost:5672/%2f", GUEST))),
    ("amqps://localhost", Ok(("amqps://guest@localhost:5671/%2f", GUEST))),
    ("amqp://localhost:7000", Ok(("amqp://guest@localhost:7000/%2f", GUEST))),
    ("amqp://localhost:", Ok(("amqp://guest@localhost:5672/%2f", GUEST))),
    ("amqp://me@h", Ok(("amqp://me@h:5672/%2f", GUEST))),
    ("amqp://h?heartbeat=5", Ok(("amqp://guest@h:5672/%2f?heartbeat=5", GUEST))),
    ("amqp://h/?", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://", Err("names no host")),
    ("amqp:///", Err("names no host")),
    ("amqp://u:hunter2@/v", Err("names no host")),
    ("amqp://:7000/", Err("names no host")),
    ("", Err("it is empty")),
    (" \n", Err("it is empty")),
    // Schemes.
    ("AMQP://u:hunter2@H/v", Ok(("amqp://u@h:5672/v", "hunter2"))),
    ("http://u:hunter2@h/", Err("the scheme is `http`")),
    ("amqp+tls://u:hunter2@h/", Err("the scheme is `amqp+tls`")),
    ("localhost:5672", Err("does not begin with amqp:// or amqps://")),
    ("u:hunter2@h", Err("does not begin with amqp:// or amqps://")),
    ("amqp:hunter2", Err("does not begin with amqp:// or amqps://")),
    // User names and passwords.
    ("amqp://u:p%40ss@h", Ok(("amqp://u@h:5672/%2f", "p@ss"))),
    ("amqp://u:p@ss@h", Ok(("amqp://u@h:5672/%2f", "p@ss"))),
    ("amqp://u:a:b@h", Ok(("amqp://u@h:5672/%2f", "a:b"))),
    ("amqp://u:a%2Fb%3Fc%23d%25@h", Ok(("amqp://u@h:5672/%2f", "a/b?c#d%"))),
    ("amqp://u:a%2Cb@h", Ok(("amqp://u@h:5672/%2f", "a,b"))),
    ("amqp://u:a,b@h", Ok(("amqp://u@h:5672/%2f", "a,b"))),
    ("amqp://u:a;b@h", Ok(("amqp://u@h:5672/%2f", "a;b"))),
    ("amqp://u:a+b%20c@h", Ok(("amqp://u@h:5672/%2f", "a+b c"))),
    ("amqp://u:pässword@h", Ok(("amqp://u@h:5672/%2f", "pässword"))),
    ("amqp://u%40corp:p@h", Ok(("amqp://u%40corp@h:5672/%2f", "p"))),
    ("amqp://us%3Aer:p@h", Ok(("amqp://us%3Aer@h:5672/%2f", "p"))),
    ("amqp://user:@h", Ok(("amqp://user@h:5672/%2f", ""))),
    ("amqp://:hunter2@h", Err("the user name before the `@` is empty")),
    ("amqp://@h", Err("the user name before the `@` is empty")),
    ("amqp://u:hunter2/x@h/v", Err("inside a password `/` is written as %2F")),
    ("amqp://u:12/hunter2@h", Err("inside a password `/` is written as %2F")),
    ("amqp://u:12?hunter2=3@h", Err("`?` as %3F")),
    ("amqp://u:hunter2#x@h", Err("it holds a `#`")),
    ("amqp://u:hunter2\\x@h", Err("it holds a `\\`")),
    ("amqp://u:hunter2%@h", Err("a `%` in the password is not followed by two hex digits")),
    ("amqp://u:hunter2%zz@h", Err("a `%` in the password is not followed by two hex digits")),
    ("amqp://u:hunter2%ff@h", Err("the password is not UTF-8")),
    ("amqp://u:hunter2%00@h", Err("the password holds a zero byte")),
    ("amqp://u%00:hunter2@h", Err("the user name holds a zero byte")),
    // Hosts and ports.
    ("amqp://Rabbit.Example/v", Ok(("amqp://guest@rabbit.example:5672/v", GUEST))),
    ("amqp://my_rabbit-1/v", Ok(("amqp://guest@my_rabbit-1:5672/v", GUEST))),
    ("amqp://h%C3%A4se.example", Ok(("amqp://guest@xn--hse-qla.example:5672/%2f", GUEST))),
    ("amqp://127.0.0.1:1", Ok(("amqp://guest@127.0.0.1:1/%2f", GUEST))),
    ("amqp://[::1]:7000/v", Ok(("amqp://guest@[::1]:7000/v", GUEST))),
    ("amqp://[2001:DB8:0:0::1]", Ok(("amqp://guest@[2001:db8::1]:5672/%2f", GUEST))),
    ("amqp://[fe80::1%25eth0]/", Err("has a zone")),
    ("amqp://[fe80::1%eth0]/", Err("has a zone")),
    ("amqp://[::1/", Err("IPv6")),
    ("amqp://2001:db8::1/", Err("an IPv6 address is put in brackets")),
    ("amqp://h:0", Err("port 0 is no port")),
    ("amqp://h:65535", Ok(("amqp://guest@h:65535/%2f", GUEST))),
    ("amqp://h:65536", Err("not a number from 1 to 65535")),
    ("amqp://h:-1", Err("not a number from 1 to 65535")),
    ("amqp://u:hunter2@h:port/", Err("not a number from 1 to 65535")),
    ("amqp://a,b/", Err("URIs of a list are separated by `,`, each written out with its scheme")),
    ("amqp://a b/", Err("it holds a space")),
    ("amqp://a\tb/", Err("it holds a space")),
    ("amqp://h%00/", Err("the host holds a zero byte")),
    // Vhosts.
    ("amqp://h/", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://h/%2f", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://h/%2F", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://h/%2Fa", Ok(("amqp://guest@h:5672/%2Fa", GUEST))),
    ("amqp://h/a%2fb%40c%25%2C%23", Ok(("amqp://guest@h:5672/a%2Fb%40c%25%2C%23", GUEST))),
    ("amqp://h/../a%20b", Err("more than one path segment")),
    ("amqp://h/..", Ok(("amqp://guest@h:5672/..", GUEST))),
    ("amqp://h/größe", Ok(("amqp://guest@h:5672/gr%C3%B6%C3%9Fe", GUEST))),
    ("amqp://h//", Err("the vhost `/` is `/%2f`")),
    ("amqp://h/a/b", Err("more than one path segment")),
    ("amqp://h/v/", Err("more than one path segment")),
    ("amqp://h/a,b", Err("inside a vhost it is written as %2C")),
    ("amqp://h/a@b", Err("inside a vhost `@` as %40")),
    ("amqp://h/v#x", Err("it holds a `#`")),
    ("amqp://h/%00", Err("the vhost holds a zero byte")),
    ("amqp://h/%2", Err("a `%` in the vhost")),
    ("amqp://h/%ff", Err("the vhost is not UTF-8")),
    // Parameters.
    ("amqp://h?heartbeat=0", Ok(("amqp://guest@h:5672/%2f?heartbeat=0", GUEST))),
    ("amqp://h/v?heartbeat=65535&connection_timeout=1500&channel_max=8&frame_max=8192&auth_mechanism=EXTERNAL",
        Ok((
            concat!("amqp://guest@h:5672/v?heartbeat=65535&connection_timeout=1500",
                "&frame_max=8192&channel_max=8&auth_mechanism=external"),
            GUEST,
        ))),
    ("amqp://h?auth_mechanism=plain", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://h?auth_mechanism=gssapi", Err("neither plain nor external")),
    ("amqp://h?heartbeat=65536", Err("heartbeat = `65536` is not a number in range")),
    ("amqp://h?heartbeat=soon", Err("heartbeat = `soon` is not a number")),
    ("amqp://h?heartbeat=-1", Err("not a number")),
    ("amqp://h?heartbeat=%2B5", Err("not a number")),
    ("amqp://h?heartbeat=", Err("not a number")),
    ("amqp://h?heartbeat", Err("not a number")),
    ("amqp://u:hunter2@h?hartbeat=3", Err("unknown parameter `hartbeat`")),
    ("amqp://h?heartbeat=5&heartbeat=6", Err("the parameter `heartbeat` is there twice")),
    ("amqp://h?heartbeat=5;frame_max=4096", Err("`&` does")),
    ("amqp://h?heartbeat=5,frame_max=4096", Err("there is a `,` in its query")),
    ("amqp://h?connection_timeout=0", Err("leave it out for 10 s")),
    ("amqp://h?connection_timeout=1", Ok(("amqp://guest@h:5672/%2f?connection_timeout=1", GUEST))),
    ("amqp://h?connection_timeout=3600001", Err("more than an hour")),
    ("amqp://h?frame_max=0", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://h?frame_max=4095", Err("AMQP wants 4096 bytes or more")),
    ("amqp://h?frame_max=1048576", Ok(("amqp://guest@h:5672/%2f?frame_max=1048576", GUEST))),
    ("amqp://h?frame_max=1048577", Err("the most is 1048576")),
    ("amqp://h?frame_max=4294967296", Err("not a number in range")),
    ("amqp://h?channel_max=0", Ok(("amqp://guest@h:5672/%2f", GUEST))),
    ("amqp://h?channel_max=1", Err("write 2 or more")),
    ("amqp://h?channel_max=2", Ok(("amqp://guest@h:5672/%2f?channel_max=2", GUEST))),
    // Around it.
    ("  amqp://h/v\n", Ok(("amqp://guest@h:5672/v", GUEST))),
    ("amqp://a/;amqp://b/", Err("separated by `,`")),
    ("amqp://a/,amqp://b/", Err("separated by `,`")),
];

/// What is shown of each endpoint and its password, or a part of the error.
type Outcomes = Result<&'static [(&'static str, &'static str)], &'static str>;

#[rustfmt::skip]
const LISTS: &[(&str, Outcomes)] = &[
    ("amqp://a", Ok(&[("amqp://guest@a:5672/%2f", GUEST)])),
    ("amqp://a,amqps://b/v", Ok(&[("amqp://guest@a:5672/%2f", GUEST), ("amqps://guest@b:5671/v", GUEST)])),
    (" amqp://a ,\n AMQP://b ", Ok(&[("amqp://guest@a:5672/%2f", GUEST), ("amqp://guest@b:5672/%2f", GUEST)])),
    ("amqp://u:p,q@a,amqp://u:,@b", Ok(&[("amqp://u@a:5672/%2f", "p,q"), ("amqp://u@b:5672/%2f", ",")])),
    ("amqp://u:p%2Cq@a/v%2Cw,amqp://b", Ok(&[("amqp://u@a:5672/v%2Cw", "p,q"), ("amqp://guest@b:5672/%2f", GUEST)])),
    ("amqp://a,", Err("URI number 2 of the list is empty")),
    (",amqp://a", Err("URI number 1 of the list is empty")),
    ("amqp://a,,amqp://b", Err("URI number 2 of the list is empty")),
    (",", Err("URI number 1 of the list is empty")),
    ("", Err("it is empty")),
    ("amqp://a,b", Err("each written out with its scheme")),
    ("amqp://a/v,b", Err("there is a `,` in its vhost")),
    ("amqp://a;amqp://b", Err("separated by `,`")),
    ("amqp://a amqp://b", Err("it holds a space")),
    ("amqp://u:hunter2@a,http://u:hunter2@b", Err("the scheme is `http`")),
];

#[test]
fn a_uri_means_what_is_said_here_or_is_refused_with_what_is_wrong() {
    for (text, outcome) in URIS {
        match (text.parse::<Endpoint>(), outcome) {
            (Ok(endpoint), Ok((shown, password))) => {
                assert_eq!(endpoint.to_string(), *shown, "{text}");
                assert_eq!(endpoint.password.reveal(), *password, "{text}");
            }
            (Err(error), Err(hint)) => refused(text, &error, hint),
            (parsed, _) => panic!("{text}: {parsed:?}, not {outcome:?}"),
        }
    }
}

#[test]
fn a_list_of_uris_means_what_is_said_here_or_is_refused_with_what_is_wrong() {
    for (text, outcome) in LISTS {
        match (Broker::new(text), outcome) {
            (Ok(broker), Ok(endpoints)) => {
                let parsed = broker.endpoints().iter();
                let parsed: Vec<_> = parsed.map(|one| (one.to_string(), one.password.reveal().to_owned())).collect();
                let wanted: Vec<_> =
                    endpoints.iter().map(|(shown, password)| (shown.to_string(), password.to_string())).collect();
                assert_eq!(parsed, wanted, "{text}");
            }
            (Err(error), Err(hint)) => refused(text, &error, hint),
            (parsed, _) => panic!("{text}: {parsed:?}, not {outcome:?}"),
        }
    }
}

fn refused(text: &str, error: &UriError, hint: &str) {
    let error = error.to_string();
    assert!(error.contains(hint), "{text}: {error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn what_is_shown_parses_back_to_the_same_endpoint_without_the_password() {
    for (text, outcome) in URIS.iter().filter(|(_, outcome)| outcome.is_ok()) {
        let endpoint: Endpoint = text.parse().unwrap();
        let again: Endpoint = endpoint.to_string().parse().unwrap();
        assert_eq!(again, Endpoint { password: again.password.clone(), ..endpoint }, "{outcome:?}");
        assert_eq!(again.password.reveal(), GUEST);
    }
}

#[test]
fn the_password_is_in_no_debug_and_no_display() {
    let endpoint: Endpoint = "amqp://u:hunter2@h/".parse().unwrap();
    assert!(!format!("{endpoint} {endpoint:?}").contains("hunter2"));
}

#[test]
fn parameters_come_before_the_brokers_own_settings() {
    let heartbeat = |uri: &str, own: Duration| {
        let broker = Broker::new(uri).unwrap().heartbeat(own);
        broker.heartbeat_seconds(&broker.endpoints()[0])
    };
    let seconds = Duration::from_secs;
    assert_eq!(heartbeat("amqp://h", seconds(7)), 7);
    assert_eq!(heartbeat("amqp://h?heartbeat=5", seconds(7)), 5);
    assert_eq!(heartbeat("amqp://h?heartbeat=0", seconds(7)), 0, "off");
    assert_eq!(heartbeat("amqp://h", Duration::ZERO), 0, "off");
    assert_eq!(heartbeat("amqp://h", Duration::from_millis(1)), 1, "on");
    assert_eq!(heartbeat("amqp://h", Duration::from_millis(2900)), 2);
    assert_eq!(heartbeat("amqp://h", seconds(1_000_000)), u16::MAX);
    let timeout = |uri: &str, own: Duration| {
        let broker = Broker::new(uri).unwrap().connect_timeout(own);
        broker.connect_timeout_for(&broker.endpoints()[0])
    };
    assert_eq!(timeout("amqp://h", seconds(3)), seconds(3));
    assert_eq!(timeout("amqp://h?connection_timeout=1500", seconds(3)), Duration::from_millis(1500));
    assert_eq!(timeout("amqp://h", Duration::ZERO), Duration::from_millis(1));
    assert_eq!(timeout("amqp://h", Duration::MAX), seconds(3600));
    assert_eq!(DEFAULT_FRAME_MAX, 131_072, "as the documentation says");
}
