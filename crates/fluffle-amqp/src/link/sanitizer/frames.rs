//! Follows the frames of one connection and replaces those that lapin cannot read.

use std::sync::{Arc, OnceLock};

use crate::link::sanitizer::{
    content_header::{self, AROUND_PAYLOAD},
    fault::{Faults, What},
    method,
    start::Peer,
};

/// Frame types (AMQP 0-9-1, section 4.2.3).
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

const FRAME_END: u8 = 0xce;

/// Type, channel and size of a frame.
const BEFORE_PAYLOAD: usize = 7;

/// The largest frame before the broker has proposed a size (AMQP 0-9-1, section 4.2.3).
const SMALLEST_FRAME: usize = 4096;

/// The largest content header that is checked as a whole, in bytes. The broker adds far less than this to a header of
/// 128 KiB. Of a larger header only the beginning is kept.
const LONGEST_HEADER: usize = 1 << 20;

/// Checks the frames of one connection.
pub(crate) struct Sanitizer {
    /// The largest frame that lapin accepts.
    frame_max: usize,
    /// Bytes of an unchecked frame that have not arrived yet; they are passed on as they are.
    to_pass: usize,
    /// Bytes of an overlong content header that have not arrived yet; they are dropped. The end octet is included.
    to_drop: usize,
    /// Faults of methods whose content header has not arrived yet, by channel.
    awaiting_header: Vec<(u16, Faults)>,
    /// Whether the broker's proposal of heartbeats is hidden from lapin.
    no_heartbeats: bool,
    /// Whether the bytes are not AMQP; they are then passed to lapin unchecked.
    not_amqp: bool,
    /// Set once the broker has said what it is.
    peer: Arc<OnceLock<Peer>>,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// The first so many bytes are for lapin as they are. The rest is the beginning of a frame that has not arrived
    /// whole.
    Sound(usize),
    /// The first `sound` bytes are for lapin as they are. After them, `instead` takes the place of the next `replaced`
    /// bytes. The bytes behind those have not been checked.
    Replaced { sound: usize, replaced: usize, instead: Vec<u8> },
}

/// The kind of one frame.
enum Frame {
    /// The frame has not arrived whole.
    Partial,
    Sound(usize),
    /// The frame has this many bytes and needs no check.
    Passing(usize),
    Replaced(usize, Vec<u8>),
}

impl Sanitizer {
    /// A sanitizer for a connection that asks for frames of at most `frame_max` bytes; 0 if it asks for nothing.
    pub(crate) fn new(frame_max: u32) -> Self {
        let asked = usize::try_from(frame_max).unwrap_or(usize::MAX);
        Self {
            frame_max: if asked == 0 { usize::MAX } else { asked.max(SMALLEST_FRAME) },
            to_pass: 0,
            to_drop: 0,
            awaiting_header: Vec::new(),
            no_heartbeats: false,
            not_amqp: false,
            peer: Arc::default(),
        }
    }

    /// Hides the broker's proposal of heartbeats from lapin: lapin 4.12.3 cannot refuse heartbeats, and takes the
    /// broker's interval if it asks for none itself. With the proposal hidden, lapin agrees to the interval 0, which
    /// switches heartbeats off at the broker too.
    pub(crate) fn without_heartbeats(mut self) -> Self {
        self.no_heartbeats = true;
        self
    }

    /// Notes in `peer` what the broker says of itself.
    pub(crate) fn tells(mut self, peer: &Arc<OnceLock<Peer>>) -> Self {
        self.peer = Arc::clone(peer);
        self
    }

    /// Checks `bytes`, which follow the bytes that were passed or replaced before.
    pub(crate) fn look(&mut self, bytes: &mut [u8]) -> Looked {
        if self.to_drop > 0 {
            let dropped = self.to_drop.min(bytes.len());
            self.to_drop -= dropped;
            return Looked::Replaced { sound: 0, replaced: dropped, instead: Vec::new() };
        }
        let mut at = self.to_pass.min(bytes.len());
        self.to_pass -= at;
        while at < bytes.len() {
            if self.not_amqp {
                return Looked::Sound(bytes.len());
            }
            match self.frame(&mut bytes[at..]) {
                Frame::Partial => break,
                Frame::Sound(length) => at += length,
                Frame::Passing(length) => {
                    let here = length.min(bytes.len() - at);
                    self.to_pass = length - here;
                    at += here;
                }
                Frame::Replaced(length, instead) => {
                    return Looked::Replaced { sound: at, replaced: length, instead };
                }
            }
        }
        Looked::Sound(at)
    }

    /// Checks the frame at the beginning of `bytes`.
    fn frame(&mut self, bytes: &mut [u8]) -> Frame {
        let Some(&[kind, c1, c2, s1, s2, s3, s4]) = bytes.first_chunk::<BEFORE_PAYLOAD>() else {
            // A broker that refuses the client's protocol version answers with `AMQP` and its own version.
            self.not_amqp = !matches!(bytes[0], METHOD | HEADER | BODY | HEARTBEAT);
            return if self.not_amqp { Frame::Passing(bytes.len()) } else { Frame::Partial };
        };
        let channel = u16::from_be_bytes([c1, c2]);
        let size = u32::from_be_bytes([s1, s2, s3, s4]) as usize;
        let whole = size.saturating_add(AROUND_PAYLOAD);
        match kind {
            METHOD | HEADER if whole > LONGEST_HEADER => self.too_long(kind, channel, bytes, whole),
            METHOD | HEADER if bytes.len() < whole => Frame::Partial,
            METHOD => {
                self.method(channel, &mut bytes[BEFORE_PAYLOAD..whole - 1]);
                Frame::Sound(whole)
            }
            HEADER => self.content_header(channel, &bytes[..whole]),
            BODY | HEARTBEAT => Frame::Passing(whole),
            _ => {
                self.not_amqp = true;
                Frame::Passing(bytes.len())
            }
        }
    }

    fn method(&mut self, channel: u16, payload: &mut [u8]) {
        if let Some(peer) = Peer::read(payload) {
            // A second `connection.start` is an error that lapin ends the connection over.
            let _ = self.peer.set(peer);
        }
        if let Some(proposed) = tuned_frame_max(payload) {
            self.frame_max = self.frame_max.min(proposed).max(SMALLEST_FRAME);
        }
        if self.no_heartbeats
            && let [0, 10, 0, 30, _, _, _, _, _, _, high, low] = payload
        {
            (*high, *low) = (0, 0);
        }
        // A method means that the content its channel was waiting for does not come.
        if !self.awaiting_header.is_empty() {
            self.awaiting_header.retain(|(waiting, _)| *waiting != channel);
        }
        if let Some(faults) = method::mend(payload)
            && method::has_content(payload)
        {
            self.awaiting_header.push((channel, faults));
        }
    }

    fn content_header(&mut self, channel: u16, frame: &[u8]) -> Frame {
        let payload = &frame[BEFORE_PAYLOAD..frame.len() - 1];
        let fits = frame.len() <= self.frame_max;
        if fits && self.awaiting_header.is_empty() && content_header::is_sound(payload) {
            return Frame::Sound(frame.len());
        }
        let faults = self.faults_of(channel);
        if fits && faults.is_empty() && content_header::is_sound(payload) {
            return Frame::Sound(frame.len());
        }
        match self.instead(channel, payload, faults) {
            Some(instead) => Frame::Replaced(frame.len(), instead),
            None => Frame::Sound(frame.len()),
        }
    }

    fn faults_of(&mut self, channel: u16) -> Faults {
        let at = self.awaiting_header.iter().position(|(waiting, _)| *waiting == channel);
        at.map(|at| self.awaiting_header.swap_remove(at).1).unwrap_or_default()
    }

    /// A whole frame that replaces the one with this payload.
    fn instead(&self, channel: u16, payload: &[u8], faults: Faults) -> Option<Vec<u8>> {
        let longest = self.frame_max.min(LONGEST_HEADER) - AROUND_PAYLOAD;
        let payload = content_header::rebuild(payload, faults, longest)?;
        let size = u32::try_from(payload.len()).ok()?;
        Some([&[HEADER][..], &channel.to_be_bytes(), &size.to_be_bytes(), &payload, &[FRAME_END]].concat())
    }

    /// An overlong frame, which is never held as a whole. Of a content header the beginning is checked and the rest
    /// dropped. A method of such a length does not come from a message; lapin ends the connection over it.
    fn too_long(&mut self, kind: u8, channel: u16, bytes: &[u8], whole: usize) -> Frame {
        if kind == METHOD {
            return Frame::Passing(whole);
        }
        let beginning = whole.min(LONGEST_HEADER);
        if bytes.len() < beginning {
            return Frame::Partial;
        }
        let mut faults = self.faults_of(channel);
        faults.add("properties", What::TooLong, &[]);
        match self.instead(channel, &bytes[BEFORE_PAYLOAD..beginning], faults) {
            Some(instead) => {
                self.to_drop = whole - beginning;
                Frame::Replaced(beginning, instead)
            }
            None => Frame::Passing(whole),
        }
    }
}

/// The `frame-max` of `connection.tune`; `None` for any other method, and if the broker has no limit.
fn tuned_frame_max(payload: &[u8]) -> Option<usize> {
    match payload {
        [0, 10, 0, 30, _, _, a, b, c, d, ..] => {
            usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok().filter(|frame_max| *frame_max > 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
