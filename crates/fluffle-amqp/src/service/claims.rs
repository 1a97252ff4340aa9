//! What a part of the service has for itself for as long as it lives: its name in the tree, and the type of its queue.

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

/// The names of publishers, requesters and consumers: siblings in the tree need ids of their own.
#[derive(Default)]
pub(crate) struct Names(Taken);

/// Whether of a publisher, and the name.
type Taken = Arc<Mutex<HashSet<(bool, Arc<str>)>>>;

impl Names {
    /// `wished`, or `wished#2` and so on if a part of this role has that name.
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

/// A name in use. Dropped, it is free for the next part.
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

/// What is consumed from each queue, and by how many `consume` calls.
#[derive(Default)]
pub(crate) struct Types(Arc<Mutex<HashMap<Arc<str>, Consumed>>>);

struct Consumed {
    id: TypeId,
    name: &'static str,
    consumers: usize,
}

impl Types {
    /// The broker deals the messages of a queue out among its consumers, whatever they are: two consumers of different
    /// types would each dead-letter the other's messages, as undecodable.
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

/// A queue is consumed as messages of one type. When the last claim on a queue is dropped, another type may be.
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
        let types = Types::default();
        let claims = [types.claim::<String>("q").unwrap(), types.claim::<String>("q").unwrap()];
        let [first, second] = claims;
        assert!(types.claim::<u64>("other").is_ok());
        drop(first);
        assert!(matches!(types.claim::<u64>("q"), Err(ServiceError::TwoTypes { .. })));
        drop(second);
        assert!(types.claim::<u64>("q").is_ok());
    }
}
