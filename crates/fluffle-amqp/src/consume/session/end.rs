//! How a session ends.

/// How a session ended.
pub(crate) enum End {
    Drained,
    Cancelled,
    /// It closed its channel to begin or end handling messages one at a time. What no handler had begun goes back.
    Isolated,
    /// The application has paused the consumer: nothing is in hand, and the channel is closed.
    Paused,
    /// It should read a stream, and its queue is none.
    NotAStream,
    /// It could not subscribe again after its guard had stopped it.
    Refused(lapin::Error),
    ChannelLost(lapin::Error),
}
