//! The names of all metrics, each with its unit, kind, labels and meaning.
//!
//! Source: OpenTelemetry's semantic conventions for messaging, version 1.42.0, status "Development"
//! (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/>), where they have a name; else a name
//! that begins with `fluffle.`. Prometheus's form of a name has `_` for `.`, ends in its unit, and in `_total` if it is
//! a counter (<https://prometheus.io/docs/practices/naming/>).

/// The version of the semantic conventions, as OpenTelemetry names their schema.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// The name, unit, kind, labels and meaning of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// As OpenTelemetry writes it, for example `messaging.process.duration`.
    pub otel: &'static str,
    /// As Prometheus writes it, for example `messaging_process_duration_seconds`. Of a counter, `_total` included.
    pub prometheus: &'static str,
    /// As OpenTelemetry (UCUM) writes it: `s`, `By`, or for example `{message}`.
    pub unit: &'static str,
    /// What its values do.
    pub kind: Kind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it counts or measures, in one sentence.
    pub help: &'static str,
}

/// What the values of a metric do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts values by size.
    Histogram,
}

impl Kind {
    /// The word that Prometheus's text formats use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! names {
    ($(
        $const:ident = $kind:ident $otel:literal, $prometheus:literal, $unit:literal, [$($label:literal),*],
        $help:literal;
    )*) => {
        $( #[doc = concat!("`", $prometheus, "`: ", $help)]
        pub static $const: Name = Name {
            otel: $otel, prometheus: $prometheus, unit: $unit, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        }; )*
        /// All of them, in the order in which they are rendered.
        pub static ALL: &[&Name] = &[$(&$const),*];
    };
}

names! {
    SENT = Counter "messaging.client.sent.messages", "messaging_client_sent_messages_total", "{message}", ["publisher"],
        "Messages that a publisher accepted to send.";
    PUBLISH_SETTLED = Counter "fluffle.publish.settled", "fluffle_publish_settled_total", "{message}",
        ["publisher", "outcome"], "Messages that a publisher accepted and that have their outcome.";
    PUBLISH_DURATION = Histogram "messaging.client.operation.duration", "messaging_client_operation_duration_seconds",
        "s", ["publisher"], "Time from the acceptance of a published message to its outcome.";
    PUBLISH_REPUBLISHED = Counter "fluffle.publish.republished", "fluffle_publish_republished_total", "{message}",
        ["publisher"],
        "Messages published again, under the same id, because their channel was lost before the confirm.";
    PUBLISH_BYTES = Counter "fluffle.publish.bytes", "fluffle_publish_bytes_total", "By", ["publisher"],
        "Bytes of the bodies of published messages that have their outcome, as sent.";
    PUBLISH_OUTSTANDING = Gauge "fluffle.publish.outstanding", "fluffle_publish_outstanding", "{message}",
        ["publisher"], "Messages that a publisher accepted and that have no outcome yet.";
    PUBLISH_IN_FLIGHT = Gauge "fluffle.publish.in_flight", "fluffle_publish_in_flight", "{message}", ["publisher"],
        "Publishes that are written to a channel and not confirmed yet.";
    PUBLISH_WINDOW = Gauge "fluffle.publish.window", "fluffle_publish_window", "{message}", ["publisher"],
        "The most messages that the publisher lets be without an outcome.";
    PUBLISH_STAGE = Histogram "fluffle.publish.stage.duration", "fluffle_publish_stage_duration_seconds", "s",
        ["publisher", "stage"], "Time of one stage of publishing: batch_wait or confirm.";
    RECEIVED = Counter "fluffle.consume.received", "fluffle_consume_received_total", "{delivery}", ["queue"],
        "Deliveries received from a queue; a batch is one delivery.";
    REDELIVERED = Counter "fluffle.consume.redelivered", "fluffle_consume_redelivered_total", "{delivery}", ["queue"],
        "Received deliveries that the broker had delivered before.";
    RECEIVED_BYTES = Counter "fluffle.consume.bytes", "fluffle_consume_bytes_total", "By", ["queue"],
        "Bytes of the bodies of received deliveries, as they came.";
    CONSUMED = Counter "messaging.client.consumed.messages", "messaging_client_consumed_messages_total", "{message}",
        ["queue"], "Messages whose handler has answered or has had its time; each attempt counts.";
    FAILED_ATTEMPTS = Counter "fluffle.consume.attempts.failed", "fluffle_consume_attempts_failed_total", "{message}",
        ["queue"], "Messages whose attempt failed: the handler returned a failure, crashed or took too long.";
    SETTLED = Counter "fluffle.consume.settled", "fluffle_consume_settled_total", "{message}", ["queue", "outcome"],
        "Messages settled with the broker, by what became of them.";
    SETTLED_DELIVERIES = Counter "fluffle.consume.deliveries.settled", "fluffle_consume_deliveries_settled_total",
        "{delivery}", ["queue"], "Deliveries settled with the broker.";
    LOST_DELIVERIES = Counter "fluffle.consume.deliveries.lost", "fluffle_consume_deliveries_lost_total", "{delivery}",
        ["queue"], "Deliveries whose channel ended before they were settled; the broker delivers them again.";
    RETRIED_HERE = Counter "fluffle.consume.retried_here", "fluffle_consume_retried_here_total", "{delivery}",
        ["queue"], "Deliveries that failed and are kept in the process until their next attempt.";
    CRASHED = Counter "fluffle.consume.crashed", "fluffle_consume_crashed_total", "{message}", ["queue"],
        "Messages in the hand of a handler that panicked or ended.";
    LATE = Counter "fluffle.consume.late", "fluffle_consume_late_total", "{message}", ["queue"],
        "Answers of handlers that came after their time was over.";
    ACK_LOST = Counter "fluffle.consume.ack_lost", "fluffle_consume_ack_lost_total", "{message}", ["queue"],
        "Messages that were handled and whose ack could not be written; the broker delivers them again.";
    REPLIES_UNROUTABLE = Counter "fluffle.consume.replies.unroutable", "fluffle_consume_replies_unroutable_total",
        "{message}", ["queue"], "Answers to requests that the broker returned, because their requester is gone.";
    OFFSETS_REMOVED = Counter "fluffle.stream.offsets.removed", "fluffle_stream_offsets_removed_total", "{offset}",
        ["queue"], "Offsets of a stream that retention had removed when its reader came to them.";
    STREAM_NEXT = Gauge "fluffle.stream.offset.next", "fluffle_stream_offset_next", "{offset}", ["queue"],
        "The first offset that the reader of a stream is not done with.";
    STREAM_DELIVERED = Gauge "fluffle.stream.offset.delivered", "fluffle_stream_offset_delivered", "{offset}",
        ["queue"], "One past the highest offset that was delivered to the reader of a stream.";
    STREAM_KEPT = Gauge "fluffle.stream.offset.kept", "fluffle_stream_offset_kept", "{offset}", ["queue"],
        "The offset in the reader's store, where it begins after a restart.";
    IN_HAND = Gauge "fluffle.consume.in_hand", "fluffle_consume_in_hand", "{delivery}", ["queue"],
        "Deliveries received and not settled yet.";
    PREFETCH = Gauge "fluffle.consume.prefetch", "fluffle_consume_prefetch", "{delivery}", ["queue"],
        "The most deliveries that the broker lets be unsettled, over the consumers of the queue in this process.";
    WAITING = Gauge "fluffle.consume.waiting", "fluffle_consume_waiting", "{delivery}", ["queue"],
        "Deliveries that wait in this process for a handler.";
    HANDLERS = Gauge "fluffle.consume.handlers", "fluffle_consume_handlers", "{handler}", ["queue"],
        "Handler actors of the queue.";
    BUSY_SECONDS = Counter "fluffle.consume.busy", "fluffle_consume_busy_seconds_total", "s", ["queue"],
        "Time that attempts have taken in handlers, summed up.";
    BATCH_SIZE = Histogram "fluffle.consume.batch.size", "fluffle_consume_batch_size", "{message}", ["queue"],
        "Messages in a received batch.";
    PROCESS_DURATION = Histogram "messaging.process.duration", "messaging_process_duration_seconds", "s", ["queue"],
        "Time from the start of an attempt to its answer.";
    CONSUME_STAGE = Histogram "fluffle.consume.stage.duration", "fluffle_consume_stage_duration_seconds", "s",
        ["queue", "stage"],
        "Time of one stage of consuming: broker, handler_wait, decode, handle, settle or retry_wait.";
    MESSAGE_AGE = Histogram "fluffle.message.age", "fluffle_message_age_seconds", "s", ["queue"],
        "Time from the first publish of a message to its settlement, waits for retries included.";
    CLOCK_SKEW = Counter "fluffle.clock.skew", "fluffle_clock_skew_total", "{message}", ["queue"],
        "Messages whose publisher's clock was ahead of this host's, so that their wait counts as zero.";
    CONSUMER_STATE = Gauge "fluffle.consumer.state", "fluffle_consumer_state", "1", ["queue", "state"],
        "Consumers of the queue that are in this state.";
    CONSUMER_TRANSITIONS = Counter "fluffle.consumer.transitions", "fluffle_consumer_transitions_total", "{transition}",
        ["queue", "to"], "Changes of a consumer's state, by the state that it took.";
    REQUESTS = Counter "fluffle.request.sent", "fluffle_request_sent_total", "{request}", ["requester"],
        "Requests that a requester accepted.";
    REQUEST_OUTCOMES = Counter "fluffle.request.settled", "fluffle_request_settled_total", "{request}",
        ["requester", "outcome"], "Requests that have their outcome.";
    LATE_ANSWERS = Counter "fluffle.request.answers.late", "fluffle_request_answers_late_total", "{message}",
        ["requester"], "Answers that came when their request was no longer waited for.";
    ANSWER_DURATION = Histogram "fluffle.request.duration", "fluffle_request_duration_seconds", "s", ["requester"],
        "Time from a request to its answer.";
    CONNECTION_UP = Gauge "fluffle.connection.up", "fluffle_connection_up", "1", ["connection"],
        "1 while the connection is up and the topology is declared, else 0.";
    CONNECTION_LOST = Counter "fluffle.connection.lost", "fluffle_connection_lost_total", "{connection}",
        ["connection", "reason"],
        "Times that the connection was lost, by AMQP's reply code, or `socket` if there was none.";
    CONNECTION_BLOCKED = Gauge "fluffle.connection.blocked", "fluffle_connection_blocked", "1", ["connection"],
        "1 while the broker does not read what is published on the connection, else 0.";
    CONNECTION_BLOCKED_SECONDS = Counter "fluffle.connection.blocked.time", "fluffle_connection_blocked_seconds_total",
        "s", ["connection"], "Time that the broker has blocked the connection, summed up.";
    CHANNELS_OPEN = Gauge "fluffle.channels.open", "fluffle_channels_open", "{channel}", ["connection"],
        "Open channels of the connection.";
    CHANNELS_LOST = Counter "fluffle.channels.lost", "fluffle_channels_lost_total", "{channel}", ["connection", "code"],
        "Channels that were lost, by AMQP's reply code, or `none`.";
    NODE_RESTARTS = Counter "fluffle.node.restarts", "fluffle_node_restarts_total", "{restart}", ["node", "reason"],
        "Restarts of a node of the supervision tree, by the kind of exit before.";
    NODE_STATE = Gauge "fluffle.node.state", "fluffle_node_state", "1", ["node", "state"],
        "1 for the state that the node is in.";
    NODE_RECOVERY = Histogram "fluffle.node.recovery.duration", "fluffle_node_recovery_duration_seconds", "s", ["node"],
        "Time from a node's exit to its being ready again.";
    MAILBOX_DEPTH = Gauge "fluffle.mailbox.depth", "fluffle_mailbox_depth", "{message}", ["node"],
        "Messages in the mailbox of an actor.";
    MAILBOX_CAPACITY = Gauge "fluffle.mailbox.capacity", "fluffle_mailbox_capacity", "{message}", ["node"],
        "The most messages that the mailbox holds.";
    ARBITER_LAG = Gauge "fluffle.arbiter.lag", "fluffle_arbiter_lag_seconds", "s", ["arbiter"],
        "How late the thread runs what it is given; it grows while something blocks the thread.";
    JOURNAL_UNCONFIRMED = Gauge "fluffle.journal.unconfirmed", "fluffle_journal_unconfirmed", "{message}",
        ["publisher"], "Messages in a publisher's journal that have no outcome yet.";
    JOURNAL_BYTES = Gauge "fluffle.journal.size", "fluffle_journal_bytes", "By", ["publisher"],
        "Bytes of the bodies in a publisher's journal.";
    JOURNAL_AGE = Gauge "fluffle.journal.oldest.age", "fluffle_journal_oldest_age_seconds", "s", ["publisher"],
        "Age of the oldest message in a publisher's journal, 0 if it is empty.";
    OUTBOX_PENDING = Gauge "fluffle.outbox.pending", "fluffle_outbox_pending", "{message}", ["publisher"],
        "Messages that wait in the outbox table that feeds the publisher.";
    OUTBOX_AGE = Gauge "fluffle.outbox.oldest.age", "fluffle_outbox_oldest_age_seconds", "s", ["publisher"],
        "Age of the oldest message that waits in the outbox table.";
    DEAD_LETTERS_READY = Gauge "fluffle.dead_letters.ready", "fluffle_dead_letters_ready", "{message}", ["queue"],
        "Messages that are ready in the dead-letter queue of the queue.";
    DEAD_LETTERS_REPLAYED = Counter "fluffle.dead_letters.replayed", "fluffle_dead_letters_replayed_total", "{message}",
        ["dead_letter_queue"], "Messages of the dead-letter queue that this process has published again.";
    READY = Gauge "fluffle.ready", "fluffle_ready", "1", [],
        "1 while the service does all of its work, as `/ready` says, else 0.";
    ALIVE = Gauge "fluffle.alive", "fluffle_alive", "1", [],
        "0 if a new process would do better, as `/live` says, else 1.";
    LEDGER_IMBALANCE = Gauge "fluffle.ledger.imbalance", "fluffle_ledger_imbalance", "{message}", ["side", "of"],
        "Missing from the ledger of a publisher (messages) or of a queue's consumers (deliveries): 0, or a defect.";
    SERIES_FOLDED = Counter "fluffle.telemetry.series.folded", "fluffle_telemetry_series_folded_total", "{series}", [],
        "Label sets past the limit of their metric, which are counted under `_other`.";
    BUILD_INFO = Gauge "fluffle.build.info", "fluffle_build_info", "1", ["version"],
        "1, with the version of Fluffle.";
}

/// The place of a name in [`ALL`].
pub(crate) fn place_of(name: &'static Name) -> usize {
    ALL.iter().position(|one| std::ptr::eq(*one, name)).unwrap_or(ALL.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_has_the_form_that_prometheus_asks_for() {
        for &&Name { otel, prometheus, unit, kind, labels, help } in ALL {
            let in_prometheus = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(prometheus.chars().all(in_prometheus), "{prometheus}");
            assert_eq!(prometheus.ends_with("_total"), kind == Kind::Counter, "{prometheus}");
            let base = prometheus.trim_end_matches("_total");
            assert!(unit != "s" || base.ends_with("_seconds"), "{prometheus}: {unit}");
            assert!(unit != "By" || base.ends_with("_bytes"), "{prometheus}: {unit}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{prometheus}: {help}");
            assert!(labels.iter().all(|label| label.chars().all(in_prometheus)), "{prometheus}: {labels:?}");
            let first_word = otel.split('.').next().unwrap_or_default();
            assert!(prometheus.starts_with(first_word) && matches!(first_word, "messaging" | "fluffle"), "{otel}");
        }
        let distinct: HashSet<_> = ALL.iter().map(|name| name.prometheus).collect();
        assert_eq!(distinct.len(), ALL.len());
    }
}
