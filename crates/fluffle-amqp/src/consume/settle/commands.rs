//! The commands to the broker that settle deliveries, on the channel on which they came.

use std::future::Future;

use lapin::options::{BasicAckOptions, BasicNackOptions};

/// The commands that settle deliveries on one channel. The broker does not answer them, so they do not wait for it.
pub(crate) trait Commands: Clone + 'static {
    /// `basic.ack` of one tag, or with `multiple` of all tags up to it. An error means that the channel is lost.
    fn ack(&self, tag: u64, multiple: bool) -> impl Future<Output = Result<(), lapin::Error>> + 'static;

    /// `basic.nack` of one tag, which puts its delivery back into the queue. An error means that the channel is lost.
    fn requeue(&self, tag: u64) -> impl Future<Output = Result<(), lapin::Error>> + 'static;

    fn is_connected(&self) -> bool;
}

impl Commands for lapin::Channel {
    fn ack(&self, tag: u64, multiple: bool) -> impl Future<Output = Result<(), lapin::Error>> + 'static {
        let channel = self.clone();
        async move { channel.basic_ack(tag, BasicAckOptions { multiple }).await }
    }

    fn requeue(&self, tag: u64) -> impl Future<Output = Result<(), lapin::Error>> + 'static {
        let channel = self.clone();
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        async move { channel.basic_nack(tag, options).await }
    }

    fn is_connected(&self) -> bool {
        self.status().connected()
    }
}
