//! Consumers: which messages their handlers are given and in which order, how deliveries are settled, and which limits
//! hold.

mod at_most_once;
mod at_run_time;
mod at_shutdown;
mod batch_items;
mod blocking;
mod contradictions;
mod downstream;
mod effectively_once;
mod foreign;
mod formats;
mod lanes;
mod limits;
mod middleware;
mod order_by_key;
mod order_by_queue;
mod panic_messages;
mod pausing;
mod recovery;
mod removing;
mod replaying;
mod settling;
mod switches;
mod time_limits;
mod types;
mod whole_batches;
