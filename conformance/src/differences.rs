//! Known differences between the embedded broker and RabbitMQ.

/// A behaviour that the embedded broker does not share with RabbitMQ.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The behaviour: `module::name`.
    pub behaviour: &'static str,
    /// What differs, and why it is not fixed.
    pub reason: &'static str,
}

/// All known differences. A listed behaviour must fail; if it passes, that is a failure, too, so that outdated entries
/// are noticed.
pub const KNOWN_DIFFERENCES: &[Difference] = &[];

/// Behaviours of RabbitMQ 4 that differ from RabbitMQ 3, which the embedded broker follows. They must fail against
/// RabbitMQ 4.
pub const CHANGED_IN_4: &[Difference] = &[
    Difference {
        behaviour: "connection::another_protocol_is_answered_with_ours_and_closed",
        reason: "it answers with AMQP 1.0's header, which it speaks without a plugin now",
    },
    Difference { behaviour: "connection::start_names_the_product_whose_rules_hold", reason: "its version is 4" },
    Difference {
        behaviour: "connection::the_headers_of_amqp_0_8_and_0_9_are_taken_for_0_9_1",
        reason: "it speaks neither",
    },
    Difference {
        behaviour: "dead_letters::cc_travels_along_and_a_dead_letter_routing_key_ends_it",
        reason: "CC stays in the headers of the dead letter",
    },
    Difference {
        behaviour: "dead_letters::the_first_death_has_headers_of_its_own",
        reason: "the last death has headers of its own too: x-last-death-…",
    },
    Difference {
        behaviour: "errors::an_unknown_exchange_kind_is_503_and_ends_the_connection",
        reason: "it is 406 and ends the channel",
    },
    Difference {
        behaviour: "errors::the_exchange_kind_of_a_plugin_that_is_not_there_is_unknown",
        reason: "it is 406 and ends the channel",
    },
    Difference {
        behaviour: "quorum_queues::without_a_delivery_limit_a_requeued_message_goes_to_the_end",
        reason: "there is a limit by default, 20, and so it goes back to its place",
    },
    Difference { behaviour: "stream_arguments::a_consumer_needs_a_prefetch", reason: "the text names a stream" },
    Difference {
        behaviour: "stream_arguments::a_consumer_without_acknowledgements_is_540",
        reason: "the text names one stream",
    },
    Difference { behaviour: "stream_arguments::filters_are_unknown_and_ignored", reason: "it filters, since 3.13" },
    Difference {
        behaviour: "stream_arguments::redeclaring_it_as_another_type_is_406",
        reason: "a declaration without a type is one of a classic queue, and the text says so",
    },
    Difference { behaviour: "stream_consumers::nacking_is_540", reason: "the channel stays open" },
    Difference { behaviour: "stream_consumers::recovering_is_541", reason: "the channel stays open" },
    Difference {
        behaviour: "stream_consumers::rejecting_in_a_transaction_is_540_at_commit",
        reason: "the channel stays open",
    },
    Difference { behaviour: "stream_consumers::rejecting_is_540", reason: "the channel stays open" },
    Difference {
        behaviour: "stream_messages::a_dead_letter_for_a_stream_is_lost",
        reason: "it arrives (rabbitmq-server #7846)",
    },
    Difference {
        behaviour: "stream_messages::a_message_without_properties_has_its_offset_alone",
        reason: "it has delivery mode 1, too",
    },
    Difference { behaviour: "stream_messages::arrays_and_tables_are_left_out", reason: "CC stays in the headers" },
    Difference { behaviour: "stream_messages::empty_properties_stay", reason: "there is delivery mode 1, too" },
    Difference { behaviour: "stream_messages::headers_keep_their_types", reason: "bytes become a text" },
];
