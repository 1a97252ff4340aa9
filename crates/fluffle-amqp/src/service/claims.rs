//! Claims of the parts of a service. Each part claims its name in the tree; a consumer also claims its queue for one
//! message type. The claim ends when the part is dropped.

use std::{
    any::{TypeId, type_name},
    collections::{HashMap, HashSet},
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{link::pool::Role, service::error::ServiceError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names in use of publishers, requesters and consumers. Names are unique, because siblings in the tree must have
/// different ids.
#[derive(Default)]
pub(crate) struct Names(Taken);

/// For each name in use: whether a publisher or requester has it (`true`) or a consumer (`false`), and the name.
type Taken = Arc<Mutex<HashSet<(bool, Arc<str>)>>>;

impl Names {
    /// Claims `wished`. If another part of the same role has that name, claims the first free one of `wished#2`,
    /// `wished#3` and so on.
    pub(crate) fn take(&self, role: Role, wished: &str) -> Name {
        let publishes = role == Role::Publish;
        let mut taken = lock(&self.0);
        let mut name: Arc<str> = wished.into();
        let mut number = 1;
        while !taken.insert((publishes, Arc::clone(&name))) {
            number += 1;
            name = format!("{wished}#{number}").into();
        }
        Name { name, publishes, taken: Arc::clone(&self.0) }
    }
}

/// A name in use. When this value is dropped, another part can claim the name.
pub(crate) struct Name {
    name: Arc<str>,
    publishes: bool,
    taken: Taken,
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        lock(&self.taken).remove(&(self.publishes, Arc::clone(&self.name)));
    }
}

/// For each queue: the message type that is consumed from it, and the number of claims (one for each `consume` call).
#[derive(Default)]
pub(crate) struct TypeClaims(Arc<Mutex<HashMap<Arc<str>, Consumed>>>);

struct Consumed {
    id: TypeId,
    name: &'static str,
    consumers: usize,
}

impl TypeClaims {
    /// Claims `queue` for messages of type `T`. Fails if the queue is claimed for another type: the broker distributes
    /// the messages of a queue among all its consumers and does not know their types, so each consumer would receive
    /// messages of the other's type and dead-letter them as undecodable.
    pub(crate) fn claim<T: 'static>(&self, queue: &str) -> Result<TypeClaim, ServiceError> {
        let (id, name, queue) = (TypeId::of::<T>(), type_name::<T>(), Arc::<str>::from(queue));
        let mut types = lock(&self.0);
        let consumed = types.entry(Arc::clone(&queue)).or_insert(Consumed { id, name, consumers: 0 });
        if consumed.id != id {
            return Err(ServiceError::TwoTypes { queue: queue.to_string(), types: [consumed.name, name] });
        }
        consumed.consumers += 1;
        Ok(TypeClaim { queue, types: Arc::clone(&self.0) })
    }
}

/// A claim on a queue for one message type. When the last claim on the queue is dropped, it can be claimed for another
/// type.
pub(crate) struct TypeClaim {
    queue: Arc<str>,
    types: Arc<Mutex<HashMap<Arc<str>, Consumed>>>,
}

impl Drop for TypeClaim {
    fn drop(&mut self) {
        let mut types = lock(&self.types);
        if let Some(consumed) = types.get_mut(&self.queue) {
            consumed.consumers -= 1;
            if consumed.consumers == 0 {
                types.remove(&self.queue);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_at_a_time_whatever_it_looks_like() {
        let names = Names::default();
        let take = |wished| names.take(Role::Consume, wished);
        let (first, numbered, second) = (take("q"), take("q#2"), take("q"));
        assert_eq!([&*first, &*numbered, &*second], ["q", "q#2", "q#3"]);
        assert_eq!(&*names.take(Role::Publish, "q"), "q", "a name of another role");
        drop(first);
        assert_eq!(&*take("q"), "q", "it was given back");
    }

    #[test]
    fn a_queue_has_one_type_until_its_last_consumer_has_gone() {
        let types = TypeClaims::default();
        let claims = [types.claim::<String>("q").unwrap(), types.claim::<String>("q").unwrap()];
        let [first, second] = claims;
        assert!(types.claim::<u64>("other").is_ok());
        drop(first);
        assert!(matches!(types.claim::<u64>("q"), Err(ServiceError::TwoTypes { .. })));
        drop(second);
        assert!(types.claim::<u64>("q").is_ok());
    }
}
