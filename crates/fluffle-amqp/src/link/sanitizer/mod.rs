//! Checks all incoming bytes before lapin parses them.
//!
//! Anyone who may publish to a queue chooses the bytes of a message's properties, and the broker passes them on
//! unchanged. Three kinds of bytes break lapin's parser (amq-protocol-types 10.6). A short string that is not UTF-8
//! ends the connection. Deeply nested tables make the parser recurse without a bound, which ends the process. A content
//! header that is larger than a frame, which the broker makes by adding `x-death`, ends the connection. Each redelivery
//! does so again, for every consumer of the connection. The sanitizer therefore removes a property that lapin cannot
//! read and adds a header that names it. The message arrives, and becomes a dead letter (`consume/decide/verdict.rs`).
//! See `docs/SEMANTICS.md`, "What others put on your queue".
//!
//! A sound frame is not copied: it is checked in lapin's own buffer. The cost is one pass over methods and content
//! headers; bodies are skipped. Time is linear in the bytes, and the use of the stack is bounded.
//!
//! [`Sanitizer`] does no I/O; [`stream`] puts it between the socket and lapin.

mod content_header;
mod fault;
mod frames;
mod limits;
mod mark;
mod method;
mod shorten;
mod start;
pub(crate) mod stream;
mod table;

pub(crate) use frames::Sanitizer;
#[cfg(test)]
pub(crate) use mark::mark;
pub(crate) use mark::taken;
pub(crate) use shorten::{is_ours, shorten};
pub(crate) use start::Peer;
