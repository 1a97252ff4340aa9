//! The keys of the entities that the engine holds. Connections and faults may outlive an entity, so they keep its key
//! alone.

use slotmap::new_key_type;

new_key_type! {
    pub(crate) struct VhostKey;
    pub(crate) struct ConnectionKey;
    pub(crate) struct ChannelKey;
    pub(crate) struct ConsumerKey;
    pub(crate) struct QueueKey;
}
