//! More channels are needed on a connection than the broker allows.

use std::fmt;

/// The broker allows fewer channels on a connection than the pool has assigned to it.
#[derive(Debug)]
pub(super) struct TooManyChannels {
    pub(super) connection: String,
    pub(super) channels: usize,
    pub(super) channel_max: usize,
}

impl fmt::Display for TooManyChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, channels, channel_max } = self;
        write!(
            f,
            "connection {connection} needs {channels} channels and one more for declaring the topology; the broker \
             allows {channel_max} (`channel_max`): raise `channel_max` in rabbitmq.conf"
        )?;
        match channel_max {
            0 | 1 => Ok(()),
            _ => write!(
                f,
                ", or write it into the broker's URI (?channel_max={channel_max}), so that more connections are opened"
            ),
        }
    }
}

impl std::error::Error for TooManyChannels {}
