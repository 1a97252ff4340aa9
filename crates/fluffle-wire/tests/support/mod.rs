//! Messages of every shape, for the property tests.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost_types::Timestamp;
use protos::wiretest::kinds::{Choice, Part};
use protos::wiretest::{Colour, Kinds};

/// Any message that both formats can express, except those with `NaN`, which is not equal to itself.
pub(crate) fn any_kinds() -> impl Strategy<Value = Kinds> {
    let leaf = flat().boxed();
    leaf.prop_recursive(4, 8, 1, |inner| {
        (flat(), inner).prop_map(|(outer, inner)| Kinds { inner: Some(Box::new(inner)), ..outer })
    })
}

fn flat() -> impl Strategy<Value = Kinds> {
    let numbers = (float(), float(), any::<i64>(), any::<u64>(), any::<i32>(), any::<u64>(), any::<bool>());
    let texts = (".{0,20}", vec(any::<u8>(), 0..40), proptest::option::of(".{0,5}"), vec(".{0,5}", 0..4));
    let many = (vec(any::<i32>(), 0..5), btree_map(".{0,5}", any::<i64>(), 0..4), vec(".{0,5}", 0..3));
    (numbers, texts, many, colour(), proptest::option::of(timestamp()), proptest::option::of(choice())).prop_map(
        |(numbers, texts, many, colour, at, choice)| Kinds {
            number: numbers.0,
            small_number: numbers.1 as f32,
            signed: numbers.2,
            unsigned: numbers.3,
            zigzag: numbers.4,
            fixed: numbers.5,
            flag: numbers.6,
            text: texts.0,
            blob: texts.1,
            maybe: texts.2,
            texts: texts.3,
            numbers: many.0,
            counts: many.1.into_iter().collect(),
            parts: many.2.into_iter().map(|name| Part { name }).collect(),
            colour,
            at,
            choice,
            inner: None,
        },
    )
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()),
        Just(f64::INFINITY),
        Just(-0.0)
    ]
}

/// Colours, and a number that the enumeration does not know.
fn colour() -> impl Strategy<Value = i32> {
    prop_oneof![Just(Colour::Red as i32), Just(Colour::Green as i32), Just(77)]
}

/// Only the years 1 to 9999, because JSON has no others.
fn timestamp() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_i64..253_402_300_800, 0..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![".{0,5}".prop_map(Choice::Left), any::<i64>().prop_map(Choice::Right)]
}
