//! The status page in headless Chromium: clicked through, by keyboard, in light, dark and on a phone, and attacked.
//!
//! With `FLUFFLE_SHOTS=FOLDER`, the tests write what they see there as PNG files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod acting;
mod attacks;
mod clicking;
mod hostile;
mod looks;
mod service;
mod tabs;
mod view;
