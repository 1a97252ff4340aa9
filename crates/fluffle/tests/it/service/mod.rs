//! The whole service: its process, its connections, its actors, its end, and the faults that it survives.

mod actors;
mod at_rest;
mod batches_end_to_end;
mod beside;
mod broker_versions;
mod connecting;
mod draining;
mod event_times;
mod events;
mod exit;
mod faults;
mod health;
mod heard;
mod log;
mod pool;
mod storm;
mod testing;
mod traces;
