//! TLS: correct certificates work, a wrong certificate ends the service at once with a line that says why, and no
//! secret is shown or logged.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use fluffle::prelude::*;
use fluffle_harness::{RabbitMq, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tracing_subscriber::EnvFilter;

use crate::support::{
    process::{Log, service, this_test},
    *,
};

/// The limit for a refusal, which comes at once. It allows for a node that boots on the same machine meanwhile, and for
/// attempts whose alert is lost: the node closes the socket behind its alert, and what the client has written by then
/// resets the connection. Such an attempt says nothing about certificates, and is made again.
const AT_ONCE: Duration = Duration::from_secs(30);

/// A certificate authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Certificate {
    pem: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Certificate { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// A node that uses TLS with `certificate`, and asks clients for a certificate if `verify_peer` is true.
fn node(authority: &Authority, certificate: &Certificate, verify_peer: bool, config: &str) -> RabbitMq {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let files = TlsFiles {
        ca: file("ca.pem", &authority.pem),
        cert: file("cert.pem", &certificate.pem),
        key: file("key.pem", &certificate.key),
        verify_peer,
    };
    RabbitMq::builder().tls(files).plugin("rabbitmq_auth_mechanism_ssl").config(config).start().expect("a node")
}

/// A node with a valid certificate for `localhost`. It does not ask clients for one.
fn good_node() -> (Authority, RabbitMq) {
    let authority = Authority::new();
    let certificate = authority.sign("localhost", |_| {});
    let node = node(&authority, &certificate, false, "");
    (authority, node)
}

fn amqps(node: &RabbitMq, host: &str, credentials: &str, query: &str) -> Broker {
    let port = node.amqps_port().unwrap();
    broker(&format!("amqps://{credentials}{host}:{port}/%2f{query}"))
}

/// Checks that a message can be published and consumed.
async fn works(broker: Broker) {
    let app = App::new(broker).topology(Topology::new().queue(Queue::classic("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("a secret".to_owned()).await.unwrap();
    assert_eq!(next(&mut record).await.text, "a secret");
    service.shutdown().await.unwrap();
}

/// Checks that the service ends by itself at once, and returns the line with the error.
async fn refused(broker: Broker) -> String {
    let service = App::new(broker).start().await.unwrap();
    let ended = tokio::time::timeout(AT_ONCE, service.wait()).await.expect("it gives up at once");
    let line = ended.unwrap_err().to_string();
    service.shutdown().await.unwrap_err();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[actix::test]
async fn only_the_right_authority_and_the_right_host_name_are_trusted() {
    let (authority, node) = good_node();
    works(amqps(&node, "localhost", "", "").tls(Tls::new().trust_pem(authority.pem.as_str()))).await;

    let endpoint = format!("amqps://localhost:{}/%2f", node.amqps_port().unwrap());
    for tls in [Tls::new(), Tls::new().trust_pem(Authority::new().pem)] {
        let line = refused(amqps(&node, "localhost", "", "").tls(tls)).await;
        assert!(line.contains(&endpoint) && line.contains("invalid peer certificate"), "{line}");
    }

    // The certificate is for localhost.
    let line = refused(amqps(&node, "127.0.0.1", "", "").tls(Tls::new().trust_pem(authority.pem))).await;
    assert!(line.contains("127.0.0.1") && line.contains("not valid for name"), "{line}");
}

#[actix::test]
async fn an_expired_certificate_is_refused_at_once() {
    let authority = Authority::new();
    let expired = authority.sign("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let node = node(&authority, &expired, false, "");
    let line = refused(amqps(&node, "localhost", "", "").tls(Tls::new().trust_pem(authority.pem))).await;
    assert!(line.contains("localhost") && line.to_lowercase().contains("expired"), "{line}");
}

#[actix::test]
async fn a_client_certificate_logs_in_without_a_password_and_its_absence_is_refused_at_once() {
    let authority = Authority::new();
    let certificate = authority.sign("localhost", |_| {});
    let config = "auth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN\nssl_cert_login_from = common_name";
    let node = node(&authority, &certificate, true, config);
    node.add_user("invoices", "never used", "/", [".*", ".*", ".*"]).unwrap();
    let show = |client: &Certificate| {
        let tls = Tls::new().trust_pem(authority.pem.as_str());
        tls.client_certificate_pem(client.pem.as_str(), client.key.as_str())
    };
    let external = || amqps(&node, "localhost", "", "?auth_mechanism=external");

    let invoices = authority.sign("invoices", |_| {});
    let service = started(App::new(external().tls(show(&invoices)))).await;
    assert!(node.list_connections().unwrap().iter().all(|one| one.user == "invoices"));
    service.shutdown().await.unwrap();
    works(external().tls(show(&invoices))).await;

    let line = refused(external().tls(show(&authority.sign("nobody", |_| {})))).await;
    assert!(line.contains("ACCESS_REFUSED"), "{line}");
    let line = refused(external().tls(Tls::new().trust_pem(authority.pem.as_str()))).await;
    assert!(line.to_lowercase().contains("certificate"), "{line}");
    let line = refused(external().tls(show(&Authority::new().sign("invoices", |_| {})))).await;
    assert!(line.contains("localhost"), "{line}");
}

/// A proxy in front of a node. It forwards a new connection to the port that is set at that time. While that is 0, it
/// answers in plain text, as a load balancer without a healthy node does.
struct Front {
    port: u16,
    to: Arc<AtomicU16>,
}

impl Front {
    fn new(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU16::new(to)));
        let now = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                match now.load(Ordering::SeqCst) {
                    0 => unavailable(client),
                    port => pass_on(client, port),
                }
            }
        });
        Self { port, to }
    }

    fn pass_on_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    fn answer_in_plain_text(&self) {
        self.pass_on_to(0);
    }

    fn broker(&self, authority: &Authority) -> Broker {
        broker(&format!("amqps://localhost:{}/%2f", self.port)).tls(Tls::new().trust_pem(authority.pem.as_str()))
    }
}

fn unavailable(mut client: TcpStream) {
    // The client may hang up at any time.
    let _ = client.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let mut rest = Vec::new();
    std::thread::spawn(move || client.read_to_end(&mut rest));
}

fn pass_on(client: TcpStream, port: u16) {
    let node = TcpStream::connect(("127.0.0.1", port)).unwrap();
    for (mut from, mut to) in [(client.try_clone().unwrap(), node.try_clone().unwrap()), (node, client)] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Waits until the log has a line with all of these words.
async fn logged(log: &Logged, words: &[&str]) {
    until(&format!("a line with {words:?}"), || {
        let text = log.text();
        text.lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .await;
}

async fn connected(service: &Service, connects: u64) {
    let all = || service.connections().iter().all(|one| one.connects >= connects && one.connected);
    until(&format!("connected {connects} times"), all).await;
}

#[actix::test]
async fn what_answers_in_plain_text_is_no_refused_certificate_and_the_service_waits_for_the_broker() {
    let log = Logged::from_here();
    let (authority, node) = good_node();
    let front = Front::new(node.amqps_port().unwrap());

    // At the first start of the service.
    front.answer_in_plain_text();
    let app = App::new(front.broker(&authority)).topology(Topology::new().queue(Queue::classic("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = app.start().await.unwrap();
    logged(&log, &["WARN", "cannot connect to", &front.port.to_string(), "does not speak TLS"]).await;
    front.pass_on_to(node.amqps_port().unwrap());
    soon("ready", service.ready()).await.unwrap();
    out.publish("a".to_owned()).await.unwrap();

    // At a reconnect.
    let log = Logged::from_here();
    front.answer_in_plain_text();
    node.close_all_connections("a test cuts the connection").unwrap();
    logged(&log, &["WARN", "cannot connect to", &front.port.to_string(), "does not speak TLS"]).await;
    front.pass_on_to(node.amqps_port().unwrap());
    connected(&service, 2).await;
    out.publish("b".to_owned()).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_certificate_that_goes_bad_ends_no_service_that_has_been_connected_and_is_told_loudly() {
    let (authority, node) = good_node();
    let (_, other) = good_node();
    let (good, bad) = (node.amqps_port().unwrap(), other.amqps_port().unwrap());

    let front = Front::new(bad);
    let line = refused(front.broker(&authority)).await;
    assert!(line.contains("invalid peer certificate"), "at the first start it ends the service: {line}");

    front.pass_on_to(good);
    let app = App::new(front.broker(&authority)).topology(Topology::new().queue(Queue::classic("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    out.publish("a".to_owned()).await.unwrap();
    let log = Logged::from_here();
    front.pass_on_to(bad);
    node.close_all_connections("a test cuts the connection").unwrap();
    for connection in ["publish-0", "consume-0"] {
        logged(&log, &["ERROR", connection, "invalid peer certificate", "tries again"]).await;
    }
    front.pass_on_to(good);
    connected(&service, 2).await;
    out.publish("b".to_owned()).await.unwrap();
    service.shutdown().await.unwrap();
}

/// The log of this process since this value was made. All tests of the process share the log, so a test looks for lines
/// that only it can have caused.
struct Logged {
    from: usize,
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl Logged {
    fn from_here() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let filter = EnvFilter::new("fluffle=trace");
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| ToLog).init();
        });
        Self { from: LOG.lock().unwrap().len() }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&LOG.lock().unwrap()[self.from..]).into_owned()
    }
}

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix::test]
async fn no_password_and_no_key_is_in_any_debug_error_snapshot_or_log() {
    let log = Logged::from_here();
    let (authority, node) = good_node();
    node.add_user("teller", "hunter2", "/", [".*", ".*", ".*"]).unwrap();
    let client = authority.sign("teller", |_| {});
    let tls = || {
        let tls = Tls::new().trust_pem(authority.pem.as_str());
        tls.client_certificate_pem(client.pem.as_str(), client.key.as_str())
    };

    let mut told = String::new();
    let mut tell = |what: &dyn std::fmt::Debug| told.push_str(&format!("{what:?} {what:#?}\n"));
    let broker = amqps(&node, "localhost", "teller:hunter2@", "").tls(tls());
    tell(&broker);
    tell(&tls());
    tell(&broker.endpoints());
    tell(&broker.endpoints()[0].to_string());

    let app = App::new(broker).topology(Topology::new().queue(Queue::classic("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    out.publish("a".to_owned()).await.unwrap();
    node.close_all_connections("a test cuts the connection").unwrap();
    until("it is back", || service.connections().iter().all(|one| one.connects == 2 && one.connected)).await;
    tell(&service.snapshot());
    tell(&service.snapshot().to_string());
    tell(&service.connections());
    tell(&out);
    service.shutdown().await.unwrap();

    let wrong = amqps(&node, "localhost", "teller:hunter2wrong@", "").tls(tls());
    tell(&refused(wrong).await);
    let unknown = amqps(&node, "localhost", "teller:hunter2@", "").tls(Tls::new());
    let service = App::new(unknown).start().await.unwrap();
    let ended = soon("its end", service.wait()).await.unwrap_err();
    tell(&ended);
    tell(&ended.reason());
    tell(&ended.reason().to_string());
    tell(&service.snapshot());
    tell(&service.snapshot().to_string());
    for uri in ["amqp://teller:hunter2@host:port/", "amqp://teller:hunter2@/", "teller:hunter2@host", "amqp:hunter2"] {
        if let Err(error) = Broker::new(uri) {
            tell(&error);
            tell(&error.to_string());
        }
    }

    let logged = log.text();
    for word in ["connected", "ended", "waits before it is started again", "gives up on a child"] {
        assert!(logged.contains(word), "the log was captured: {word} is missing");
    }
    let key_line = client.key.lines().nth(1).unwrap();
    for secret in ["hunter2", key_line, "PRIVATE KEY"] {
        for (where_to, text) in [("told", &told), ("logged", &logged)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{where_to}: {line:?}");
        }
    }
}

#[test]
fn a_private_authority_is_enough_on_a_machine_without_root_certificates() {
    let name = this_test!();
    let program = service(name, Log::On, || async {
        let tls = Tls::new().trust_file(std::env::var("CA").unwrap())?;
        App::new(Broker::from_env()?.reconnect(fast()).tls(tls)).run_until_signal().await
    });
    let (authority, node) = good_node();
    let folder = TempDir::new().unwrap();
    let nothing = TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &authority.pem).unwrap();
    let process = program
        .env("AMQP_URL", &format!("amqps://localhost:{}", node.amqps_port().unwrap()))
        .env("CA", &ca.display().to_string())
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", &nothing.path().display().to_string())
        .start();
    process.line(&["connected"], AT_ONCE);
    process.signal("TERM");
    assert_eq!(process.ended(AT_ONCE).0, 0);
}
