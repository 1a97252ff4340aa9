//! The behaviours, with one test for each on each broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod stream_list;
#[macro_use]
mod list;

mod acknowledging;
mod bindings;
mod confirms;
mod connection;
mod consistent_hash;
mod consuming;
mod dead_letters;
mod equivalence;
mod errors;
mod exchanges;
mod exclusive;
mod expirations;
mod foreign;
mod foreign_copies;
mod foreign_tables;
mod get;
mod lifetimes;
mod limits;
mod prefetch;
mod priorities;
mod publishing;
mod queues;
mod quorum_queues;
mod reply_to;
mod single_active_consumer;
mod stream_arguments;
mod stream_consumers;
mod stream_messages;
mod streams;
mod transactions;
mod ttl;

mod suite;

macro_rules! behaviours {
    ($half:ident, $variant:ident, $( $module:ident { $( $name:ident )* } )*) => {
        mod $half {
            $(
                mod $module {
                    $(
                        #[test]
                        fn $name() {
                            let name = concat!(stringify!($module), "::", stringify!($name));
                            conformance::run(conformance::Half::$variant, name, |broker| {
                                Box::pin(crate::$module::$name(broker))
                            });
                        }
                    )*
                }
            )*

            /// The names of all behaviours.
            #[allow(dead_code, reason = "one half's names are enough")]
            pub(crate) const NAMES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($name)),)*)*];
        }
    };
}

against!(real, Real);
against!(embedded, Embedded);
