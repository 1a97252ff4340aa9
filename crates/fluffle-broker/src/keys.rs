//! The keys under which the engine holds what it knows. Others may outlive an entity, so they hold its key instead of it.

use slotmap::new_key_type;

new_key_type! {
    pub(crate) struct VhostKey;
    pub(crate) struct ConnectionKey;
    pub(crate) struct ChannelKey;
    pub(crate) struct ConsumerKey;
    pub(crate) struct QueueKey;
}
