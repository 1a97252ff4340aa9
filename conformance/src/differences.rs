//! Where a broker of ours does not do as RabbitMQ does.

/// A behaviour that the embedded broker does not share with RabbitMQ.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The behaviour: `module::name`.
    pub behaviour: &'static str,
    /// What differs, and why it is not mended.
    pub reason: &'static str,
}

/// All of them. A listed behaviour must fail: one that passes is a failure too, so that no line outlives its reason.
pub const KNOWN_DIFFERENCES: &[Difference] = &[
    Difference { behaviour: "connection::a_body_without_a_header_is_505", reason: FRAMING },
    Difference { behaviour: "connection::a_channels_method_on_channel_zero_is_504", reason: FRAMING },
    Difference { behaviour: "connection::a_connections_method_on_a_channel_is_503", reason: FRAMING },
    Difference { behaviour: "connection::a_frame_larger_than_agreed_is_501", reason: FRAMING },
    Difference { behaviour: "connection::a_frame_of_unknown_type_is_501", reason: FRAMING },
    Difference { behaviour: "connection::a_frame_without_its_end_octet_is_501", reason: FRAMING },
    Difference { behaviour: "connection::a_header_without_a_method_is_505", reason: FRAMING },
    Difference { behaviour: "connection::a_heartbeat_on_a_channel_is_505", reason: FRAMING },
    Difference { behaviour: "connection::a_method_instead_of_a_body_is_505", reason: FRAMING },
    Difference { behaviour: "connection::a_method_only_the_broker_sends_is_503", reason: FRAMING },
    Difference { behaviour: "connection::a_method_that_is_cut_short_is_501", reason: FRAMING },
    Difference {
        behaviour: "connection::a_vhost_that_is_not_there_is_530",
        reason: "the close names no method (0, 0) instead of connection.open (10, 40); not mended yet",
    },
    Difference {
        behaviour: "connection::more_channels_than_agreed_are_530",
        reason: "channel_max bounds the numbers of channels instead of how many are open; not mended yet",
    },
    Difference {
        behaviour: "connection::start_tells_what_the_broker_can",
        reason: "one capability is missing from `connection.start`; not mended yet",
    },
    Difference {
        behaviour: "connection::the_headers_of_amqp_0_8_and_0_9_are_taken_for_0_9_1",
        reason: "clients of AMQP 0-8 and 0-9 are shown the version instead of being served; not mended yet",
    },
    Difference {
        behaviour: "prefetch::a_prefetch_size_is_540",
        reason: "`prefetch_size` is ignored instead of refused; not mended yet",
    },
];

const FRAMING: &str = "a malformed or misplaced frame ends the connection in both; the text, or which of 501 to 505 it is, \
                       differs; not mended yet";
