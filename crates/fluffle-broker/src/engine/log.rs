//! The log of a stream: messages in segments, which retention removes as a whole (RabbitMQ's library is Osiris).
//!
//! Each message is a chunk of its own here, as it is in RabbitMQ if it is confirmed before the next one is published.

use std::{collections::VecDeque, ops::Range, rc::Rc};

use super::message::Message;

/// Bytes that a segment's file takes without messages.
const EMPTY_SEGMENT: u64 = 8;

/// About how many bytes the chunk takes with which a segment begins: the numbers of the publishers' last messages.
const SNAPSHOT: u64 = 110;

/// About how many bytes a message takes in a segment besides its body and properties: the header of its chunk, and the
/// sections of an AMQP 1.0 message.
const OVERHEAD: u64 = 130;

/// The most chunks of a segment in RabbitMQ.
const MOST_CHUNKS: usize = 256_000;

/// What a stream keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// At this size a segment is full (`x-stream-max-segment-size-bytes`).
    pub(crate) segment_bytes: u64,
    /// `x-max-length-bytes`
    pub(crate) most_bytes: Option<u64>,
    /// `x-max-age`, in milliseconds.
    pub(crate) most_age: Option<u64>,
}

#[derive(Debug)]
struct Record {
    message: Rc<Message>,
    /// When it was published, in milliseconds since 1970.
    time: u64,
}

#[derive(Debug)]
struct Segment {
    /// Its first offset. It has no message, except in the first segment of a stream.
    first: u64,
    /// The offset of its first message.
    start: u64,
    records: Vec<Record>,
    bytes: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    fn is_full(&self, limit: u64) -> bool {
        // A limit below the size of an empty segment makes RabbitMQ open segments for ever. Here, each has a message.
        !self.records.is_empty() && (self.bytes >= limit || self.records.len() >= MOST_CHUNKS)
    }
}

/// The messages of a stream.
#[derive(Debug)]
pub(crate) struct Log {
    retention: Retention,
    /// Oldest first. Each has a message.
    segments: VecDeque<Segment>,
    next: u64,
    messages: usize,
    body_bytes: u64,
}

impl Log {
    pub(crate) fn new(retention: Retention) -> Self {
        Self { retention, segments: VecDeque::new(), next: 0, messages: 0, body_bytes: 0 }
    }

    /// Adds a message. If the last segment is full, it begins a new one, and removes segments past the limits.
    pub(crate) fn append(&mut self, message: Rc<Message>, time: u64) {
        let full = self.segments.back().is_none_or(|last| last.is_full(self.retention.segment_bytes));
        if full {
            let first = self.next;
            let snapshot = !self.segments.is_empty();
            let start = first + u64::from(snapshot);
            let bytes = EMPTY_SEGMENT + if snapshot { SNAPSHOT } else { 0 };
            self.segments.push_back(Segment { first, start, records: Vec::new(), bytes });
            self.drop_surplus();
            self.drop_aged(time);
        }
        let Some(last) = self.segments.back_mut() else { return };
        last.bytes += message.stored_bytes() as u64 + OVERHEAD;
        self.messages += 1;
        self.body_bytes += message.body.len() as u64;
        last.records.push(Record { message, time });
        self.next = last.end();
    }

    /// Keeps as many of the newest segments as fit, and always the last.
    fn drop_surplus(&mut self) {
        let Some(most) = self.retention.most_bytes else { return };
        let mut left = most;
        let fitting = self.segments.iter().rev().enumerate().take_while(|(index, segment)| {
            let fits = segment.bytes <= left;
            left = left.saturating_sub(segment.bytes);
            *index == 0 || fits
        });
        let kept = fitting.count();
        while self.segments.len() > kept {
            self.drop_oldest();
        }
    }

    /// Removes the oldest segments while their last message is too old, but never the last segment.
    fn drop_aged(&mut self, now: u64) {
        let Some(age) = self.retention.most_age else { return };
        let too_old =
            |segment: &Segment| segment.records.last().is_some_and(|last| last.time < now.saturating_sub(age));
        while self.segments.len() > 1 && self.segments.front().is_some_and(too_old) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(dropped) = self.segments.pop_front() else { return };
        self.messages -= dropped.records.len();
        self.body_bytes -= dropped.records.iter().map(|record| record.message.body.len() as u64).sum::<u64>();
    }

    /// From the first offset that is kept to the next one.
    pub(crate) fn offsets(&self) -> Range<u64> {
        self.segments.front().map_or(self.next, |first| first.first)..self.next
    }

    /// How many messages there are. Not every offset has a message.
    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes in the bodies of the messages.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The first message at an offset or behind it.
    pub(crate) fn at(&self, offset: u64) -> Option<(u64, &Rc<Message>)> {
        let segment = self.segments.get(self.segments.partition_point(|segment| segment.end() <= offset))?;
        let offset = offset.max(segment.start);
        let record = segment.records.get(usize::try_from(offset - segment.start).ok()?)?;
        Some((offset, &record.message))
    }

    /// The offset of the last message; that of the next one if there is none.
    pub(crate) fn last(&self) -> u64 {
        self.segments.back().map_or(self.next, |last| last.end().saturating_sub(1))
    }

    /// The offset of the first message that was published at a time or later; that of the next one if there is none.
    pub(crate) fn since(&self, time: u64) -> u64 {
        let earlier = |record: &Record| record.time < time;
        let at = self.segments.partition_point(|segment| segment.records.last().is_some_and(earlier));
        let Some(segment) = self.segments.get(at) else { return self.next };
        segment.start + segment.records.partition_point(earlier) as u64
    }

    /// All messages with their offsets, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Rc<Message>)> {
        self.segments
            .iter()
            .flat_map(|segment| (segment.start..).zip(segment.records.iter().map(|record| &record.message)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::{Memory, message::Properties};

    const BODY: usize = 1000;

    fn log(most_bytes: Option<u64>, most_age: Option<u64>) -> Log {
        Log::new(Retention { segment_bytes: 3000, most_bytes, most_age })
    }

    fn message(memory: &Memory) -> Rc<Message> {
        let properties = Properties::scan(Bytes::from_static(&[0, 0])).unwrap();
        let place = (Rc::from(""), Rc::from(&b"q"[..]));
        Rc::new(Message::new(memory, place, properties, Bytes::from(vec![0; BODY]), None))
    }

    /// Appends one message a millisecond.
    fn filled(mut log: Log, count: u64) -> (Log, Memory) {
        let memory = Memory::default();
        (0..count).for_each(|time| log.append(message(&memory), time));
        (log, memory)
    }

    #[test]
    fn each_segment_but_the_first_takes_an_offset() {
        let (log, _) = filled(log(None, None), 7);
        let offsets: Vec<u64> = log.iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [0, 1, 2, 4, 5, 6, 8]);
        assert_eq!((log.offsets(), log.messages(), log.last()), (0..9, 7, 8));
        assert_eq!(log.at(3).map(|(offset, _)| offset), Some(4));
        assert_eq!((log.at(8).map(|(offset, _)| offset), log.at(9).map(|(offset, _)| offset)), (Some(8), None));
    }

    #[test]
    fn memory_is_bounded_by_the_length_and_a_segment() {
        let (log, memory) = filled(log(Some(10_000), None), 10_000);
        assert!(log.messages() <= 13, "{}", log.messages());
        assert_eq!(log.body_bytes(), (log.messages() * BODY) as u64);
        assert!(memory.used() < 20_000, "{}", memory.used());
        assert_eq!(log.iter().count(), log.messages());
    }

    #[test]
    fn age_removes_all_segments_that_ended_before_and_never_the_last() {
        let (log, _) = filled(log(None, Some(5)), 100);
        // The segment that began last did so at 99, and those that ended at 94 or later stayed.
        assert_eq!(log.iter().next().map(|(offset, _)| offset), Some(124));
        let memory = Memory::default();
        let mut alone = super::tests::log(None, Some(5));
        alone.append(message(&memory), 0);
        alone.append(message(&memory), 1_000_000);
        assert_eq!(alone.messages(), 2);
    }

    #[test]
    fn a_time_finds_the_first_message_that_is_not_older() {
        let (log, _) = filled(log(None, None), 7);
        let since = [0, 2, 3, 6, 7].map(|time| log.since(time));
        assert_eq!(since, [0, 2, 4, 8, 9]);
        assert_eq!(super::tests::log(None, None).since(5), 0);
    }

    #[test]
    fn a_segment_without_room_takes_one_message_and_no_more() {
        let mut log = Log::new(Retention { segment_bytes: 0, most_bytes: Some(0), most_age: None });
        let memory = Memory::default();
        (0..5).for_each(|time| log.append(message(&memory), time));
        assert_eq!((log.offsets(), log.messages()), (7..9, 1));
    }
}
