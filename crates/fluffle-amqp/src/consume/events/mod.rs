//! What happens to deliveries: counted, and told to listeners.

pub(crate) mod delivery_events;
pub(crate) mod stats;
