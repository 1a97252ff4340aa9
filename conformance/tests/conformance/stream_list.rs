//! The list of the behaviours of streams, each once. `against` in `list.rs` adds them to its own.

/// Adds the behaviours of streams to a list.
macro_rules! with_streams {
    ($( $listed:tt )*) => {
        behaviours! { $( $listed )*
            stream_arguments {
                all_arguments_of_a_stream_are_accepted
                it_must_be_durable
                it_cannot_be_exclusive
                it_cannot_be_auto_delete
                auto_delete_is_named_before_the_other_properties
                it_cannot_be_named_by_the_broker
                arguments_of_other_queues_are_406
                the_first_foreign_argument_is_named_whatever_its_value
                other_queues_refuse_arguments_of_streams
                arguments_of_a_wrong_type_or_value_are_406
                an_age_without_a_number_is_541
                a_segment_above_three_gigabytes_is_406
                redeclaring_it_with_other_arguments_is_406
                redeclaring_it_as_another_type_is_406
                a_consumer_needs_a_prefetch
                the_prefetch_of_the_channel_is_not_the_consumers
                a_consumer_without_acknowledgements_is_540
                a_consumer_with_a_priority_is_406
                an_offset_of_another_queue_is_406
                an_offset_that_is_no_time_is_406
                an_offset_of_a_word_is_541
                an_offset_of_another_type_is_541
                filters_are_unknown_and_ignored
            }
            stream_consumers {
                every_delivery_says_its_offset
                without_an_offset_it_starts_at_the_next_message
                next_starts_at_the_next_message
                last_starts_at_the_last_chunk
                a_number_is_an_offset_of_any_integer_type
                an_offset_below_the_first_starts_at_the_first
                an_offset_that_comes_later_is_waited_for
                an_empty_stream_may_be_read_from_anywhere
                a_timestamp_starts_at_the_first_message_not_before
                a_timestamp_to_come_starts_at_the_next_message
                an_interval_starts_that_long_ago
                what_is_acknowledged_stays_for_others
                every_consumer_reads_everything
                the_prefetch_bounds_what_a_consumer_holds_and_an_ack_gives_credit
                a_later_prefetch_leaves_a_consumer_as_it_is
                acknowledging_after_the_cancel_is_welcome
                acknowledging_twice_is_406
                rejecting_is_540
                nacking_is_540
                recovering_is_541
                recovering_nothing_is_welcome
                what_a_closed_channel_held_is_read_again_from_where_one_says
                an_exclusive_consumer_excludes_nobody
                a_tag_in_use_is_530
                a_cancelled_consumer_gets_nothing_more_and_its_tag_is_free
                deleting_the_stream_cancels_its_consumers
                a_delivery_that_is_never_acknowledged_times_out
                acknowledgements_of_a_transaction_give_credit_at_commit
                rejecting_in_a_transaction_is_540_at_commit
                a_later_limit_of_the_channel_leaves_a_consumer_as_it_is
                no_consumers_are_counted
            }
            stream_messages {
                every_property_but_the_cluster_id_arrives_as_it_was_sent
                a_message_without_properties_has_its_offset_alone
                empty_properties_stay
                headers_keep_their_types
                arrays_and_tables_are_left_out
                an_offset_of_the_publisher_is_replaced
                a_decimal_is_541
                the_time_to_live_of_a_message_does_not_end_it
                a_body_larger_than_a_frame_arrives_whole
                a_dead_letter_for_a_stream_is_lost
                a_segment_begins_with_an_offset_of_no_message
                past_its_length_the_oldest_segments_go_and_offsets_go_on
                the_length_counts_whole_segments
                a_segment_too_large_for_the_length_stays_while_it_is_the_last
                past_its_age_a_segment_goes_when_a_new_one_begins
                the_last_segment_stays_at_any_age
                a_reader_whose_place_is_gone_goes_on_behind_it
            }
            streams {
                a_new_stream_is_empty
                its_messages_are_counted_in_time
                a_passive_declaration_needs_no_arguments
                fetching_is_540
                purging_is_540
                deleting_counts_no_messages
                it_is_deleted_even_if_it_is_neither_unused_nor_empty
                a_stream_of_the_same_name_starts_again
                messages_are_confirmed
                a_mandatory_message_does_not_come_back
                it_is_bound_like_any_queue
                messages_of_a_transaction_come_at_commit_in_their_order
                a_restart_keeps_every_message_and_offsets_go_on
            }
        }
    };
}
