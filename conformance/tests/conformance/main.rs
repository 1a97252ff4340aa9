//! The behaviours, and a test for each on each broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod exchanges;

/// One half of the suite: every behaviour against one broker.
///
/// A behaviour that is missing here is dead code, and the compiler says so.
macro_rules! against {
    ($half:ident, $variant:ident) => {
        behaviours! { $half, $variant,
            exchanges {
                direct_routes_by_the_exact_key_to_every_queue_bound_with_it
                fanout_ignores_the_key
                topic_star_is_exactly_one_word
                topic_star_alone_is_one_word_and_not_the_empty_key
                topic_hash_is_any_number_of_words
                topic_hash_alone_takes_everything
                topic_hash_in_the_middle_may_be_nothing
                topic_hash_and_star_together_want_at_least_one_word
                topic_wildcards_are_whole_words_only
                topic_wildcards_in_a_routing_key_mean_nothing
                headers_all_wants_every_argument
                headers_match_all_by_default
                headers_any_wants_one_argument
                headers_with_a_void_argument_want_the_key_alone
                headers_all_leaves_x_arguments_out
                headers_all_with_x_counts_x_arguments_in
                headers_any_with_x_counts_x_arguments_in
                headers_any_leaves_x_arguments_out
                headers_without_arguments_all_match_everything_and_any_nothing
                headers_compare_values_and_not_integer_widths
                headers_with_another_x_match_are_refused_at_binding
                the_default_exchange_routes_to_the_queue_of_that_name
                the_predeclared_exchanges_are_durable_and_of_their_kind
                a_message_reaches_a_queue_once_however_many_bindings_match
                declaring_passively_finds_an_exchange_whatever_its_kind
                an_exchange_in_use_is_not_deleted_if_unused
                an_unused_exchange_is_deleted_if_unused
                deleting_an_exchange_that_is_not_there_succeeds
                an_auto_delete_exchange_goes_with_its_last_binding
                an_auto_delete_exchange_goes_with_its_last_queue
                an_alternate_exchange_takes_what_is_not_routed
                alternate_exchanges_may_form_a_chain_and_a_circle
                an_alternate_exchange_that_is_not_there_is_no_error
            }
        }
    };
}

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
            pub(crate) const NAMES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($name)),)*)*];
        }
    };
}

against!(real, Real);
