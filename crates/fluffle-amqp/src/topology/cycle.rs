//! Rings of queues in which expired messages circulate.

use std::{collections::HashMap, sync::Arc};

use crate::topology::error::{Entity, TopologyError};
use crate::topology::queue::Queue;

/// Refuses rings of queues with one of `starts` in them, in which messages move by expiry alone.
///
/// RabbitMQ drops a message that returns to a queue without having been rejected on the way
/// (<https://www.rabbitmq.com/docs/dlx#effects>). A ring with a queue whose messages do not expire is allowed: there a
/// consumer rejects them, as in a retry.
pub(super) fn check(queues: &[Arc<Queue>], starts: &[&Queue]) -> Result<(), TopologyError> {
    let by_name: HashMap<_, _> = queues.iter().map(|queue| (queue.name(), &**queue)).collect();
    let next = |queue: &Queue| {
        let target = queue.expires_messages().then(|| queue.dead_letter_queue()).flatten();
        target.and_then(|name| by_name.get(name)).copied()
    };
    for start in starts {
        let mut ring = vec![start.name()];
        let mut queue = *start;
        while let Some(target) = next(queue) {
            if target.name() == start.name() {
                return Err(TopologyError::invalid(
                    Entity::Queue(start.name().to_owned()),
                    format!(
                        "its expired messages come back to it ({} -> {}) and RabbitMQ drops them: let \
                         one queue of the ring keep its messages, or dead-letter elsewhere",
                        ring.join(" -> "),
                        start.name()
                    ),
                ));
            }
            if ring.contains(&target.name()) {
                break; // This ring does not include `start`; it is found when one of its own queues is `start`.
            }
            ring.push(target.name());
            queue = target;
        }
    }
    Ok(())
}
