//! Makes the messages that a settlement publishes: retry copy, dead letter, answer, refusal. A copy has the body of its
//! original, unchanged.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use amq_protocol::frame::{GenError, WriteContext};
use bytes::Bytes;
use fluffle_wire::{
    Encoded,
    headers::{
        self, ATTEMPT_TRACE, Attempt as AttemptNumber, DeadLetterInfo, HeaderValue, Origin, Reason, TraceContext,
    },
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, generation::gen_field_table, parsing::parse_field_table},
};
use uuid::Uuid;

use crate::{
    base::requests::{DIRECT_REPLY_TO, Request, can_be_answered},
    consume::message::{identity, received::Received},
    link::sanitizer::{is_ours, shorten},
    publish::{message::Prepared, properties::put_trace},
};

/// Headers that no copy may carry. The broker also routes a message to the queues that `CC` and `BCC` name. If a copy
/// carried the delivery counts of the original, its consumer would believe them, because a broker that has not counted
/// yet leaves such a header as it is.
const NEVER_COPIED: [&str; 4] = ["CC", "BCC", "x-delivery-count", "x-acquired-count"];
/// Headers that a retry copy may not carry: because of them the broker takes the retry for a dead-letter cycle and
/// drops the copy.
const NOT_ON_RETRIES: [&str; 7] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

/// Headers of a copy that a message that starts over keeps: the span of the attempt before, which the next one links,
/// and what says what is in a batch.
const KEPT_ON_REPLAYS: [&str; 3] = [ATTEMPT_TRACE, headers::ITEM_TYPES, headers::ITEM_TRACES];

/// Whether a header tells about earlier copies of a message. A message that starts over carries none of these headers.
pub(crate) fn tells_of_the_past(name: &str) -> bool {
    if KEPT_ON_REPLAYS.contains(&name) {
        return false;
    }
    name.starts_with("x-fluffle-") || NOT_ON_RETRIES.contains(&name) || NEVER_COPIED.contains(&name)
}

/// A copy for the retry queue `queue`. It returns as attempt number `attempt` after `wait`, or after the queue's own
/// time to live if that is shorter.
pub(crate) fn retry(received: &Received, queue: &str, attempt: AttemptNumber, wait: Duration, error: &str) -> Prepared {
    let mut copy = again(received, queue, attempt, error);
    copy.properties = copy.amqp_properties().with_expiration(wait.as_millis().to_string().into()).into();
    copy
}

/// A copy for `queue` that counts as attempt number `attempt`.
pub(crate) fn again(received: &Received, queue: &str, attempt: AttemptNumber, error: &str) -> Prepared {
    let mut table = carried(received);
    for name in NOT_ON_RETRIES {
        remove(&mut table, name);
    }
    begins_anew(received, &mut table);
    put(&mut table, attempt.header());
    if let Some(deadline) = received.request.as_ref().and_then(Request::deadline) {
        put(&mut table, (headers::DEADLINE, HeaderValue::Int(deadline)));
    }
    put(&mut table, (headers::RETRIED_AT, HeaderValue::Int(headers::millis(SystemTime::now()))));
    put(&mut table, (headers::ERROR, HeaderValue::Str(cut(error))));
    for header in origin(received).headers() {
        put(&mut table, header);
    }
    send(received, queue, table)
}

/// For a dead letter that somebody put back with its headers. The copy for its next attempt must not look like a dead
/// letter, or each attempt would count as the first one. It gets the header of a replay, which distinguishes it from
/// the message that died.
fn begins_anew(received: &Received, table: &mut FieldTable) {
    if received.header(headers::REASON).is_some() {
        remove(table, headers::REASON);
        if let Some(replay) = identity::replay(received) {
            put(table, (headers::REPLAY, HeaderValue::Str(&replay)));
        }
    }
}

/// A copy for the dead-letter queue `queue`, with headers that say why the message died and where it came from.
pub(crate) fn dead_letter(received: &Received, queue: &str, reason: &Reason, error: &str) -> Prepared {
    let mut table = carried(received);
    remove(&mut table, headers::RETRIED_AT);
    let info = DeadLetterInfo {
        reason: reason.clone(),
        error: error.to_owned(),
        attempts: received.attempt_number,
        origin: origin(received),
    };
    for header in info.headers() {
        put(&mut table, header);
    }
    send(received, queue, table)
}

/// The answer to a request. `None` if the message has no reply address, or one that cannot be answered.
///
/// `span` is that of the attempt, which the answer belongs to.
pub(crate) fn reply(received: &Received, span: Option<&TraceContext>, encoded: Encoded) -> Option<Prepared> {
    let properties = BasicProperties::default()
        .with_content_type((&*encoded.content_type).into())
        .with_type((&*encoded.type_name).into());
    let properties = match encoded.content_encoding {
        Some(encoding) => properties.with_content_encoding(encoding.into()),
        None => properties,
    };
    let trace = trace_of(received, span);
    let properties = if trace.inner().is_empty() { properties } else { properties.with_headers(trace) };
    to_requester(received, properties, encoded.body)
}

/// The headers of an answer: the span of the attempt, else the one that sent the request.
fn trace_of(received: &Received, span: Option<&TraceContext>) -> FieldTable {
    let mut table = FieldTable::default();
    if let Some(trace) = span.cloned().or_else(|| received.trace()) {
        put_trace(&mut table, &trace);
    }
    table
}

/// The copy, with the span of the attempt that it follows. The header with the span that sent the message stays.
pub(crate) fn after_attempt(mut copy: Prepared, span: Option<&TraceContext>) -> Prepared {
    let properties = copy.amqp_properties();
    let Some(table) = properties.headers() else { return copy };
    if span.is_none() && !table.contains_key(ATTEMPT_TRACE) {
        return copy;
    }
    let mut table = table.clone();
    match span {
        Some(span) => put(&mut table, (ATTEMPT_TRACE, HeaderValue::Str(&span.traceparent()))),
        None => remove(&mut table, ATTEMPT_TRACE),
    }
    copy.properties = properties.with_headers(table).into();
    copy
}

/// The message that tells a requester that its request was not handled, and why. `None` as for [`reply`].
pub(crate) fn refusal(
    received: &Received,
    span: Option<&TraceContext>,
    reason: &Reason,
    error: &str,
) -> Option<Prepared> {
    let mut table = trace_of(received, span);
    put(&mut table, (headers::REASON, HeaderValue::Str(reason.as_str())));
    put(&mut table, (headers::ERROR, HeaderValue::Str(cut(error))));
    to_requester(received, BasicProperties::default().with_headers(table), Bytes::new())
}

fn to_requester(received: &Received, properties: BasicProperties, body: Bytes) -> Option<Prepared> {
    let reply_to = received.properties.reply_to().as_ref()?.as_str().to_owned();
    if !can_be_answered(&reply_to) {
        tracing::warn!(
            queue = %received.queue, message_id = received.id_or_dash(), attempt = received.attempt_number.get(),
            trace_id = received.trace_id(), reply_to,
            "no answer sent, because the broker did not make this reply address"
        );
        return None;
    }
    // An answer to a direct reply-to address goes to the requester without a queue (RabbitMQ, "Direct Reply-to"). With
    // `mandatory`, the broker would return it as unroutable although it has arrived.
    let mandatory = !reply_to.starts_with(DIRECT_REPLY_TO);
    let id = new_id();
    let mut properties = properties.with_message_id(id.as_str().into()).with_delivery_mode(1);
    if let Some(correlation) = received.properties.correlation_id() {
        properties = properties.with_correlation_id(correlation.clone());
    }
    Some(Prepared { mandatory, ..Prepared::new(id, "", reply_to, properties, body) })
}

/// An upper bound for the bytes that the broker adds to the headers of a message when it dead-letters it, without the
/// names of queues and exchanges.
const DEATH: usize = 512;

/// The copy, with headers shortened so that its properties fit into `most` bytes. If `dies_in_queue`, they still fit
/// after the broker has dead-lettered the copy. A header of the copy names the headers that were shortened.
pub(crate) fn fit(mut copy: Prepared, most: usize, dies_in_queue: bool) -> Prepared {
    // `x-death` contains the queue's name twice, and the headers about the first and the last death once each.
    let reserved = if dies_in_queue { DEATH + 4 * copy.routing_key.len() } else { 0 };
    let (bytes, most) = (copy.header_bytes(), most.saturating_sub(reserved));
    if bytes <= most {
        return copy;
    }
    let mut properties = copy.amqp_properties();
    let Some(table) = properties.headers().as_ref().and_then(encoded) else { return copy };
    let others = bytes - table.len();
    let shortened = shorten(table, most.saturating_sub(others));
    properties = properties.with_headers(decoded(&shortened).unwrap_or_default());
    copy.properties = properties.into();
    copy
}

/// The copy without foreign headers, and without properties that concern only its sender: it keeps its id, its
/// expiration, and the properties that say what the body is.
pub(crate) fn plain(mut copy: Prepared) -> Prepared {
    let all = copy.amqp_properties();
    let mut table = FieldTable::default();
    for (name, value) in all.headers().iter().flat_map(FieldTable::inner) {
        if is_ours(name.as_str(), value) {
            table.insert(name.clone(), value.clone());
        }
    }
    let mut properties =
        BasicProperties::default().with_message_id(copy.id().into()).with_delivery_mode(2).with_headers(table);
    if let Some(value) = all.content_type() {
        properties = properties.with_content_type(value.clone());
    }
    if let Some(value) = all.content_encoding() {
        properties = properties.with_content_encoding(value.clone());
    }
    if let Some(value) = all.kind() {
        properties = properties.with_type(value.clone());
    }
    if let Some(value) = all.expiration() {
        properties = properties.with_expiration(value.clone());
    }
    copy.properties = properties.into();
    copy
}

/// The content of a table as it is on the wire, without the length in front.
fn encoded(table: &FieldTable) -> Option<Vec<u8>> {
    let written: Result<_, GenError> = gen_field_table(table)(WriteContext::from(Vec::new()));
    let (mut bytes, _) = written.ok()?.into_inner();
    Some(bytes.split_off(4))
}

fn decoded(content: &[u8]) -> Option<FieldTable> {
    let length = u32::try_from(content.len()).ok()?;
    let bytes = [&length.to_be_bytes(), content].concat();
    parse_field_table(&bytes[..]).ok().map(|(_, table)| table)
}

fn carried(received: &Received) -> FieldTable {
    let mut table = received.headers().cloned().unwrap_or_default();
    for name in NEVER_COPIED {
        remove(&mut table, name);
    }
    table
}

/// A message with the original's body and properties, and with `table` as headers. It is sent through the default
/// exchange to `queue`, so that no other queue gets it.
///
/// Two properties are left out: `expiration`, because the copy has a lifetime of its own, and `user_id`, because the
/// broker refuses the id of another user.
pub(crate) fn send(received: &Received, queue: &str, table: FieldTable) -> Prepared {
    let original = &received.properties;
    let id = received.message_id().map_or_else(new_id, str::to_owned);
    let mut properties =
        BasicProperties::default().with_message_id(id.as_str().into()).with_delivery_mode(2).with_headers(table);
    if let Some(value) = original.content_type() {
        properties = properties.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        properties = properties.with_content_encoding(value.clone());
    }
    if let Some(value) = original.kind() {
        properties = properties.with_type(value.clone());
    }
    if let Some(value) = original.correlation_id() {
        properties = properties.with_correlation_id(value.clone());
    }
    if let Some(value) = original.reply_to() {
        properties = properties.with_reply_to(value.clone());
    }
    if let Some(value) = original.priority() {
        properties = properties.with_priority(*value);
    }
    if let Some(value) = original.timestamp() {
        properties = properties.with_timestamp(*value);
    }
    if let Some(value) = original.app_id() {
        properties = properties.with_app_id(value.clone());
    }
    Prepared::new(id, "", queue, properties, received.body.clone())
}

/// Where and when a consumer first received the message. An earlier copy carries it; otherwise it is here and now.
fn origin(received: &Received) -> Origin {
    received.origin.as_deref().cloned().unwrap_or_else(|| Origin {
        exchange: received.exchange.to_string(),
        key: received.routing_key.to_string(),
        queue: received.queue.to_string(),
        first_seen: whole_milliseconds(SystemTime::now()),
    })
}

fn whole_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn cut(error: &str) -> &str {
    let mut end = error.len().min(DeadLetterInfo::ERROR_BYTES);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

fn put(table: &mut FieldTable, (name, value): (&str, HeaderValue<'_>)) {
    let value = match value {
        HeaderValue::Str(text) => AMQPValue::LongString(text.into()),
        HeaderValue::Int(number) => AMQPValue::LongLongInt(number),
    };
    table.insert(name.into(), value);
}

fn remove(table: &mut FieldTable, name: &str) {
    if table.contains_key(name) {
        *table = table.inner().iter().filter(|(key, _)| key.as_str() != name).fold(
            FieldTable::default(),
            |mut kept, (key, value)| {
                kept.insert(key.clone(), value.clone());
                kept
            },
        );
    }
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::message::received::tests::{received, received_with};
    use fluffle_wire::headers::TRACEPARENT;

    fn text(message: &Prepared, name: &str) -> Option<AMQPValue> {
        message.amqp_properties().headers().as_ref()?.inner().get(name).cloned()
    }

    #[test]
    fn a_retry_copy_goes_to_its_queue_alone_and_counts_on() {
        let mut table = FieldTable::default();
        for name in ["CC", "BCC", "x-death", "x-delivery-count"] {
            table.insert(name.into(), AMQPValue::LongString("bad".into()));
        }
        table.insert("mine".into(), AMQPValue::LongString("kept".into()));
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_expiration("5".into())
            .with_user_id("somebody".into())
            .with_message_id("m1".into())
            .with_content_encoding("gzip".into());
        let original = received_with(1, properties);
        let copy = retry(&original, "q.retry.1000", original.attempt_number.next(), Duration::from_secs(1), "no");
        assert_eq!((copy.exchange(), copy.routing_key(), copy.mandatory), ("", "q.retry.1000", true));
        assert_eq!(copy.id(), "m1");
        assert_eq!(copy.body, original.body);
        let properties = copy.amqp_properties();
        assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "1000", "the wait replaces the old lifetime");
        assert!(properties.user_id().is_none());
        assert_eq!(properties.content_encoding().as_ref().unwrap().as_str(), "gzip");
        for name in ["CC", "BCC", "x-death", "x-delivery-count"] {
            assert!(text(&copy, name).is_none(), "{name}");
        }
        assert!(text(&copy, "mine").is_some());
        assert_eq!(text(&copy, headers::ATTEMPT), Some(AMQPValue::LongLongInt(2)));
    }

    #[test]
    fn a_dead_letter_has_been_delivered_to_nobody_yet() {
        let mut table = FieldTable::default();
        for name in ["x-delivery-count", "x-acquired-count", "x-death"] {
            table.insert(name.into(), AMQPValue::LongLongInt(8));
        }
        let original = received_with(1, BasicProperties::default().with_headers(table));
        let dead = dead_letter(&original, "q.dead", &Reason::Rejected, "never");
        assert!(text(&dead, "x-delivery-count").is_none() && text(&dead, "x-acquired-count").is_none());
        assert!(text(&dead, "x-death").is_some(), "a dead letter keeps the history of its deaths");
    }

    #[test]
    fn the_retry_of_a_dead_letter_that_was_put_back_counts_on_and_stays_the_same_message() {
        for replay in [None, Some("monday")] {
            let mut table = FieldTable::default();
            table.insert(headers::REASON.into(), AMQPValue::LongString("rejected".into()));
            if let Some(replay) = replay {
                table.insert(headers::REPLAY.into(), AMQPValue::LongString(replay.into()));
            }
            let letter = received_with(0, BasicProperties::default().with_message_id("m1".into()).with_headers(table));
            assert_eq!(letter.attempt_number, AttemptNumber::FIRST);
            let copy = retry(&letter, "q.retry.1", letter.attempt_number.next(), Duration::from_secs(1), "no");
            let second = received_with(0, copy.amqp_properties());
            assert_eq!(second.attempt_number.get(), 2, "if it stayed 1, the message would be retried for ever");
            assert_eq!(identity::key(&second), identity::key(&letter));
        }
    }

    #[test]
    fn the_first_origin_is_kept_through_every_copy() {
        let first = received(1);
        let copy = retry(&first, "q.retry.1", first.attempt_number.next(), Duration::from_secs(1), "no");
        let second = received_with(2, copy.amqp_properties());
        let dead = dead_letter(&second, "q.dead", &Reason::Rejected, "never");
        assert_eq!(text(&dead, headers::ORIGIN_KEY), text(&copy, headers::ORIGIN_KEY));
        assert_eq!(text(&dead, headers::FIRST_SEEN), text(&copy, headers::FIRST_SEEN));
    }

    fn with_header(name: &str, length: usize) -> Received {
        let mut table = FieldTable::default();
        table.insert(name.into(), AMQPValue::LongString("b".repeat(length).into()));
        table.insert("small".into(), AMQPValue::Boolean(true));
        received_with(1, BasicProperties::default().with_headers(table).with_correlation_id("c".into()))
    }

    #[test]
    fn a_copy_fits_into_the_frame_and_says_what_was_shortened() {
        for most in [4076, 131_052] {
            let original = with_header("blob", most);
            let dead = fit(dead_letter(&original, "q.dead", &Reason::Rejected, "never"), most, false);
            assert!(dead.header_bytes() <= most && dead.header_bytes() > most - 300, "{}", dead.header_bytes());
            assert_eq!(text(&dead, headers::SHORTENED), Some(AMQPValue::LongString("blob".into())));
            assert_eq!(text(&dead, headers::REASON), Some(AMQPValue::LongString("rejected".into())));
            assert_eq!(text(&dead, "small"), Some(AMQPValue::Boolean(true)));

            let again = retry(&original, "q.retry.1000", original.attempt_number.next(), Duration::from_secs(1), "no");
            let again = fit(again, most, true);
            assert!(again.header_bytes() + DEATH <= most, "there is room for x-death");
            assert_eq!(text(&again, headers::ATTEMPT), Some(AMQPValue::LongLongInt(2)));
        }
        let small = dead_letter(&with_header("blob", 10), "q.dead", &Reason::Rejected, "never");
        assert_eq!(fit(small.clone(), 4076, false).amqp_properties(), small.amqp_properties());
    }

    #[test]
    fn a_plain_copy_keeps_its_story_and_what_its_body_is() {
        let original = with_header("blob", 10);
        let plain =
            plain(retry(&original, "q.retry.1", original.attempt_number.next(), Duration::from_millis(7), "no"));
        assert!(text(&plain, "blob").is_none() && text(&plain, "small").is_none());
        assert_eq!(text(&plain, headers::ATTEMPT), Some(AMQPValue::LongLongInt(2)));
        let properties = plain.amqp_properties();
        assert!(properties.correlation_id().is_none());
        assert_eq!(properties.expiration().as_ref().unwrap().as_str(), "7", "the copy keeps its wait");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), plain.id());
    }

    #[test]
    fn an_answer_to_a_direct_reply_to_address_is_not_to_be_returned() {
        let refused = |reply_to: &str| {
            let asked = received_with(1, BasicProperties::default().with_reply_to(reply_to.into()));
            refusal(&asked, None, &Reason::Rejected, "no").unwrap()
        };
        assert!(!refused("amq.rabbitmq.reply-to.g1h2").mandatory);
        assert!(refused("answers").mandatory);
    }

    #[test]
    fn an_error_of_any_length_is_cut_between_characters() {
        let long = "é".repeat(DeadLetterInfo::ERROR_BYTES);
        assert!(cut(&long).len() <= DeadLetterInfo::ERROR_BYTES);
    }

    #[test]
    fn an_answer_carries_the_span_of_its_attempt_or_the_trace_of_its_request() {
        let request = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut table = FieldTable::default();
        table.insert(TRACEPARENT.into(), AMQPValue::LongString(request.into()));
        table.insert("mine".into(), AMQPValue::LongString("not the requester's".into()));
        let address = format!("{DIRECT_REPLY_TO}.abc");
        let asked = received_with(1, BasicProperties::default().with_headers(table).with_reply_to(address.into()));
        let span = TraceContext::new([1; 16], [2; 8], true).unwrap();
        for (span, expected) in [(None, request.to_owned()), (Some(&span), span.traceparent())] {
            let encoded = Encoded {
                content_type: "text/plain".into(),
                type_name: "t".into(),
                item_types: None,
                content_encoding: None,
                items: 1,
                raw_len: 0,
                body: Bytes::new(),
            };
            for answer in
                [reply(&asked, span, encoded).unwrap(), refusal(&asked, span, &Reason::Rejected, "no").unwrap()]
            {
                assert_eq!(text(&answer, TRACEPARENT), Some(AMQPValue::LongString(expected.clone().into())));
                assert!(text(&answer, "mine").is_none());
            }
        }
    }
}
