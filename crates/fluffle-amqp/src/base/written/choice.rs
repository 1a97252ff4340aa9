//! Choices, as words.

use std::{fmt, marker::PhantomData};

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use super::value::Written;

/// A choice that is written as a word.
pub(crate) trait Choice: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of a [`Choice`]. An enum of serde would not do: not each library lists what may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<C>(C);

impl<C> Written for Word<C> {
    type Value = C;

    fn value(self) -> C {
        self.0
    }
}

impl<'de, C: Choice> Deserialize<'de> for Word<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOf<C>(PhantomData<C>);

        impl<C: Choice> Visitor<'_> for OneOf<C> {
            type Value = Word<C>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let words: Vec<String> = C::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
                f.write_str(&words.join(" or "))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<C>, E> {
                let choice = C::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| Word(*choice));
                choice.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(OneOf(PhantomData))
    }
}
