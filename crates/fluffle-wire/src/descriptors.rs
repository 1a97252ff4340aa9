//! The descriptors of the message types that are compiled into this program.

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

#[doc(hidden)]
pub use inventory;

/// An encoded `FileDescriptorSet` that is linked into this program: [`descriptors!`](crate::descriptors) adds one.
#[derive(Debug)]
pub struct Descriptors(&'static [u8]);

impl Descriptors {
    /// An encoded `FileDescriptorSet`, imports included.
    pub const fn new(encoded: &'static [u8]) -> Self {
        Self(encoded)
    }
}

inventory::collect!(Descriptors);

/// Links an encoded `FileDescriptorSet` into the program, so that consumers read proto3 JSON of its messages, and
/// answer requests in it. `fluffle_build::compile` does this for the messages that it compiles. By hand, for messages
/// that were compiled in another way:
///
/// ```no_run
/// # macro_rules! include_bytes { ($path:literal) => { b"" } }
/// fluffle_wire::descriptors!(include_bytes!("descriptors.bin"));
/// ```
///
/// The set must include the files that its files import (`protoc --include_imports --descriptor_set_out=…`). A set that
/// cannot be read is ignored.
#[macro_export]
macro_rules! descriptors {
    ($encoded:expr) => {
        $crate::inventory::submit! { $crate::Descriptors::new($encoded) }
    };
}

/// The descriptor of the message with this full name, if it is linked into this program, or is a well-known type.
pub(crate) fn message(full_name: &str) -> Option<MessageDescriptor> {
    static LINKED: OnceLock<Vec<DescriptorPool>> = OnceLock::new();
    // One pool for each set, because two sets may hold different versions of one file.
    let linked = LINKED.get_or_init(|| {
        let sets = inventory::iter::<Descriptors>.into_iter();
        sets.filter_map(|Descriptors(encoded)| DescriptorPool::decode(*encoded).ok()).collect()
    });
    let found = linked.iter().find_map(|pool| pool.get_message_by_name(full_name));
    found.or_else(|| DescriptorPool::global().get_message_by_name(full_name))
}
