//! Pictures of services that do not exist, for the page: what a service looks like when it is well, and when it is not.

use fluffle_telemetry::status::picture::{
    ArbiterView, ConnectionView, HealthView, HistoryView, LedgerLine, MessageView, NodeView, OutcomeView, Picture,
    Process, PublisherView, QueueView, SeriesView, StageView, StoreView, StoryView, VerdictView,
};

/// 2026-01-15 03:12:00 UTC.
pub(crate) const AT: u64 = 1_768_446_720_000;

const HOUR: u64 = 3_600_000;
const STEP: u64 = 2_000;

/// The names of the pictures that [`of`] gives.
pub(crate) const NAMES: [&str; 6] = ["healthy", "outage", "poison", "ledger", "many", "hostile"];

/// A picture by its name, half a second later with each tick.
pub(crate) fn of(name: &str, tick: u64) -> Picture {
    match name {
        "outage" => outage(tick),
        "poison" => poison(tick),
        "ledger" => ledger_broken(tick),
        "many" => many(tick),
        "hostile" => hostile(tick),
        _ => healthy(tick),
    }
}

/// Everything is well; one of three queues could be faster.
pub(crate) fn healthy(tick: u64) -> Picture {
    let now = AT + tick * 500;
    let mut queues = vec![
        queue("quakes.readings", 1_240.0, tick),
        queue("quakes.alerts", 3.4, tick + 9),
        queue("quakes.archive", 310.0, tick + 21),
    ];
    let slow = &mut queues[2];
    slow.busy = 0.98;
    slow.waiting = 241;
    slow.in_hand = 256;
    slow.verdict = verdict(
        "handler-bound",
        "all 4 handlers are busy 98 % of the time, and 241 deliveries wait for one; a message takes 12.6 ms in its \
         handler",
        Some("more handlers: Consume::handlers(8); they are not the limit of the processor (31 % of 8 cores)"),
    );
    picture(now, tick, queues)
}

/// The broker is gone for some seconds.
fn outage(tick: u64) -> Picture {
    let now = AT + tick * 500;
    let mut picture = healthy(tick);
    let down = now - 13_000 - tick * 500;
    for connection in &mut picture.connections {
        connection.up = false;
        connection.since = Some(down);
        connection.channels = 0;
    }
    picture.connections[1].up = true;
    picture.connections[1].blocked = Some("low on memory".to_owned());
    picture.connections[1].blocked_since = Some(down - 4_000);
    for queue in &mut picture.queues {
        queue.state = "unsubscribed".to_owned();
        queue.since = Some(down);
        (queue.received_rate, queue.settled_rate, queue.busy, queue.in_hand, queue.waiting) = (0.0, 0.0, 0.0, 0, 0);
        queue.verdict = verdict(
            "away",
            "no subscription for 13 s: connection consume-0 is lost (socket: connection refused, 127.0.0.1:5672)",
            Some("look whether the broker runs; the service reconnects by itself, the next try is in 1.6 s"),
        );
    }
    picture.health.ready = vec![
        "connection consume-0 is away for 13 s: connection refused (127.0.0.1:5672)".to_owned(),
        "consumer quakes.readings has no subscription".to_owned(),
    ];
    let consume = &mut picture.tree.children[3].children[0].children;
    consume[0].state = "backing off".to_owned();
    consume[0].since = down;
    consume[0].restarts = 5;
    consume[0].restart_at = Some(now + 1_600 - tick % 4 * 500);
    consume[0].last_exit = Some("connection refused (os error 111), 127.0.0.1:5672".to_owned());
    consume[1].state = "waiting".to_owned();
    for channel in &mut consume[1].children {
        channel.state = "waiting".to_owned();
        channel.rate = Some(0.0);
    }
    picture.stories.insert(
        0,
        StoryView {
            at: down,
            node: "app/consume/consume-0/socket".to_owned(),
            reason: "connection lost: socket closed by the broker (320 CONNECTION_FORCED)".to_owned(),
            in_hand: vec!["0198c0de-5b1e-7c3a-9d41-2f6b8a7e1c01 (attempt 1)".to_owned(), "and 30 more".to_owned()],
            siblings: vec!["channels/quakes.readings".to_owned(), "channels/quakes.alerts".to_owned()],
            redelivered: 0,
            republished: 12,
            recovered_in: None,
            remark: None,
        },
    );
    picture
}

/// A message ends its handler again and again.
fn poison(tick: u64) -> Picture {
    let mut picture = healthy(tick);
    let queue = &mut picture.queues[0];
    queue.state = "isolating".to_owned();
    queue.crashed = 3;
    queue.dead_letters = Some(17);
    queue.verdict = verdict(
        "poison",
        "message 0198c0de-dead-7bee-8f00-00000000cafe has ended its handler 3 times (attempts 1 to 3)",
        Some(
            "it is handled alone now and dead-lettered after attempt 5; look at it in quakes.readings.dead, mend the \
             handler, then replay",
        ),
    );
    queue.messages.insert(
        0,
        MessageView {
            id: Some("0198c0de-dead-7bee-8f00-00000000cafe".to_owned()),
            outcome: "retried",
            why: "failed",
            attempt: 3,
            failure: Some("handler panicked: index out of bounds: the len is 3 but the index is 7".to_owned()),
            ..message(0, "failed", tick)
        },
    );
    let breaking = &mut picture.queues[1];
    breaking.state = "breaker open".to_owned();
    breaking.since = Some(picture.at - 8_000);
    (breaking.received_rate, breaking.settled_rate) = (0.0, 0.0);
    breaking.verdict = verdict(
        "breaker-open",
        "52 % of the last 200 messages failed: 503 from https://pager.example/v2",
        Some("the breaker tries one message in 22 s; if the pager is back, resume it now"),
    );
    picture.stories.insert(
        0,
        StoryView {
            at: picture.at - 4_200,
            node: "app/handlers/quakes.readings/handler-3".to_owned(),
            reason: "panicked: index out of bounds: the len is 3 but the index is 7".to_owned(),
            in_hand: vec!["0198c0de-dead-7bee-8f00-00000000cafe (attempt 3)".to_owned()],
            siblings: vec![],
            redelivered: 1,
            republished: 0,
            recovered_in: Some(12),
            remark: Some("the same message ended it three times".to_owned()),
        },
    );
    picture
}

/// A publisher has lost count of three messages.
fn ledger_broken(tick: u64) -> Picture {
    let mut picture = healthy(tick);
    picture.ledger[0].settled -= 3;
    picture.ledger[0].imbalance = 3;
    picture
}

/// A service with 64 queues; two of them have something.
pub(crate) fn many(tick: u64) -> Picture {
    let mut queues: Vec<_> =
        (0..64).map(|n| queue(&format!("region-{n:02}.orders"), 20.0 + 7.0 * n as f64, tick + n)).collect();
    queues[17].state = "paused".to_owned();
    queues[17].verdict = verdict("paused", "paused from the status page 4 min ago", Some("resume it on its card"));
    queues[41].verdict = verdict(
        "prefetch-starved",
        "handlers are idle 63 % of the time, while all 32 deliveries of the prefetch are in hand or on their way",
        Some("a larger prefetch: Consume::prefetch(128)"),
    );
    picture(AT + tick * 500, tick, queues)
}

/// Each text that comes from outside is an attempt to become HTML.
pub(crate) fn hostile(tick: u64) -> Picture {
    const TAG: &str = "<img src=x onerror=alert(1)>";
    const END: &str = "</script><script>alert(2)</script><!-- {{script}}";
    let mut picture = poison(tick);
    picture.process.name = format!("{TAG}{END}");
    picture.health.live = vec![END.to_owned()];
    picture.health.ready = vec![TAG.to_owned(), "\u{202e}txt.exe \u{2028} \0 ' \" &lt;".to_owned()];
    for queue in &mut picture.queues {
        queue.name = format!("{}{TAG}", queue.name);
        queue.verdict.words = format!("{END} {}", "x".repeat(200));
        queue.verdict.advice = Some(format!("javascript:alert(3) {TAG}"));
        for message in &mut queue.messages {
            message.id = Some(format!("{TAG}{END}"));
            message.trace = Some(END.to_owned());
            message.kind = Some(TAG.to_owned());
            message.failure = Some(format!("{END}\n{TAG}"));
            message.detail = Some(format!("{TAG}\n{END}"));
        }
    }
    picture.queues[0].name = "__proto__".to_owned();
    picture.tree.children[0].id = TAG.to_owned();
    picture.tree.children[0].last_exit = Some(END.to_owned());
    picture.tree.children[1].note = Some(TAG.to_owned());
    for publisher in &mut picture.publishers {
        publisher.name = format!("{}{END}", publisher.name);
        publisher.store =
            Some(StoreView { kind: "journal", messages: None, bytes: None, oldest: None, error: Some(TAG.to_owned()) });
    }
    picture.connections[0].endpoint = Some(TAG.to_owned());
    picture.connections[0].blocked = Some(END.to_owned());
    picture.arbiters[0].name = TAG.to_owned();
    picture.ledger[0].of = END.to_owned();
    picture.stories[0].reason = END.to_owned();
    picture.stories[0].in_hand = vec![TAG.to_owned()];
    picture.stories[0].remark = Some(TAG.to_owned());
    picture
}

/// The fifteen minutes before a picture.
pub(crate) fn history(picture: &Picture) -> HistoryView {
    let line = |base: f64, share: f64, seed: u64| -> Vec<Option<f32>> {
        let value = |n: u64| {
            let gap = (300..308).contains(&n);
            (!gap).then(|| (((base * share * wave(n * 3 + seed, 0.3)) * 10.0).round() / 10.0) as f32)
        };
        (0..450).map(value).collect()
    };
    let series = |of, name: &String, rate: f64, open: f64, seed| SeriesView {
        of,
        name: name.clone(),
        entered: line(rate, 1.0, seed),
        settled: line(rate, 0.99, seed + 1),
        failed: line(rate, 0.004, seed + 5),
        open: line(open, 1.0, seed + 2),
        p99: line(11.0, 1.0, seed + 3),
    };
    let queues = picture.queues.iter().zip(0..);
    let queues = queues.map(|(queue, seed)| series("queue", &queue.name, queue.received_rate, 40.0, seed * 40));
    let publishers = picture.publishers.iter().zip(0..);
    let publishers =
        publishers.map(|(one, seed)| series("publisher", &one.name, one.accepted_rate, 20.0, seed * 40 + 7));
    HistoryView { at: picture.at, step: STEP, series: queues.chain(publishers).collect() }
}

fn picture(now: u64, tick: u64, queues: Vec<QueueView>) -> Picture {
    let received: f64 = queues.iter().map(|queue| queue.received_rate).sum();
    let publishers = vec![publisher("readings", received, tick), publisher("quakes.readings copies", 0.4, tick)];
    let side = |side, of: &str, entered: u64, open: usize| LedgerLine {
        side,
        of: of.to_owned(),
        entered,
        settled: entered - open as u64,
        open: open as u64,
        imbalance: 0,
    };
    let mut ledger: Vec<_> = publishers
        .iter()
        .map(|one| {
            let settled: u64 = one.outcomes.iter().map(|outcome| outcome.messages).sum();
            side("publish", &one.name, settled + one.outstanding as u64, one.outstanding)
        })
        .collect();
    for queue in &queues {
        let settled: u64 = queue.outcomes.iter().map(|outcome| outcome.messages).sum();
        ledger.push(side("consume", &queue.name, settled + queue.in_hand as u64, queue.in_hand));
    }
    Picture {
        at: now,
        process: Process {
            name: "quakes".to_owned(),
            version: "0.1.0",
            pid: 41_207,
            since: AT - 3 * HOUR - 754_000,
            state: "running",
        },
        health: HealthView::default(),
        tree: tree(&queues, tick),
        queues,
        publishers,
        connections: vec![connection("consume-0", 3), connection("publish-0", 2)],
        arbiters: (0..4)
            .map(|n| ArbiterView {
                name: if n == 0 { "fluffle-io".to_owned() } else { format!("handlers-{n}") },
                lag: 0.08 * (n + 1) as f64 * wave(tick + n * 7, 0.6),
            })
            .collect(),
        ledger,
        stories: vec![StoryView {
            at: AT - 1_210_000,
            node: "app/handlers/quakes.archive/handler-1".to_owned(),
            reason: "panicked: connection to PostgreSQL closed".to_owned(),
            in_hand: vec!["0198c0d1-77aa-7f10-8a52-90ab12cd34ef (attempt 1)".to_owned()],
            siblings: vec![],
            redelivered: 1,
            republished: 0,
            recovered_in: Some(9),
            remark: None,
        }],
        actions: vec!["pause", "resume", "resume_breaker", "replay", "kill"],
    }
}

fn queue(name: &str, base: f64, tick: u64) -> QueueView {
    let rate = base * wave(tick, 0.12);
    let handled = (base * 11_000.0) as u64 + (rate * 0.5 * tick as f64) as u64;
    let messages = (0..10).flat_map(|n| ["slow", "failed", "sampled"].map(|why| message(n, why, tick)));
    QueueView {
        name: name.to_owned(),
        consumers: vec![format!("consumer {name}")],
        state: "consuming".to_owned(),
        since: Some(AT - 2 * HOUR),
        received_rate: rate,
        settled_rate: rate * 0.995,
        failed_rate: if base > 100.0 { 0.6 * wave(tick, 0.9) } else { 0.0 },
        in_hand: (31.0 * wave(tick, 0.5)) as usize,
        prefetch: 256,
        waiting: (9.0 * wave(tick, 0.9)) as usize,
        handlers: 4,
        busy: 0.43 * wave(tick + 3, 0.2),
        stages: vec![
            stage("broker", base, 1.1, 8.4, tick),
            stage("handler_wait", base, 0.3, 21.5, tick),
            stage("decode", base, 0.021, 0.09, tick),
            stage("handle", base, 3.2, 14.8, tick),
            stage("settle", base, 0.18, 1.2, tick),
            StageView { count: 24, ..stage("retry_wait", base, 1_000.0, 30_000.0, tick) },
        ],
        outcomes: vec![
            outcome("handled", handled),
            outcome("retried", 214),
            outcome("dead_lettered", 3),
            outcome("requeued", 0),
            outcome("dropped", 0),
            outcome("duplicate", 12),
        ],
        crashed: 0,
        verdict: verdict("healthy", "handlers are busy 43 % of the time, and messages wait 0.3 ms for one", None),
        dead_letters: Some(3),
        messages: messages.collect(),
    }
}

fn message(n: u64, why: &'static str, tick: u64) -> MessageView {
    let now = AT + tick * 500;
    let factor = if why == "slow" { 30.0 / (n + 1) as f64 + 4.0 } else { 1.0 };
    let failed = why == "failed";
    let seed = if why == "sampled" { n + tick / 4 } else { n };
    MessageView {
        why,
        at: if why == "sampled" { now - n * 2_000 } else { AT - 40_000 * (n + 1) },
        id: Some(format!("0198c0de-{:04x}-7c3a-9d41-2f6b8a7e{:04x}", seed * 31 + 257, seed * 977 + 13)),
        trace: (n % 3 != 2).then(|| format!("4bf92f3577b34da6a3ce929d0e{:06x}", seed * 7919 + 11)),
        attempt: if failed { 1 + (n % 3) as u32 } else { 1 },
        kind: Some("quakes.v1.Reading".to_owned()),
        bytes: 412 + 37 * n as usize,
        outcome: if failed && n.is_multiple_of(4) {
            "dead_lettered"
        } else if failed {
            "retried"
        } else {
            "handled"
        },
        failure: failed.then(|| "the archive answered 503 Service Unavailable after 250 ms".to_owned()),
        waterfall: vec![
            ("broker", 1.3 * wave(seed, 0.6)),
            ("handler_wait", 0.4 * factor * wave(seed + 1, 0.6)),
            ("decode", 0.02),
            ("handle", 3.1 * factor * wave(seed + 2, 0.4)),
            ("settle", 0.2 * wave(seed + 3, 0.4)),
        ],
        detail: (n == 0).then(|| "station KMI, magnitude 4.1, depth 12 km".to_owned()),
    }
}

fn publisher(name: &str, base: f64, tick: u64) -> PublisherView {
    let rate = base * wave(tick, 0.1);
    PublisherView {
        name: name.to_owned(),
        accepted_rate: rate,
        settled_rate: rate,
        outstanding: (18.0 * wave(tick, 0.5)) as usize,
        window: 1_024,
        outcomes: vec![
            outcome("confirmed", (base * 11_300.0) as u64 + (rate * 0.5 * tick as f64) as u64),
            outcome("returned", 2),
            outcome("nacked", 0),
            outcome("failed", 0),
            outcome("unknown", 0),
        ],
        republished: 12,
        stages: vec![stage("batch_wait", base, 0.9, 2.0, tick), stage("confirm", base, 2.4, 9.7, tick)],
        store: (base > 100.0).then_some(StoreView {
            kind: "journal",
            messages: Some(18),
            bytes: Some(9_216),
            oldest: Some(7),
            error: None,
        }),
    }
}

fn tree(queues: &[QueueView], tick: u64) -> NodeView {
    let handlers = queues.iter().map(|queue| {
        let pool = (0..4).map(|n| {
            let actor = node(&format!("handler-{n}"), &format!("app/handlers/{}", queue.name), "actor", vec![]);
            NodeView {
                mailbox: Some([(tick as usize + n) % 3, 16]),
                rate: Some(queue.settled_rate / 4.0),
                restarts: u64::from(n == 1 && queue.name == "quakes.archive"),
                last_exit: (n == 1 && queue.name == "quakes.archive")
                    .then(|| "panicked: connection to PostgreSQL closed".to_owned()),
                ..actor
            }
        });
        let pool = pool.collect();
        NodeView { rate: Some(queue.settled_rate), ..node(&queue.name, "app/handlers", "one-for-one", pool) }
    });
    let handlers = handlers.collect();
    let consumers = queues.iter().map(|queue| NodeView {
        mailbox: Some([0, 16]),
        rate: Some(queue.received_rate),
        ..node(&queue.name, "app/consume/consume-0/channels", "one-for-all", vec![])
    });
    let received: f64 = queues.iter().map(|queue| queue.received_rate).sum();
    let line = |side: &str, name: &str, children| {
        let path = format!("app/{side}/{name}");
        let socket = node("socket", &path, "actor", vec![]);
        let channels = NodeView { rate: Some(received), ..node("channels", &path, "one-for-one", children) };
        let both = NodeView {
            rate: Some(received),
            ..node(name, &format!("app/{side}"), "rest-for-one", vec![socket, channels])
        };
        NodeView { rate: Some(received), ..node(side, "app", "one-for-one", vec![both]) }
    };
    let publisher = NodeView {
        mailbox: Some([2, 64]),
        rate: Some(received),
        ..node("readings", "app/publish/publish-0/channels", "one-for-all", vec![])
    };
    let feed = NodeView {
        mailbox: Some([0, 16]),
        note: Some("day 3 of 7, 41,207 readings published".to_owned()),
        ..node("feed", "app/application", "actor", vec![])
    };
    let children = vec![
        NodeView { rate: Some(received), ..node("handlers", "app", "one-for-one", handlers) },
        line("publish", "publish-0", vec![publisher]),
        node("application", "app", "one-for-one", vec![feed]),
        line("consume", "consume-0", consumers.collect()),
    ];
    NodeView { path: "app".to_owned(), ..node("app", "", "one-for-one", children) }
}

fn node(id: &str, above: &str, kind: &str, children: Vec<NodeView>) -> NodeView {
    NodeView {
        id: id.to_owned(),
        path: format!("{above}/{id}"),
        kind: kind.to_owned(),
        state: "running".to_owned(),
        since: AT - 2 * HOUR,
        restarts: 0,
        restart_at: None,
        last_exit: None,
        mailbox: None,
        note: None,
        rate: None,
        children,
    }
}

fn connection(name: &str, channels: usize) -> ConnectionView {
    ConnectionView {
        name: name.to_owned(),
        endpoint: Some("127.0.0.1:5672".to_owned()),
        up: true,
        since: Some(AT - 2 * HOUR),
        connects: 2,
        channels,
        blocked: None,
        blocked_since: None,
    }
}

fn stage(stage: &'static str, base: f64, p50: f64, p99: f64, tick: u64) -> StageView {
    let jitter = wave(tick, 0.06);
    StageView { stage, count: (base * 60.0) as u64, p50: Some(p50 * jitter), p99: Some(p99 * jitter) }
}

fn outcome(outcome: &'static str, messages: u64) -> OutcomeView {
    OutcomeView { outcome, messages }
}

fn verdict(kind: &'static str, words: &str, advice: Option<&str>) -> VerdictView {
    VerdictView { kind, words: words.to_owned(), advice: advice.map(str::to_owned) }
}

/// A factor around 1 that goes up and down with `tick`.
fn wave(tick: u64, width: f64) -> f64 {
    let t = tick as f64;
    1.0 + width * (0.6 * (t / 11.0).sin() + 0.3 * (t / 3.7).sin() + 0.1 * (t * 1.9).sin())
}
