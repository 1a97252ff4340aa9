//! Whatever is encoded decodes to itself.
#![allow(clippy::unwrap_used)]

mod support;

use fluffle_wire::{Gzip, Level, Wire};
use proptest::collection::vec;
use proptest::prelude::*;
use protos::wiretest::Kinds;
use support::any_kinds;

fn any_gzip() -> impl Strategy<Value = Gzip> {
    let level = (1_u32..=9).prop_map(|level| Level::new(level).unwrap());
    prop_oneof![
        Just(Gzip::Off),
        level.clone().prop_map(Gzip::On),
        (0_usize..200, level).prop_map(|(min_size, level)| Gzip::Auto { min_size, level }),
    ]
}

fn any_wire() -> impl Strategy<Value = Wire<Kinds>> {
    (any::<bool>(), any_gzip()).prop_map(|(json, gzip)| if json { Wire::json() } else { Wire::protobuf() }.gzip(gzip))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_message_comes_back(message in any_kinds(), wire in any_wire()) {
        let sent = wire.encode(&message).unwrap();
        prop_assert_eq!(wire.decode(&sent.incoming()).unwrap(), message);
    }

    #[test]
    fn every_batch_comes_back(messages in vec(any_kinds(), 0..12), wire in any_wire()) {
        let sent = wire.encode_batch(&messages).unwrap();
        let batch = wire.decode_batch(&sent.incoming()).unwrap();
        let received: Vec<Kinds> = batch.iter().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn encoding_twice_gives_the_same_bytes(message in any_kinds(), gzip in any_gzip()) {
        // The compressor is reused: nothing of one body must show in the next.
        let wire = Wire::protobuf().gzip(gzip);
        prop_assert_eq!(wire.encode(&message).unwrap(), wire.encode(&message).unwrap());
    }
}
