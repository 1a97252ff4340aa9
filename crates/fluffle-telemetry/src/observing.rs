//! What an observer of the service keeps beside metrics: stories of restarts, and samples of messages.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use fluffle_amqp::{AttemptListener, AttemptReport, ConsumerLabels, Listener, Observer};

use crate::{
    insight::{
        samples::{Sample, Samples},
        stories::{Stories, Totals},
    },
    instrument::counter::Counter,
    metrics::{Metrics, group::Group},
};

/// Stories and samples of one service.
pub(crate) struct Watched {
    pub(crate) stories: Arc<Mutex<Stories>>,
    pub(crate) samples: Group<Samples>,
    /// Set by the application before the service is started.
    pub(crate) formatter: Arc<OnceLock<Formatter>>,
    metrics: Arc<Metrics>,
}

/// What an application says of a message, for the status page.
pub(crate) type Formatter = Box<dyn Fn(&AttemptReport<'_>) -> Option<String> + Send + Sync>;

impl Watched {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        let folded = Arc::new(Counter::default());
        let (stories, formatter) = (Arc::default(), Arc::default());
        Self { stories, samples: Group::new(&folded), formatter, metrics: Arc::clone(metrics) }
    }
}

/// The longest text of an application or of an error that is kept of a message, in characters.
const LONGEST: usize = 500;

fn sample(report: &AttemptReport<'_>, formatter: Option<&Formatter>) -> Sample {
    Sample {
        at: Instant::now(),
        id: report.message_id.map(shortened),
        trace: report.trace().map(|trace| trace.trace_id_hex()),
        attempt: report.attempt,
        kind: report.type_name.map(shortened),
        bytes: report.body.len(),
        outcome: match (report.failed, report.crashed) {
            (0, _) => "handled",
            (_, true) => "crashed",
            (_, false) => "failed",
        },
        failure: report.failure().as_deref().map(shortened),
        stages: vec![("handler_wait", report.waited), ("handle", report.took)],
        detail: formatter.and_then(|formatter| formatter(report)).as_deref().map(shortened),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Observer for Watched {
    fn attempts(&self, of: &ConsumerLabels<'_>) -> Option<AttemptListener> {
        let (samples, stories, name) = (self.samples.of(of.queue), Arc::clone(&self.stories), of.name.to_owned());
        let formatter = Arc::clone(&self.formatter);
        Some(Arc::new(move |report: &AttemptReport<'_>| {
            if let Some(why) = samples.wants(report.waited + report.took, report.failed > 0) {
                samples.keep(why, report.waited + report.took, sample(report, formatter.get()));
            }
            if report.crashed {
                let message = report.message_id.unwrap_or("(no id)");
                stories.lock().unwrap_or_else(PoisonError::into_inner).crashed(Instant::now(), &name, message);
            }
        }))
    }

    fn nodes(&self) -> Option<Listener<fluffle_supervise::Event>> {
        let (stories, metrics) = (Arc::clone(&self.stories), Arc::clone(&self.metrics));
        Some(Arc::new(move |event: &fluffle_supervise::Event| {
            let (redelivered, republished) = metrics.came_again();
            let totals = Totals { redelivered, republished };
            stories.lock().unwrap_or_else(PoisonError::into_inner).record(event, totals);
        }))
    }
}
