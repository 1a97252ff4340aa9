//! Neighbours in one body.

use std::time::Duration;

use fluffle::{amqp::Prepared, wire::BatchBuilder};
use tokio::time::Instant;

use crate::publish::{
    draft::Draft,
    encode::{BATCH_BYTES, Encoder, Piece},
};

/// How long the first message of a batch waits for others.
const LINGER: Duration = Duration::from_millis(50);

/// One AMQP message, and the lines that it holds.
pub(crate) struct Parcel {
    pub(crate) prepared: Prepared,
    /// First and last line.
    pub(crate) lines: (u64, u64),
    /// How many messages.
    pub(crate) messages: u64,
}

/// Puts messages into batches, if there are any, and keeps their order.
pub(crate) struct Batches {
    encoder: Encoder,
    /// Most messages in one batch; `None`: no batches.
    most: Option<usize>,
    open: Option<Open>,
}

/// A batch that is being filled.
struct Open {
    exchange: String,
    key: String,
    first: Piece,
    batch: BatchBuilder<Piece>,
    lines: (u64, u64),
    due: Instant,
}

impl Batches {
    pub(crate) fn new(encoder: Encoder, most: Option<u32>) -> Self {
        Self { encoder, most: most.map(|most| most as usize), open: None }
    }

    /// Takes a message, and gives what is to be sent now, in order.
    ///
    /// # Errors
    ///
    /// If the message cannot be encoded. What was taken before stays.
    pub(crate) fn push(&mut self, draft: &Draft, out: &mut Vec<Parcel>) -> Result<(), String> {
        let Some(most) = self.most.filter(|_| draft.may_join()) else {
            // Encoded first: a message that fails must not close the batch before it.
            let prepared = self.encoder.single(draft)?;
            self.flush(out)?;
            out.push(Parcel { prepared, lines: (draft.line, draft.line), messages: 1 });
            return Ok(());
        };
        let piece = self.encoder.piece(draft)?;
        if self.open.as_ref().is_some_and(|open| !open.takes(draft, &piece)) {
            self.flush(out)?;
        }
        for _ in 0..2 {
            let wire = self.encoder.wire();
            let open = self.open.get_or_insert_with(|| Open {
                exchange: draft.exchange.clone(),
                key: draft.key.clone(),
                first: piece.clone(),
                batch: wire.batch().at_most(BATCH_BYTES, most),
                lines: (draft.line, draft.line),
                due: Instant::now() + LINGER,
            });
            match open.batch.push(&piece) {
                Ok(()) => {
                    open.lines.1 = draft.line;
                    return if open.batch.is_full() { self.flush(out) } else { Ok(()) };
                }
                // It has no room for this one: the next batch has.
                Err(_) if !open.batch.is_empty() => self.flush(out)?,
                Err(error) => {
                    self.open = None;
                    return Err(error.to_string());
                }
            }
        }
        Err("it does not fit into an empty batch".to_owned())
    }

    /// When the open batch is to be sent, full or not.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.due)
    }

    /// Gives the open batch to be sent.
    pub(crate) fn flush(&mut self, out: &mut Vec<Parcel>) -> Result<(), String> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let encoded = open.batch.finish().map_err(|error| error.to_string())?;
        let messages = encoded.items as u64;
        let prepared = self.encoder.batch(&open.exchange, &open.key, &open.first, encoded)?;
        out.push(Parcel { prepared, lines: open.lines, messages });
        Ok(())
    }
}

impl Open {
    fn takes(&self, draft: &Draft, piece: &Piece) -> bool {
        let same_place = self.exchange == draft.exchange && self.key == draft.key;
        // A batch in which some items have a type and others have none cannot tell which.
        same_place
            && self.first.content_type == piece.content_type
            && self.first.type_name.is_some() == piece.type_name.is_some()
    }
}
