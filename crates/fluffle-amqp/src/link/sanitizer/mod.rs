//! What stands between the socket and lapin: everything that arrives is looked at before lapin parses it.
//!
//! Anybody who may publish to a queue chooses the bytes of a message's properties, and the broker hands them on as they
//! are. lapin's parser (amq-protocol-types 10.6) ends the connection over a short string that is not UTF-8, recurses
//! without a bound into nested tables, which ends the process, and refuses a content header that is larger than a
//! frame, which the broker makes by adding `x-death`. Each redelivery would do so again, for every consumer of the
//! connection. So a property that lapin cannot read is taken out, and a header in its place says what it was: the
//! message arrives, and ends as a dead letter (`consume/settlement.rs`). See `docs/SEMANTICS.md`, "What others put on
//! your queue".
//!
//! A sound frame is not copied: it is looked at where lapin's buffer has it. The cost is one walk over the methods and
//! content headers; bodies are stepped over. Time is linear in the bytes and the stack is bounded.
//!
//! [`Sanitizer`] is pure; [`stream`] puts it under lapin.

mod content_header;
mod fault;
mod frames;
mod limits;
mod mark;
mod method;
mod shorten;
pub(crate) mod stream;
mod table;

pub(crate) use frames::Sanitizer;
pub(crate) use mark::taken;
pub(crate) use shorten::{is_ours, shorten};
