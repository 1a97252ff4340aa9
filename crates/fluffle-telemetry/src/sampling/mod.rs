//! Looks at a running service twice a second, and says what it saw.

mod clock;
pub(crate) mod sampler;
mod trend;
mod views;
