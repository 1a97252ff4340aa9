//! What an observer of the service keeps beside metrics: stories of restarts, and samples of messages.

use std::sync::{Arc, Mutex, PoisonError};

use fluffle_amqp::{Listener, Observer};

use crate::{
    insight::{
        samples::Samples,
        stories::{Stories, Totals},
    },
    instrument::counter::Counter,
    metrics::{Metrics, group::Group},
};

/// Stories and samples of one service.
pub(crate) struct Watched {
    pub(crate) stories: Arc<Mutex<Stories>>,
    pub(crate) samples: Group<Samples>,
    metrics: Arc<Metrics>,
}

impl Watched {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        let folded = Arc::new(Counter::default());
        Self { stories: Arc::default(), samples: Group::new(&folded), metrics: Arc::clone(metrics) }
    }
}

impl Observer for Watched {
    fn nodes(&self) -> Option<Listener<fluffle_supervise::Event>> {
        let (stories, metrics) = (Arc::clone(&self.stories), Arc::clone(&self.metrics));
        Some(Arc::new(move |event: &fluffle_supervise::Event| {
            let (redelivered, republished) = metrics.came_again();
            let totals = Totals { redelivered, republished };
            stories.lock().unwrap_or_else(PoisonError::into_inner).record(event, totals);
        }))
    }
}
