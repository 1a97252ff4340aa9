//! Brokers with TLS: how long their certificates last, and why they are not accepted.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fluffle_harness::{RabbitMq, TlsFiles};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::run::json;

/// A certificate of its own authority, for `localhost`, that ends in so many days.
fn certificate(folder: &TempDir, name: &str, days_from_now: i64) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ends = i64::try_from(now.as_secs()).unwrap() + days_from_now * 86_400 + 3_600;
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(ends.try_into().unwrap());
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let (certificate, secret) = (folder.path().join(format!("{name}.pem")), folder.path().join(format!("{name}.key")));
    fs::write(&certificate, own.pem()).unwrap();
    fs::write(&secret, key.serialize_pem()).unwrap();
    (certificate, secret)
}

fn start(cert: &Path, key: &Path) -> (RabbitMq, String) {
    let tls = TlsFiles { ca: cert.into(), cert: cert.into(), key: key.into(), verify_peer: false };
    let broker = RabbitMq::builder().tls(tls).start().unwrap();
    let url = format!("amqps://guest:guest@localhost:{}/%2f", broker.amqps_port().unwrap());
    (broker, url)
}

#[test]
fn a_certificate_is_told_with_its_days_and_is_a_finding_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(&folder, "lasting", 60);
    let (_broker, url) = start(&cert, &key);
    let ca = cert.to_str().unwrap();
    let report = json(&["--url", &url, "--ca", ca]);
    assert!(report.findings().is_empty(), "{:#?}", report.list());
    assert!(report.json["facts"].to_string().contains("for localhost, 60 days left"), "{}", report.json["facts"]);
    // 60 days are left: more than a quarter of 100 days, and less than a quarter of 300.
    let warned = json(&["--url", &url, "--ca", ca, "--certificate", "100days"]);
    assert_eq!(warned.code, 1, "{:#?}", warned.list());
    let finding = warned.find("tls.certificate_ends", "localhost").unwrap();
    assert_eq!(finding["conf"], "ssl_options.certfile = <file>");
    let urgent = json(&["--url", &url, "--ca", ca, "--certificate", "300days"]);
    assert!(urgent.find("tls.certificate_ends_soon", "localhost").is_some(), "{:#?}", urgent.list());
    assert_eq!(urgent.code, 2);
    // An authority that the client does not know.
    let strange = json(&["--url", &url]);
    assert_eq!(strange.code, 3);
    let finding = strange.find("connect.certificate", "localhost");
    let finding = finding.unwrap_or_else(|| panic!("{:#?}", strange.list()));
    assert!(finding["mend"].as_str().unwrap().contains("--ca FILE"), "{finding}");
    // Plain AMQP to the port for TLS.
    let plain = json(&["--url", &url.replace("amqps://", "amqp://"), "--connect-within", "3s"]);
    assert!(plain.find("connect.no_greeting", "localhost").is_some(), "{:#?}", plain.list());
}

#[test]
fn a_certificate_that_has_ended_is_named_with_its_age_although_nothing_connects() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(&folder, "ended", -20);
    let (_broker, url) = start(&cert, &key);
    let report = json(&["--url", &url, "--ca", cert.to_str().unwrap()]);
    assert_eq!(report.code, 3);
    let finding = report.find("tls.certificate_ends_soon", "localhost");
    let finding = finding.unwrap_or_else(|| panic!("{:#?}", report.list()));
    assert!(finding["what"].as_str().unwrap().contains("ended 20 days ago"), "{finding}");
    assert!(report.find("connect.certificate", "localhost").is_some(), "{:#?}", report.list());
}
