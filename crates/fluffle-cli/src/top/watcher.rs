//! Looks at the broker and the service, and remembers what was seen before they were lost.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    common::failure::Failure,
    top::{
        args::TopArgs,
        look::{Look, Row},
        lost::Lost,
        service::{Service, StatusPage},
        source::Queues,
    },
    topology::target::Target,
};

/// Makes looks.
pub(crate) struct Watcher {
    target: Target,
    queues: Queues,
    page: Option<StatusPage>,
    rows: Vec<Row>,
    lost: Option<Lost>,
    page_lost: Option<Lost>,
    /// The queues of the service.
    names: BTreeSet<String>,
}

impl Watcher {
    /// # Errors
    /// If the arguments contradict one another, or name nothing that could be shown.
    pub(crate) fn new(args: &TopArgs) -> Result<Self, Failure> {
        let target = Target::of(&args.broker)?;
        if args.broker.api.is_none() {
            if let Some(pattern) = args.queue.iter().find(|pattern| pattern.name().is_none()) {
                return Err(Failure::new(format!(
                    "--queue {:?}: AMQP cannot list queues; give names without `*`, or --api http://host:15672",
                    pattern.text()
                )));
            }
            if args.queue.is_empty() && args.status.is_none() {
                return Err(Failure::new(
                    "AMQP cannot list queues: give --api http://host:15672, names with --queue, or --status for the \
                     queues of a service",
                ));
            }
        }
        let queues = Queues::new(&args.broker, &target.vhost, &args.queue)?;
        let token = args.status_token_file.as_deref();
        let page = args.status.as_deref().map(|url| StatusPage::new(url, token)).transpose()?;
        let names = BTreeSet::new();
        Ok(Self { target, queues, page, rows: Vec::new(), lost: None, page_lost: None, names })
    }

    /// Looks once. What gives no answer is told in the look.
    pub(crate) async fn look(&mut self) -> Look {
        let service = self.look_at_service().await;
        if let Some(service) = service.as_ref().filter(|service| service.lost.is_none()) {
            self.names = service.queues.iter().map(|queue| queue.name.clone()).collect();
        }
        match self.queues.look(&self.names).await {
            Ok(rows) => {
                self.rows = rows;
                self.lost = None;
            }
            Err(failure) => self.lost = Some(lost(self.lost.take(), &failure)),
        }
        Look {
            at: now(),
            broker: self.target.broker.clone(),
            vhost: self.target.vhost.clone(),
            source: self.queues.source(),
            lost: self.lost.clone(),
            queues: self.rows.clone(),
            unknown: self.queues.unknown(),
            service,
        }
    }

    async fn look_at_service(&mut self) -> Option<Service> {
        let page = self.page.as_ref()?;
        Some(match page.look().await {
            Ok(service) => {
                self.page_lost = None;
                service
            }
            Err(failure) => {
                self.page_lost = Some(lost(self.page_lost.take(), &failure));
                Service { url: page.url.clone(), lost: self.page_lost.clone(), ..Service::default() }
            }
        })
    }

    pub(crate) async fn close(&mut self) {
        self.queues.close().await;
    }
}

/// Since when, from the first failure; why, from the last.
fn lost(before: Option<Lost>, failure: &Failure) -> Lost {
    Lost { since: before.map_or_else(now, |before| before.since), why: failure.to_string() }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
