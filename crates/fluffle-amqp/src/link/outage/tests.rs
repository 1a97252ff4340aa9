use std::{
    io::{self, Write},
    sync::Once,
};

use fluffle_supervise::ExitError;

use super::*;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&LOG).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A publisher and consumer in one.
#[derive(Default)]
struct Busy {
    under_way: Mutex<UnderWay>,
}

impl Traffic for Busy {
    fn under_way(&self) -> UnderWay {
        *lock(&self.under_way)
    }
}

/// One connection with one channel. Each test has connections of other names, because all tests share the log.
struct Bench {
    name: &'static str,
    outage: Outage,
    busy: Arc<Busy>,
    seat: Arc<Seat>,
}

impl Bench {
    fn new(name: &'static str, away: &Arc<Away>) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let log = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
            log.with_writer(|| ToLog).init();
        });
        let outage = Outage::new(name, away);
        let busy = Arc::new(Busy::default());
        let traffic: Weak<Busy> = Arc::downgrade(&busy);
        let seat = outage.seat(Some(traffic));
        Self { name, outage, busy, seat }
    }

    fn is(&self, unconfirmed: usize, unacked: usize, republished: u64, redelivered: u64) {
        *lock(&self.busy.under_way) = UnderWay { unconfirmed, unacked, republished, redelivered };
    }

    fn up(&self) {
        self.outage.up(&"amqp://here", (1, 2));
        self.seat.set_in_use(true);
    }

    /// The connection is lost, and its actor ends for that.
    fn lost(&self) {
        self.outage.lost(Some("amqp://here"), "it was cut");
        self.exits("it was cut");
    }

    /// The connection's actor ends, and waits for a second.
    fn exits(&self, why: &str) {
        let reason = ExitReason::Failed(Arc::new(ExitError::transient(why)));
        self.outage.hear(&What::Exited { reason });
        self.outage.hear(&What::Backoff { delay: Duration::from_secs(1), attempt: 1 });
    }

    /// The lines about this connection.
    fn lines(&self) -> Vec<String> {
        let log = String::from_utf8(lock(&LOG).clone()).unwrap();
        let about = format!("connection=\"{}\"", self.name);
        let plain = format!("connection={} ", self.name);
        let lines = log.lines().filter(|line| line.contains(&plain) || line.contains(&about));
        lines.map(|line| line.trim_start().to_owned()).collect()
    }
}

/// Runs the test with a clock that stands still, except for [`later`].
fn still(test: impl Future<Output = ()>) {
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    clock.block_on(test);
}

async fn later(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[test]
fn the_second_outage_counts_only_what_it_repeated_itself() {
    still(async {
        let bench = Bench::new("twice", &Arc::default());
        bench.up();
        bench.is(3, 4, 0, 0);
        bench.lost();
        later(1).await;
        bench.is(0, 0, 3, 4);
        bench.up();
        bench.outage.look();
        later(60).await;
        bench.is(5, 6, 3, 4);
        bench.lost();
        later(1).await;
        bench.is(0, 0, 8, 10);
        bench.up();
        bench.outage.look();
        bench.outage.look();
        let lines = bench.lines();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        for (line, words) in lines.iter().zip([
            "INFO connected",
            "was_up=0.00ns unconfirmed=3 unacked=4",
            "away=1.00s tries=0 republished=3 redelivered=4",
            "was_up=60.00s unconfirmed=5 unacked=6",
            "away=1.00s tries=0 republished=5 redelivered=6",
        ]) {
            assert!(line.contains(words), "{words:?} is missing: {line}");
        }
    });
}

#[test]
fn back_is_told_when_the_channels_are_in_use_or_after_five_seconds_with_those_that_are_not() {
    still(async {
        let bench = Bench::new("late", &Arc::default());
        bench.up();
        bench.lost();
        later(1).await;
        bench.up();
        bench.seat.set_in_use(false);
        later(1).await;
        bench.outage.look();
        assert!(bench.outage.is_going_on(), "told before its channel was in use");
        later(4).await;
        bench.outage.look();
        assert!(!bench.outage.is_going_on());
        let lines = bench.lines();
        assert!(lines.last().unwrap().contains("channels_not_yet_open=1"), "{lines:#?}");
    });
}

#[test]
fn a_connection_that_is_lost_again_at_once_has_one_story_and_a_line_for_each_doubling() {
    still(async {
        let bench = Bench::new("flaps", &Arc::default());
        bench.up();
        bench.lost();
        for _ in 0..32 {
            later(1).await;
            bench.up();
            bench.lost();
        }
        let lines = bench.lines();
        let away: Vec<&str> = lines.iter().filter_map(|line| line.split_once(" away=")?.1.split(' ').next()).collect();
        assert_eq!(away, ["2.00s", "4.00s", "8.00s", "16.00s", "32.00s"], "{lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.contains("connection lost")).count(), 1, "{lines:#?}");
    });
}

#[test]
fn two_connections_of_one_service_share_the_lines_in_between_and_a_new_outage_begins_anew() {
    still(async {
        let away = Arc::default();
        let (one, other) = (Bench::new("one", &away), Bench::new("other", &away));
        for bench in [&one, &other] {
            bench.up();
        }
        for _ in 0..2 {
            for bench in [&one, &other] {
                bench.lost();
            }
            for _ in 0..13 {
                later(1).await;
                one.exits("refused");
                other.exits("refused");
            }
            for bench in [&one, &other] {
                bench.up();
                bench.outage.look();
            }
        }
        let (one, other) = (one.lines(), other.lines());
        let between: Vec<&String> = one.iter().filter(|line| line.contains("no connection")).collect();
        assert_eq!(between.len(), 2 * 3, "{one:#?}");
        assert!(
            between.iter().all(|line| line.contains("connections=\"one, other\" cause=\"refused\"")),
            "{between:#?}"
        );
        assert_eq!(other.len(), 1 + 2 * 2, "connected, lost, back, lost, back: {other:#?}");
    });
}

#[test]
fn a_broker_that_is_away_at_the_start_is_told_at_once_and_so_is_a_certificate_that_goes_bad() {
    still(async {
        let bench = Bench::new("start", &Arc::default());
        for _ in 0..3 {
            bench.exits("refused");
            later(1).await;
        }
        bench.up();
        bench.lost();
        bench.outage.refused_certificate();
        bench.exits("expired");
        bench.outage.refused_certificate();
        bench.exits("expired");
        let lines = bench.lines();
        let begins: Vec<&str> = lines.iter().filter_map(|line| line.get(..24)).collect();
        assert_eq!(
            begins,
            [
                "WARN no connection to th",
                "WARN no connection to th",
                "WARN connected, topology",
                "WARN connection lost: 0 ",
                "ERROR TLS is refused, bu",
            ],
            "{lines:#?}"
        );
        assert!(lines[0].contains("tries=1") && lines[1].contains("tries=3"), "{lines:#?}");
    });
}

#[test]
fn a_seat_that_is_given_up_is_not_waited_for() {
    still(async {
        let Bench { outage, seat, .. } = Bench::new("left", &Arc::default());
        outage.up(&"amqp://here", (0, 0));
        outage.lost(None, "it was cut");
        outage.up(&"amqp://here", (0, 0));
        outage.look();
        assert!(outage.is_going_on(), "its channel is not in use");
        drop(seat);
        outage.look();
        assert!(!outage.is_going_on());
    });
}
