//! A private vhost on a shared node.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{HarnessError, QueueDepth, RabbitMq};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A vhost that nothing else uses. Dropping this value deletes the vhost with its queues and closes its connections.
///
/// ```no_run
/// use fluffle_harness::RabbitMq;
///
/// let vhost = RabbitMq::shared()?.fresh_vhost()?;
/// println!("connect to {}", vhost.url());
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
#[derive(Debug)]
pub struct Vhost<'a> {
    broker: &'a RabbitMq,
    name: String,
    url: String,
}

impl RabbitMq {
    /// Adds a vhost with a unique name. Takes about 50 ms, so it is the cheap way to keep tests apart.
    pub fn fresh_vhost(&self) -> Result<Vhost<'_>, HarnessError> {
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let url = self.add_vhost(&name)?;
        Ok(Vhost { broker: self, name, url })
    }
}

impl<'a> Vhost<'a> {
    /// The vhost's URL for the user `guest`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The vhost's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node that holds the vhost.
    #[must_use]
    pub fn broker(&self) -> &'a RabbitMq {
        self.broker
    }

    /// Like [`RabbitMq::queue_depths`], for this vhost.
    pub fn queue_depths(&self) -> Result<HashMap<String, QueueDepth>, HarnessError> {
        self.broker.queue_depths(&self.name)
    }

    /// Like [`RabbitMq::wait_queue`], for this vhost.
    pub fn wait_queue(
        &self,
        queue: &str,
        limit: Duration,
        expected: impl Fn(QueueDepth) -> bool,
    ) -> Result<QueueDepth, HarnessError> {
        self.broker.wait_queue(&self.name, queue, limit, expected)
    }

    /// Closes the connections of this vhost with 320 CONNECTION_FORCED and `reason`, and returns how many there were.
    pub fn close_connections(&self, reason: &str) -> Result<usize, HarnessError> {
        self.broker.close_connections_of_vhost(&self.name, reason)
    }
}

impl Drop for Vhost<'_> {
    fn drop(&mut self) {
        // Fails if the node is stopped, or gone with its folder. Then there is nothing to delete.
        let _ = self.broker.delete_vhost(&self.name);
    }
}
