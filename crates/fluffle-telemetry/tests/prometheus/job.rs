//! The example of a job that ends, with a real Pushgateway.

#[path = "../../examples/job_that_ends.rs"]
#[allow(dead_code, unreachable_pub, reason = "the program's main is not called here")]
mod job_that_ends;

use fluffle::{prelude::*, testing::TestBroker};
use fluffle_harness::{Prometheus, Pushgateway, promtool};

use crate::{
    busy::soon,
    deploy::{Deployed, SOON, read},
};

/// Puts messages into the queue and ends.
async fn publish(broker: &TestBroker, reports: &[&str]) {
    // The job's HTTP client wants it as soon as some crate of the build turns on TLS in reqwest. It fails only where a
    // provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let app =
        App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("reports").dead_letter()));
    let out = app.publisher::<String>(Route::queue("reports"));
    let service = app.start().await.unwrap();
    for report in reports {
        soon("confirmed", out.publish((*report).to_owned())).await.unwrap();
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn the_metrics_of_a_job_are_there_when_it_has_ended() {
    let (broker, gateway) = (TestBroker::start().unwrap(), Pushgateway::start().unwrap());
    publish(&broker, &["a", "b", "c", ""]).await;
    let (client, url) = (broker.client().unwrap(), gateway.url());
    let handled = soon("ended", job_that_ends::work_and_push(client, "reports", &url)).await;
    assert_eq!(handled.unwrap(), 3);

    let text = gateway.metrics().unwrap();
    // The gateway sets both labels, and keeps the time of the push.
    let own = text.lines().filter(|line| line.starts_with("fluffle_") || line.starts_with("messaging_"));
    assert!(own.clone().count() > 100 && own.clone().all(|line| line.contains("job=\"reports\"")), "{text}");
    assert!(text.contains("push_time_seconds{") && !text.contains("push_failure_time_seconds{instance=\"\""), "{text}");
    let settled = |outcome: &str| {
        let wished = [format!("outcome=\"{outcome}\""), "queue=\"reports\"".to_owned()];
        let line = own.clone().find(|line| {
            line.starts_with("fluffle_consume_settled_total{") && wished.iter().all(|label| line.contains(label))
        });
        line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
    };
    assert_eq!((settled("handled"), settled("dead_lettered")), ("3".to_owned(), "1".to_owned()));
    let output = promtool(&["check", "metrics"], &text).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let of_ours = said.lines().filter(|line| line.contains("fluffle") || line.contains("messaging"));
    assert_eq!(of_ours.count(), 0, "{said}");

    // A second run takes the place of the first.
    publish(&broker, &["d"]).await;
    let handled = soon("ended", job_that_ends::work_and_push(broker.client().unwrap(), "reports", &url)).await;
    assert_eq!(handled.unwrap(), 1);
    assert_eq!(gateway.metrics().unwrap().matches("fluffle_build_info{").count(), 1);

    // With the part of the configuration that is commented out.
    let config = read("prometheus.yml");
    let (_, part) = config.split_once("# - job_name: pushgateway").unwrap();
    let part: String = part.lines().map(|line| line.trim_start_matches("  # ").to_owned() + "\n").collect();
    let part = part.replace("127.0.0.1:9091", gateway.url().trim_start_matches("http://"));
    let config = format!(
        "global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}\nscrape_configs:\n- job_name: pushgateway{part}"
    );
    let prometheus = Prometheus::start(&config).unwrap();
    prometheus.wait_until_up("pushgateway", SOON).unwrap();
    let query = "fluffle_consume_settled_total{job=\"reports\", queue=\"reports\", outcome=\"handled\"}";
    let samples = Deployed::of(prometheus).wait_for(query, |samples| samples.iter().any(|one| one.1 == 1.0));
    samples.unwrap();
}

#[actix::test]
async fn a_gateway_that_cannot_be_reached_is_an_error_of_the_job_and_not_of_its_work() {
    let broker = TestBroker::start().unwrap();
    publish(&broker, &["a"]).await;
    let gateway = "http://127.0.0.1:1";
    let error = soon("ended", job_that_ends::work_and_push(broker.client().unwrap(), "reports", gateway)).await;
    assert!(error.unwrap_err().to_string().contains("127.0.0.1:1"));
    assert_eq!(broker.snapshot().unwrap().queue("reports").unwrap().ready, 0);
}
