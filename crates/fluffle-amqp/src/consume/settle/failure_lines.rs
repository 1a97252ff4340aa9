//! The log lines about messages that were not handled: one for each failed attempt.

use std::time::Duration;

use fluffle_wire::headers::Reason;

use crate::consume::{decide::verdict::Verdict, message::received::Received};

/// The attempt failed, and a copy of the message waits in the retry queue.
pub(crate) fn retry(message: &Received, wait: Duration, error: &str) {
    tracing::warn!(
        queue = %message.queue, message_id = message.id_or_dash(), attempt = message.attempt_number.get(),
        trace_id = message.trace_id(), error, retry_in = ?wait,
        "attempt failed: the message waits in a retry queue and is tried again"
    );
}

/// The attempt failed, and the message stays in this process, unacked.
pub(crate) fn retry_here(message: &Received, wait: Duration, error: &str) {
    tracing::warn!(
        queue = %message.queue, message_id = message.id_or_dash(), attempt = message.attempt_number.get(),
        trace_id = message.trace_id(), error, retry_in = ?wait,
        "attempt failed: the message waits in this process, unacked, and is tried again"
    );
}

/// The attempt failed, and a copy of the message is in the dead-letter queue.
pub(crate) fn dead_letter(message: &Received, dead_letters: &str, reason: &Reason, error: &str) {
    tracing::error!(
        queue = %message.queue, message_id = message.id_or_dash(), attempt = message.attempt_number.get(),
        trace_id = message.trace_id(), reason = reason.as_str(), error, dead_letter_queue = dead_letters,
        "not handled: the message is a dead letter now, and stays in the dead-letter queue until it is replayed"
    );
}

/// A request was not handled, and its requester is told.
pub(crate) fn refusal(message: &Received, reason: &Reason, error: &str) {
    let (queue, message_id, trace_id) = (&message.queue, message.id_or_dash(), message.trace_id());
    let (attempt, why) = (message.attempt_number.get(), reason.as_str());
    match reason {
        // The handler rejected the request, which is an answer and not an error.
        Reason::Rejected => tracing::debug!(%queue, message_id, trace_id, error, "request rejected by its handler"),
        _ => tracing::warn!(
            %queue, message_id, attempt, trace_id, reason = why, error,
            "request failed: its requester is told, and there is no retry"
        ),
    }
}

/// A message that was acked on arrival was not handled.
pub(crate) fn dropped(message: &Received, verdict: &Verdict, item: Option<usize>) {
    let Verdict::Drop { error, .. } = verdict else { return };
    tracing::error!(
        queue = %message.queue, message_id = message.id_or_dash(), attempt = message.attempt_number.get(),
        trace_id = message.trace_id(), item, error,
        "attempt failed: the message is dropped, because with at most once it was acked before it was handled"
    );
}
