//! Finds settings of a consumer that exclude one another.

use std::borrow::Cow;

use crate::{
    consume::spec::{consume::Consume, guarantee::Guarantee},
    topology::{Queue, QueueKind, Topology},
};

/// Why a consumer without a reader refuses a stream, and what to do instead.
pub(crate) const NO_STREAMS: &str = "it is a stream. A stream does not remember what was read, so without a kept \
     offset messages that arrive while the connection is lost would be skipped silently. Say who reads it and where \
     the offset is kept: `Consume::stream(StreamReader::new(\"<name>\", store))`";

/// Why a consumer with a reader refuses a queue, and what to do instead.
pub(crate) const STREAMS_ONLY: &str =
    "`Consume::stream` reads streams only: remove it, or declare the queue with `Queue::stream`";

/// A contradiction in the settings of one consumer.
pub(crate) struct Contradiction {
    /// The consumer's queue.
    pub(crate) of: String,
    /// Which settings exclude one another, why, and what to do.
    pub(crate) why: Cow<'static, str>,
}

impl<T, R> Consume<T, R> {
    /// Whether the handlers may be given all messages of a batch at once.
    pub(crate) fn check_batches(&self) -> Result<(), Contradiction> {
        if self.key.is_none() {
            return Ok(());
        }
        self.contradiction(
            "`ordered_by` gives each handler instance only the messages of its own keys, but a batch of \
             `consume_batches` has messages of all keys: use `consume`, or remove `ordered_by`",
        )
    }

    /// Whether the queue is of a kind that can be consumed from, if the application declares it. For any other queue,
    /// the broker's answer to `basic.consume` shows it.
    pub(crate) fn check_kind(&self, application: &Topology) -> Result<(), Contradiction> {
        match application.find_queue(&self.queue).map(Queue::kind) {
            Some(QueueKind::Stream) if self.stream.is_none() => self.contradiction(NO_STREAMS),
            Some(QueueKind::Classic | QueueKind::Quorum) if self.stream.is_some() => self.contradiction(
                "the topology declares it as a queue, and `stream` reads streams only: remove `stream`, or declare it \
                 with `Queue::stream`",
            ),
            _ => Ok(()),
        }
    }

    /// Whether the other settings go with reading a stream.
    pub(crate) fn check_stream(&self) -> Result<(), Contradiction> {
        let Some(reader) = &self.stream else { return Ok(()) };
        if reader.name.is_empty() {
            return self.contradiction(
                "its reader has an empty name, under which no offset can be kept: give `StreamReader::new` a name",
            );
        }
        if self.guarantee == Guarantee::AtMostOnce {
            return self.contradiction(
                "`AtMostOnce` acks on arrival, but an ack says nothing to a stream, and the reader's offset is kept \
                 after the work: remove `guarantee`",
            );
        }
        if self.lanes > 1 {
            return self.contradiction(
                "each of the `lanes` would be given all messages of the stream: remove `lanes`, and use `instances` \
                 for more handlers",
            );
        }
        if self.exclusive {
            return self.contradiction(
                "a stream has any number of readers and none of them is `exclusive`: remove that setting",
            );
        }
        if self.priority.is_some() {
            return self.contradiction(
                "a stream knows no `priority` of its readers, because each is given all messages: remove that setting",
            );
        }
        Ok(())
    }

    /// Whether the other settings allow more than one lane.
    pub(crate) fn check_lanes(&self, application: &Topology) -> Result<(), Contradiction> {
        if self.lanes == 1 {
            return Ok(());
        }
        if self.key.is_some() {
            return self.contradiction(
                "`ordered_by` keeps order within one channel, but the broker distributes the messages of one key among \
                 all `lanes`: remove one of the two settings",
            );
        }
        if self.exclusive {
            return self.contradiction(
                "`exclusive` allows a single consumer of the queue, and each of the `lanes` is one: \
                 remove one of the two settings",
            );
        }
        if self.is_temporary(application) {
            return self.contradiction(
                "a temporary queue belongs to one connection, and `lanes` may be on several: remove `lanes`",
            );
        }
        if application.find_queue(&self.queue).is_some_and(Queue::is_single_active_consumer) {
            return self.contradiction(
                "the queue has a single active consumer, as those of `Topology::partitioned` have, and each of the \
                 `lanes` is a consumer, so all but one would stand by: remove `lanes`, and use more partitions instead",
            );
        }
        Ok(())
    }

    /// Whether each alias stands for a type of this consumer.
    pub(crate) fn check_aliases(&self) -> Result<(), Contradiction> {
        match self.aliased.iter().find(|name| !self.wire.reads_type(name)) {
            Some(name) => self.contradiction(format!(
                "`type_alias` names the type `{name}`, which this consumer does not read; it reads `{}`",
                self.wire.type_name()
            )),
            None => Ok(()),
        }
    }

    fn contradiction(&self, why: impl Into<Cow<'static, str>>) -> Result<(), Contradiction> {
        Err(Contradiction { of: self.queue.clone(), why: why.into() })
    }
}
