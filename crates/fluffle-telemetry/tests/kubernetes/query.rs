//! What the query of the overlay drain-time says, by Prometheus's own tool.

use std::{fs, process::Command};

use tempfile::TempDir;

use crate::agreement::query;

/// Two pods with 10 handlers each. They handle 200 messages a second, 40 ms each, so 8 handlers are busy.
const BUSY: &str = r#"
      - {series: 'fluffle_consume_busy_seconds_total{queue="orders",instance="a"}', values: '0+240x20'}
      - {series: 'fluffle_consume_busy_seconds_total{queue="orders",instance="b"}', values: '0+240x20'}
      - {series: 'messaging_client_consumed_messages_total{queue="orders",instance="a"}', values: '0+6000x20'}
      - {series: 'messaging_client_consumed_messages_total{queue="orders",instance="b"}', values: '0+6000x20'}"#;

const HANDLERS: &str = r#"
      - {series: 'fluffle_consume_handlers{queue="orders",instance="a"}', values: '10x20'}
      - {series: 'fluffle_consume_handlers{queue="orders",instance="b"}', values: '10x20'}"#;

fn waiting(messages: u32) -> String {
    format!("\n      - {{series: 'rabbitmq_queue_messages_ready{{queue=\"orders\"}}', values: '{messages}x20'}}")
}

/// Asserts what the query gives after ten minutes of these series; `None` for no answer.
fn assert_pods(series: &[&str], expected: Option<f64>) {
    let folder = TempDir::new().unwrap();
    let rules = format!("groups: [{{name: scaler, rules: [{{record: pods, expr: '{}'}}]}}]\n", query());
    fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let samples = expected.map_or("[]".to_owned(), |value| format!("[{{labels: pods, value: {value}}}]"));
    let tests = format!(
        "rule_files: [rules.yml]\ntests:\n  - interval: 1m\n    input_series:{}\n    promql_expr_test:\n      \
         - {{expr: pods, eval_time: 10m, exp_samples: {samples}}}\n",
        series.concat()
    );
    fs::write(folder.path().join("tests.yml"), tests).unwrap();
    let output = Command::new("promtool").args(["test", "rules", "tests.yml"]).current_dir(&folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_pods_are_those_that_carry_the_load_and_empty_the_queue_in_time() {
    // 8 busy handlers at 80 % are 10, one pod.
    assert_pods(&[BUSY, HANDLERS, &waiting(0)], Some(1.0));
    // 15,000 messages of 40 ms are 600 s of work: 20 handlers for 30 s, two pods more.
    assert_pods(&[BUSY, HANDLERS, &waiting(15_000)], Some(3.0));
}

#[test]
fn before_the_first_message_is_handled_50_ms_are_assumed() {
    let idle = BUSY.replace("0+240x20", "0x20").replace("0+6000x20", "0x20");
    // 6,000 messages of 50 ms are 300 s of work: 10 handlers for 30 s.
    assert_pods(&[&idle, HANDLERS, &waiting(6_000)], Some(1.0));
}

#[test]
fn without_the_length_of_the_queue_there_is_no_answer_and_not_few_pods() {
    assert_pods(&[BUSY, HANDLERS], None);
    assert_pods(&[BUSY, &waiting(15_000)], None);
}
