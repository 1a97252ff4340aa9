//! Dead letters that go in a ring.

use std::collections::HashMap;

use crate::topology::error::{Entity, TopologyError};
use crate::topology::queue::Queue;

/// Refuses rings of queues in which messages move by expiry alone.
///
/// RabbitMQ drops a message that comes round to a queue again without having been rejected on the way
/// (<https://www.rabbitmq.com/docs/dlx#effects>). A ring with a queue that expires nothing is a retry:
/// there a consumer rejects, and the ring is wanted.
pub(super) fn check(queues: &[Queue]) -> Result<(), TopologyError> {
    let by_name: HashMap<_, _> = queues.iter().map(|queue| (queue.name(), queue)).collect();
    let next = |queue: &Queue| {
        let target = queue.expires_messages().then(|| queue.dead_letter_queue()).flatten();
        target.and_then(|name| by_name.get(name)).copied()
    };
    for start in queues {
        let mut ring = vec![start.name()];
        let mut queue = start;
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
                break; // A ring that does not come through here is found from one of its own queues.
            }
            ring.push(target.name());
            queue = target;
        }
    }
    Ok(())
}
