//! The view, on a terminal.

use std::process::Command;

use fluffle_harness::RabbitMq;

use crate::{support::Client, terminal::Terminal};

#[test]
fn the_view_survives_a_killed_broker_and_leaves_the_terminal_as_it_was() {
    let broker = RabbitMq::builder().management().config("collect_statistics_interval = 500\n").start().unwrap();
    let (url, api) = (broker.url(), broker.api_url().unwrap());
    Client::connect(&url).queue("orders", "quorum", 61);
    let over_api = Terminal::top(80, &["--url", &url, "--api", &api, "--interval", "300ms"]);
    let mut over_amqp = Terminal::top(200, &["--url", &url, "--queue", "orders", "--interval", "300ms"]);
    let shows = |terminal: &Terminal| {
        terminal.wait_until("61 messages", |screen| {
            !screen.contains("NO ANSWER")
                && screen.lines().any(|line| line.starts_with("orders") && line.contains(" 61 "))
        })
    };
    shows(&over_api);
    let screen = shows(&over_amqp);
    assert!(screen.contains("not known over AMQP") && over_amqp.is_on_other_screen(), "{screen}");

    broker.kill().unwrap();
    for terminal in [&over_api, &over_amqp] {
        let screen = terminal.wait_for("NO ANSWER from the broker (for ");
        assert!(screen.contains("orders"), "the last numbers stay: {screen}");
    }
    broker.start_again().unwrap();
    shows(&over_api);
    shows(&over_amqp);

    over_amqp.press("?");
    over_amqp.wait_for("filter by a part of the name");
    over_amqp.press(" /zzz\r");
    over_amqp.wait_for("0 of 1 queues");
    over_amqp.press("q");
    over_amqp.expect_sane_end();
    // The signal of `kill` and of a supervisor.
    let sent = Command::new("kill").args(["-TERM", &over_api.program()]).status().unwrap();
    assert!(sent.success());
    over_api.expect_sane_end();
}

/// A terminal that is closed, Ctrl-\ from elsewhere, and others that end a process which does not catch them.
#[test]
fn every_signal_that_can_be_caught_leaves_the_terminal_as_it_was() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://guest:guest@{}", silent.local_addr().unwrap());
    for signal in ["-HUP", "-QUIT", "-INT", "-TERM", "-ALRM", "-USR1", "-USR2"] {
        let terminal = Terminal::top(80, &["--url", &url, "--queue", "orders"]);
        terminal.wait_for("asking the broker");
        assert!(terminal.is_on_other_screen());
        assert!(Command::new("kill").args([signal, &terminal.program()]).status().unwrap().success());
        terminal.expect_sane_end();
    }
}

#[test]
fn ctrl_c_and_escape_end_the_view_also_while_the_broker_gives_no_answer() {
    // A listener that accepts nobody: the connection is made, and no byte comes back.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://guest:guest@{}", silent.local_addr().unwrap());
    for key in ["\x03", "\x1b", "q"] {
        let mut terminal = Terminal::top(80, &["--url", &url, "--queue", "orders"]);
        terminal.wait_for("asking the broker");
        terminal.press(key);
        terminal.expect_sane_end();
    }
}
