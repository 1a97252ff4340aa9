//! What takes the place of the descriptors without the feature `json`.

/// Links nothing into the program, because only JSON needs descriptors. It is there so that code from `fluffle_build`
/// compiles with and without the feature `json`.
#[macro_export]
macro_rules! descriptors {
    ($encoded:expr) => {
        const _: &[u8] = $encoded;
    };
}
