//! The behaviours, and a test for each on each broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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
mod transactions;
mod ttl;

mod suite;

/// One half of the suite: every behaviour against one broker.
///
/// A behaviour that is missing here is dead code, and the compiler says so.
macro_rules! against {
    ($half:ident, $variant:ident) => {
        behaviours! { $half, $variant,
            acknowledging {
                an_acknowledged_message_is_gone
                what_is_not_acknowledged_returns_when_the_channel_closes
                what_is_not_acknowledged_returns_when_the_connection_is_lost
                multiple_acknowledges_everything_up_to_the_tag
                multiple_with_tag_zero_acknowledges_everything
                multiple_with_tag_zero_is_welcome_when_nothing_is_open
                acknowledging_out_of_order_is_welcome
                acknowledging_twice_is_406
                acknowledging_a_tag_never_given_is_406
                acknowledging_several_up_to_a_tag_never_given_is_406
                acknowledging_several_twice_is_406
                rejecting_twice_is_406
                acknowledging_on_another_channel_is_406_there_and_nothing_here
                acknowledging_what_needs_no_acknowledgement_is_406
                a_406_returns_what_the_channel_held
                a_rejected_message_without_a_dead_letter_exchange_is_gone
                a_requeued_message_returns_to_its_old_place
                nack_multiple_requeues_all_up_to_the_tag_in_order
                nack_with_tag_zero_and_multiple_requeues_everything
                nack_without_requeue_drops
                a_requeued_message_may_come_back_to_the_same_consumer
                a_classic_queue_counts_no_deliveries
                recover_redelivers_what_the_channel_holds
                recover_without_requeue_is_540
                recover_async_is_not_answered
                a_tag_recovered_is_unknown_afterwards
                acknowledging_for_a_deleted_queue_is_welcome
            }
            bindings {
                binding_twice_is_binding_once
                bindings_that_differ_in_arguments_are_two
                unbinding_what_is_not_bound_succeeds
                binding_a_queue_that_is_not_there_is_404
                binding_to_an_exchange_that_is_not_there_is_404
                unbinding_a_queue_that_is_not_there_succeeds
                unbinding_from_an_exchange_that_is_not_there_succeeds
                the_default_exchange_cannot_be_bound
                the_default_exchange_cannot_be_unbound
                an_exchange_feeds_the_exchanges_bound_to_it
                exchanges_bound_in_a_circle_deliver_once
                an_exchange_unbound_is_fed_no_more
                binding_an_exchange_that_is_not_there_is_404
                an_exchange_cannot_be_bound_to_the_default_exchange
                bindings_go_with_their_queue
                bindings_go_with_their_exchange
                an_empty_queue_name_means_the_channels_last_declared_queue
                an_empty_queue_and_key_mean_the_last_declared_queues_name
                an_empty_queue_name_before_any_declaration_is_404
            }
            confirms {
                tags_count_from_one_on_each_channel
                messages_before_confirm_select_are_not_counted
                confirm_select_may_be_repeated
                a_burst_is_confirmed_completely_and_each_message_once
                a_persistent_message_in_a_durable_queue_is_confirmed
                a_message_in_a_quorum_queue_is_confirmed
                a_full_queue_that_rejects_publishers_nacks
                one_full_queue_among_several_nacks
                no_confirm_comes_without_confirm_mode
                a_confirm_channel_cannot_become_transactional
                a_transactional_channel_cannot_become_confirming
                a_message_a_no_ack_consumer_takes_is_confirmed
                a_message_is_confirmed_before_its_consumer_acknowledges
                a_delivery_and_a_confirm_are_numbered_apart
            }
            connection {
                another_protocol_is_answered_with_ours_and_closed
                the_headers_of_amqp_0_8_and_0_9_are_taken_for_0_9_1
                start_offers_plain_and_amqplain_in_english
                start_tells_what_the_broker_can
                start_names_the_product_whose_rules_hold
                tune_proposes_2047_channels_128_kib_and_a_minute
                amqplain_logs_in
                a_wrong_password_is_403_for_those_who_can_hear_it
                a_wrong_password_is_just_the_end_for_others
                an_unknown_mechanism_ends_the_connection
                a_vhost_that_is_not_there_is_530
                a_frame_size_past_the_offer_ends_the_connection
                no_limit_is_past_the_offer_too
                close_is_answered
                closing_again_is_answered_again
                a_channel_closed_by_the_client_may_be_opened_again
                opening_a_channel_twice_is_504
                a_method_on_a_channel_that_is_not_open_is_504
                more_channels_than_agreed_are_530
                a_frame_larger_than_agreed_is_501
                a_payload_may_be_as_large_as_a_frame
                a_body_is_cut_into_frames_of_the_agreed_size
                a_frame_without_its_end_octet_is_501
                a_frame_of_unknown_type_is_501
                an_unknown_method_ends_the_connection
                a_method_that_is_cut_short_is_501
                a_header_without_a_method_is_505
                a_body_without_a_header_is_505
                a_header_on_a_channel_that_is_not_open_is_505
                a_method_instead_of_a_body_is_505
                a_channels_method_on_channel_zero_is_504
                a_connections_method_on_a_channel_is_503
                a_method_only_the_broker_sends_is_503
                flow_on_is_answered_and_flow_off_is_540
                the_broker_sends_heartbeats
                a_client_that_falls_silent_is_cut_off
                without_heartbeats_none_come
                a_heartbeat_on_a_channel_is_505
                content_on_channel_zero_is_505
                access_is_granted_to_everyone
                frames_may_arrive_byte_by_byte
                a_closed_connection_takes_its_channels_along
                a_connection_closed_by_the_broker_has_let_go_before_it_is_told
            }
            consistent_hash {
                each_message_goes_to_exactly_one_queue_and_one_value_always_to_the_same
                a_weight_is_a_share
                a_queue_added_takes_its_share_and_moves_nothing_between_the_others
                a_queue_unbound_or_deleted_leaves_its_keys_to_the_others
                a_queue_bound_again_with_another_weight_keeps_its_first
                unbinding_one_of_two_weights_unbinds_the_queue_from_the_ring
                after_a_restart_each_value_has_one_queue_again
                a_header_may_be_hashed_instead_of_the_key
                a_property_may_be_hashed_instead_of_the_key
                without_the_header_all_goes_to_one_queue
                of_several_keys_the_first_is_hashed
                without_bindings_nothing_is_routed
                it_may_feed_an_exchange
                a_binding_key_that_is_no_number_is_406
                a_weight_below_one_is_406
                another_property_is_406
                a_header_and_a_property_together_are_406
            }
            consuming {
                a_consumer_without_a_tag_is_given_one
                a_delivery_names_its_consumer_exchange_and_key
                delivery_tags_count_over_all_consumers_of_a_channel
                what_waits_is_delivered_in_order_and_then_what_comes
                consumers_take_turns
                a_no_ack_consumers_messages_are_gone
                consuming_from_a_queue_that_is_not_there_is_404
                a_tag_in_use_on_the_channel_is_530_and_ends_the_connection
                a_tag_may_be_used_on_two_channels_and_again_after_cancel
                cancelling_stops_deliveries_and_leaves_what_was_delivered
                cancelling_an_unknown_tag_succeeds
                deleting_a_queue_cancels_its_consumers
                whoever_deletes_a_queue_hears_of_that_before_its_own_consumers_end
                a_client_that_cannot_be_cancelled_is_not_told
                a_quorum_queue_deleted_cancels_its_consumers
                a_channels_end_ends_its_consumers
                no_local_is_ignored
                consume_ok_comes_before_the_first_delivery
                consuming_with_nowait_is_not_answered
                a_consumer_of_higher_priority_is_served_first
                a_consumer_priority_that_is_no_number_is_406
            }
            dead_letters {
                a_rejected_message_goes_to_the_dead_letter_exchange
                x_death_tells_the_whole_story
                the_first_death_has_headers_of_its_own
                properties_and_other_headers_stay
                a_second_death_comes_first_in_x_death
                a_death_for_the_same_reason_in_the_same_queue_is_counted
                a_circle_without_a_rejection_ends
                a_dead_letter_routing_key_replaces_the_messages
                an_expired_message_dies_of_it
                an_expiration_is_taken_off_and_remembered
                an_expiration_is_taken_off_a_rejected_message_too
                a_message_pushed_out_dies_of_maxlen
                reject_publish_dlx_nacks_and_dead_letters
                what_is_purged_or_deleted_is_no_dead_letter
                a_requeued_message_is_no_dead_letter
                without_its_exchange_a_dead_letter_is_dropped
                nack_multiple_dead_letters_in_order
                cc_travels_along_and_a_dead_letter_routing_key_ends_it
            }
            equivalence {
                the_same_queue_may_be_declared_again
                an_integer_argument_may_come_in_another_width
                an_unknown_argument_is_not_compared
                a_queue_of_other_durability_is_406
                a_queue_of_other_auto_delete_is_406
                a_shared_queue_declared_exclusive_is_405
                a_queue_of_another_message_ttl_is_406
                a_queue_of_another_expires_is_406
                a_queue_of_another_max_length_is_406
                a_queue_of_another_max_length_bytes_is_406
                a_queue_of_another_overflow_is_406
                a_queue_of_another_dead_letter_exchange_is_406
                a_queue_of_another_dead_letter_key_is_406
                a_queue_of_another_max_priority_is_406
                a_queue_of_another_type_is_406
                a_queue_without_the_argument_it_has_is_406
                a_queue_with_an_argument_it_has_not_is_406
                an_exchange_of_another_kind_is_406
                an_exchange_of_other_durability_is_406
                an_exchange_of_other_auto_delete_is_406
                an_exchange_of_other_internality_is_406
                an_exchange_of_another_alternate_is_406
            }
            errors {
                a_queue_that_is_not_there_is_404
                an_exchange_that_is_not_there_is_404
                a_queue_named_amq_is_403
                an_exchange_named_amq_is_403
                a_queue_the_broker_named_can_be_found_but_not_declared_by_its_name
                deleting_a_predeclared_exchange_is_403
                deleting_the_default_exchange_is_403
                declaring_the_default_exchange_is_403
                an_unknown_exchange_kind_is_503_and_ends_the_connection
                the_exchange_kind_of_a_plugin_that_is_not_there_is_unknown
                a_refusal_names_the_method_it_refuses
                a_refusal_spares_the_other_channels
                after_a_refusal_the_channel_is_deaf_until_close_ok
                a_dead_letter_key_without_an_exchange_is_406
                an_error_in_a_method_without_answer_closes_too
                nowait_is_not_answered
            }
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
            exclusive {
                its_own_connection_may_do_everything_on_any_channel
                another_connection_may_not_declare_it
                another_connection_may_not_look_at_it
                another_connection_may_not_consume_from_it
                another_connection_may_not_get_from_it
                another_connection_may_not_bind_it
                another_connection_may_not_purge_it
                another_connection_may_not_delete_it
                another_connection_may_publish_to_it
                it_goes_with_its_connection_even_if_durable
                it_outlives_its_channel
                an_exclusive_consumer_shuts_out_others
                a_consumed_queue_refuses_an_exclusive_consumer
                an_exclusive_consumer_leaves_basic_get_to_others
                others_may_consume_once_the_exclusive_consumer_is_gone
            }
            get {
                an_empty_queue_says_so
                get_ok_counts_what_is_left
                get_without_acknowledgement_takes_the_message
                a_message_requeued_is_redelivered
                getting_from_a_queue_that_is_not_there_is_404
                get_shares_the_channels_delivery_tags
                an_empty_queue_name_means_the_last_declared
            }
            lifetimes {
                a_delivery_held_past_the_consumer_timeout_closes_its_channel
                a_restart_spares_what_is_durable_and_persistent
            }
            limits {
                drop_head_is_the_default
                drop_head_confirms_what_pushes_out_and_what_is_pushed
                reject_publish_keeps_the_oldest
                without_confirms_a_rejected_publish_is_silent
                bytes_are_those_of_bodies
                a_body_larger_than_the_queue_may_hold_is_dropped_with_all_before_it
                whichever_limit_is_met_first_counts
                what_is_delivered_does_not_count
                length_zero_holds_nothing_but_serves_a_waiting_consumer
                a_priority_queues_head_is_its_highest_priority
                a_quorum_queue_drops_its_head
                a_negative_length_is_406
                an_unknown_overflow_is_406
            }
            prefetch {
                a_consumer_holds_no_more_than_its_prefetch
                each_consumer_has_a_prefetch_of_its_own
                a_consumer_keeps_the_prefetch_it_began_with
                a_global_prefetch_is_shared_by_the_channels_consumers
                a_global_prefetch_and_a_consumers_own_both_bind
                another_channel_is_not_bound_by_a_global_prefetch
                raising_a_global_prefetch_lets_more_through
                zero_is_no_limit
                a_consumer_without_acknowledgements_is_not_bound
                basic_get_is_not_bound
                multiple_makes_room_for_as_many
                a_quorum_queue_refuses_a_global_prefetch
                a_prefetch_size_is_540
                who_need_not_acknowledge_obeys_the_channels_limit
                consumers_that_share_a_limit_all_have_their_turn
            }
            priorities {
                higher_priorities_are_delivered_first_and_equal_ones_in_order
                an_expired_message_waits_for_those_of_higher_priority
                a_priority_past_the_maximum_counts_as_the_maximum
                no_priority_is_the_lowest
                an_ordinary_queue_ignores_priorities
                a_requeued_message_keeps_its_priority_and_place
                a_negative_maximum_is_406
                a_maximum_past_255_is_406
            }
            publishing {
                every_property_arrives_as_it_was_sent
                a_message_without_properties_arrives_without
                an_empty_body_arrives_empty
                a_body_larger_than_a_frame_arrives_whole
                an_unroutable_message_is_confirmed_and_gone
                an_unroutable_mandatory_message_comes_back_whole
                a_routed_mandatory_message_does_not_come_back
                the_return_comes_before_the_ack
                a_mandatory_message_is_returned_without_confirms_too
                publishing_to_an_exchange_that_is_not_there_closes_the_channel
                an_internal_exchange_refuses_publishers
                an_internal_exchange_takes_from_the_exchanges_it_is_bound_to
                immediate_is_540_and_ends_the_connection
                another_users_id_is_406
                an_expiration_that_is_no_number_is_406
                cc_and_bcc_route_too_and_bcc_is_taken_off
                a_cc_that_is_no_list_is_406
                messages_of_two_channels_may_be_interleaved_frame_by_frame
                the_next_exchange_looks_at_all_keys_again
            }
            queues {
                a_nameless_queue_is_named_by_the_broker
                declare_ok_counts_ready_messages_and_consumers
                declaring_passively_finds_a_queue_whatever_its_properties
                purging_counts_and_removes_what_is_ready_and_spares_what_is_delivered
                purging_a_queue_that_is_not_there_is_404
                deleting_counts_what_was_ready
                deleting_a_queue_that_is_not_there_succeeds
                a_consumed_queue_is_not_deleted_if_unused
                a_filled_queue_is_not_deleted_if_empty
                an_unused_empty_queue_is_deleted_on_both_conditions
                a_queue_whose_messages_are_all_delivered_counts_as_empty
                an_auto_delete_queue_goes_with_its_last_consumer
                an_auto_delete_queue_goes_when_its_consumers_channel_closes
                an_auto_delete_queue_that_never_had_a_consumer_stays
                messages_wait_in_the_order_they_were_published
                a_queue_name_may_be_255_bytes_of_any_utf8
                a_queue_in_one_vhost_is_not_in_another
                line_ends_in_names_are_left_out
            }
            quorum_queues {
                the_first_delivery_has_no_count
                rejecting_counts
                nacking_counts
                what_a_lost_channel_held_returns_to_its_place
                a_lost_channel_counts
                past_its_delivery_limit_a_message_is_dead
                past_its_delivery_limit_without_an_exchange_a_message_is_dropped
                a_delivery_limit_of_zero_allows_one_delivery
                without_a_delivery_limit_a_requeued_message_goes_to_the_end
                with_a_delivery_limit_a_requeued_message_comes_before_those_that_wait
                a_rejected_message_is_a_dead_letter
                a_consumer_holds_no_more_than_its_prefetch
                it_must_be_durable
                it_cannot_be_exclusive
                it_cannot_be_auto_delete
                it_has_no_priorities
                a_classic_queue_has_no_delivery_limit
                an_unknown_type_is_406
            }
            reply_to {
                an_answer_reaches_the_asking_channel
                asking_before_consuming_is_406
                consuming_replies_with_acknowledgements_is_406
                a_second_reply_consumer_on_the_channel_is_406
                the_pseudo_queue_can_be_declared_and_is_empty
                a_server_can_ask_whether_the_client_still_listens
            }
            single_active_consumer {
                only_the_first_consumer_is_served
                the_next_in_line_takes_over_on_cancel
                the_next_in_line_takes_over_when_a_channel_closes
                a_waiting_consumer_is_not_served_while_the_active_one_is_full
                all_consumers_are_counted
                an_exclusive_consumer_is_403
                a_quorum_queue_serves_only_the_first_and_then_the_next
            }
            transactions {
                publishes_show_at_commit
                rolled_back_publishes_never_were
                uncommitted_publishes_are_lost_with_the_channel
                acknowledgements_count_at_commit
                rolled_back_acknowledgements_may_be_made_again
                a_rejection_counts_at_commit
                commit_without_select_is_406
                rollback_without_select_is_406
                select_may_be_repeated
                an_unroutable_mandatory_message_is_returned_at_commit
                consuming_is_not_transactional
                recovering_leaves_what_waits_for_its_commit
                recover_returns_nothing_that_was_acknowledged_and_not_committed
            }
            ttl {
                a_queues_ttl_expires_its_messages
                a_messages_own_ttl_expires_it
                the_shorter_of_both_ttls_counts
                a_message_expires_only_at_the_head
                a_dead_message_behind_the_head_is_still_counted
                an_expired_message_is_not_delivered
                what_is_delivered_does_not_expire_until_it_returns
                a_ttl_of_zero_delivers_at_once_or_not_at_all
                an_unused_queue_expires
                a_consumed_queue_does_not_expire
                a_ttl_below_zero_is_406
                a_ttl_that_is_no_number_is_406
                expiring_at_once_is_406
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
            #[allow(dead_code, reason = "one half's names are enough")]
            pub(crate) const NAMES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($name)),)*)*];
        }
    };
}

against!(real, Real);
against!(embedded, Embedded);
