//! What is seen of a service at each look: rates, ledgers, verdicts, history.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use fluffle_amqp::{PublisherStats, Service, ServiceStatus};
use fluffle_supervise::{NodeSnapshot, State};

use crate::{
    depths::LastDepths,
    insight::{
        history::{History, Of, STEP, Step},
        ledger::{Entries, Ledger},
        stories::{Stories, Totals},
    },
    metrics::{Metrics, gauges::by_queue},
    observing::Watched,
    sampling::{
        clock::Clock,
        trend::{PublisherTrend, QueueTrend},
        views,
    },
    status::picture::{
        HealthView, HistoryView, LedgerLine, NodeView, Picture, Process, PublisherView, QueueView, SeriesView,
        StoryView,
    },
};

/// How far two looks are apart.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// Looks at one service.
pub(crate) struct Sampler {
    service: Service,
    metrics: Arc<Metrics>,
    watched: Arc<Watched>,
    depths: Arc<LastDepths>,
    clock: Clock,
    queues: BTreeMap<String, QueueTrend>,
    publishers: BTreeMap<String, PublisherTrend>,
    ledgers: BTreeMap<(&'static str, String), Ledger>,
    history: History,
    last_step: Option<Instant>,
    was_ready: bool,
}

/// What came in and what was settled, by name.
type Books = BTreeMap<String, [u64; 2]>;

impl Sampler {
    pub(crate) fn new(service: Service, metrics: Arc<Metrics>, watched: Arc<Watched>, depths: Arc<LastDepths>) -> Self {
        Self {
            service,
            metrics,
            watched,
            depths,
            clock: Clock::now(),
            queues: BTreeMap::new(),
            publishers: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            history: History::default(),
            last_step: None,
            was_ready: false,
        }
    }

    /// Looks once.
    pub(crate) fn look(&mut self) -> Picture {
        let now = Instant::now();
        let before = (self.consumed(), published(&self.service.publishers()));
        let status = self.service.status();
        let after = (self.consumed(), published(&self.service.publishers()));
        let tree = self.service.snapshot();
        self.follow(now, &status);
        let ledger = self.balance(&status, &before, &after);
        let picture = self.paint(now, &status, &tree, ledger);
        if self.last_step.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_millis(STEP)) {
            self.last_step = Some(now);
            self.step(&picture);
        }
        picture
    }

    pub(crate) fn history(&self) -> HistoryView {
        let series = self.history.series().map(|(of, ring)| {
            let values = |value: fn(&Step) -> Option<f32>| {
                ring.iter()
                    .map(|step| step.as_ref().and_then(value).map(|value| (value * 10.0).round() / 10.0))
                    .collect()
            };
            let (of, name) = match of {
                Of::Queue(name) => ("queue", name.clone()),
                Of::Publisher(name) => ("publisher", name.clone()),
            };
            SeriesView {
                of,
                name,
                entered: values(|step| Some(step.entered)),
                settled: values(|step| Some(step.settled)),
                failed: values(|step| Some(step.failed)),
                open: values(|step| Some(step.open)),
                p99: values(|step| step.p99),
            }
        });
        let at = self.clock.unix(self.last_step.unwrap_or_else(Instant::now));
        HistoryView { at, step: STEP, series: series.collect() }
    }

    /// Deliveries received, and settled or lost, by queue.
    fn consumed(&self) -> Books {
        let book = |(queue, metrics): (Box<str>, Arc<crate::metrics::consumer::ConsumerMetrics>)| {
            // What is settled is read first: it must not seem to be more than what came in.
            let ended = metrics.ended();
            (String::from(queue), [metrics.received(), ended])
        };
        self.metrics.consumers.all().into_iter().map(book).collect()
    }

    fn follow(&mut self, now: Instant, status: &ServiceStatus) {
        for (queue, metrics) in self.metrics.consumers.all() {
            let trend = self.queues.entry(queue.into()).or_default();
            trend.push(now, metrics.totals(), metrics.stages().to_vec());
        }
        let mut sums = published_status(status);
        self.publishers.retain(|name, _| sums.contains_key(name));
        for (name, totals) in std::mem::take(&mut sums) {
            let stages = self.metrics.publishers.get(&name).map(|metrics| metrics.stages().to_vec());
            self.publishers.entry(name).or_default().push(now, totals, stages.unwrap_or_default());
        }
    }

    fn balance(&mut self, status: &ServiceStatus, before: &(Books, Books), after: &(Books, Books)) -> Vec<LedgerLine> {
        let mut in_hand = BTreeMap::<&str, u64>::new();
        for consumer in &status.consumers {
            *in_hand.entry(&consumer.queue).or_default() += consumer.in_hand as u64;
        }
        let mut outstanding = BTreeMap::<&str, u64>::new();
        for publisher in &status.publishers {
            *outstanding.entry(&publisher.name).or_default() += publisher.stats.outstanding as u64;
        }
        let sides = [("consume", &before.0, &after.0, in_hand), ("publish", &before.1, &after.1, outstanding)];
        let mut lines = Vec::new();
        for (side, before, after, open) in sides {
            for (name, [entered, settled]) in after {
                // What came between the looks has no reading from before: the next look has.
                let Some([entered_before, settled_before]) = before.get(name) else { continue };
                let open = open.get(&**name).copied().unwrap_or_default();
                let entries =
                    Entries { entered: [*entered_before, *entered], settled: [*settled_before, *settled], open };
                let imbalance = self.ledgers.entry((side, name.clone())).or_default().read(&entries);
                let [entered, settled] = entries.at_one_moment();
                lines.push(LedgerLine { side, of: name.clone(), entered, settled, open, imbalance });
            }
        }
        let known: BTreeSet<_> = lines.iter().map(|line| (line.side, line.of.clone())).collect();
        self.ledgers.retain(|key, _| known.contains(key));
        lines
    }

    fn paint(&mut self, now: Instant, status: &ServiceStatus, tree: &NodeSnapshot, ledger: Vec<LedgerLine>) -> Picture {
        let health = self.service.health();
        self.was_ready |= health.is_ready();
        let lines = |findings: &[fluffle_amqp::Finding]| findings.iter().map(ToString::to_string).collect();
        let (redelivered, republished) = self.metrics.came_again();
        let totals = Totals { redelivered, republished };
        let mut stories = self.watched.stories.lock().unwrap_or_else(PoisonError::into_inner);
        stories.settle(now, totals);
        let told = self.tell(&stories, totals);
        drop(stories);
        Picture {
            at: self.clock.unix(now),
            process: Process {
                name: self.service.name().to_owned(),
                version: env!("CARGO_PKG_VERSION"),
                pid: std::process::id(),
                since: self.clock.unix(self.clock.started()),
                state: self.state(tree),
            },
            health: HealthView {
                live: lines(&health.not_alive),
                ready: lines(&health.not_ready),
                notes: lines(&health.notes),
            },
            // The root's sum would count a message where it is published, where it is consumed, and at its handler.
            tree: NodeView { rate: None, ..views::node(tree, &self.clock, &self.rates(status)) },
            queues: self.queue_views(now, status),
            publishers: self.publisher_views(status),
            connections: status.connections.iter().map(|one| views::connection(one, status, &self.clock)).collect(),
            arbiters: views::arbiters(status),
            ledger,
            stories: told,
            actions: Vec::new(),
        }
    }

    fn state(&self, tree: &NodeSnapshot) -> &'static str {
        match tree.state {
            State::Stopped | State::Failed => "ended",
            State::Stopping => "draining",
            _ if self.was_ready => "running",
            _ => "starting",
        }
    }

    /// The traffic of consumers and publishers, by the path of their actor.
    fn rates(&self, status: &ServiceStatus) -> HashMap<String, f64> {
        let mut rates = HashMap::new();
        for consumer in &status.consumers {
            let siblings = status.consumers.iter().filter(|other| other.queue == consumer.queue).count().max(1);
            if let Some(trend) = self.queues.get(&consumer.queue) {
                #[allow(clippy::cast_precision_loss, reason = "a few lanes")]
                let rate = trend.rates().received / siblings as f64;
                let (connection, name) = (&consumer.connection, &consumer.name);
                rates.insert(format!("app/consume/{connection}/channels/{name}/consumer"), rate);
                rates.insert(format!("app/handlers/{name}"), rate);
            }
        }
        for channel in &status.channels {
            if let Some(trend) = self.publishers.get(&channel.name) {
                let path = format!("app/publish/{}/channels/{}/publisher", channel.connection, channel.name);
                rates.insert(path, trend.rates()[1]);
            }
        }
        rates
    }

    fn queue_views(&self, now: Instant, status: &ServiceStatus) -> Vec<QueueView> {
        let (queues, depths) = (by_queue(&status.consumers), self.depths.get());
        let view = |(queue, consumers): (&str, Vec<&fluffle_amqp::ConsumerStatus>)| {
            let (metrics, trend) = (self.metrics.consumers.get(queue)?, self.queues.get(queue)?);
            let is_own = |thread: &&fluffle_amqp::ThreadStatus| {
                consumers.iter().any(|consumer| thread.consumer.as_ref() == Some(&consumer.name))
            };
            let lag = status.threads.iter().filter(is_own).map(|thread| thread.lag.as_secs_f64()).fold(0.0, f64::max);
            let samples = self.watched.samples.get(queue).map(|samples| samples.all(now)).unwrap_or_default();
            let view = views::queue(queue, &consumers, &metrics, trend, lag, samples, &self.clock);
            Some(QueueView { dead_letters: depths.dead_letters.get(queue).copied(), ..view })
        };
        queues.into_iter().filter_map(view).collect()
    }

    fn publisher_views(&self, status: &ServiceStatus) -> Vec<PublisherView> {
        let depths = self.depths.get();
        let view = |publisher: &fluffle_amqp::PublisherStatus| {
            let trend = self.publishers.get(&publisher.name);
            let (rates, stages) = trend.map(|trend| (trend.rates(), trend.stages())).unwrap_or_default();
            views::publisher(publisher, depths.outboxes.get(&publisher.name), rates, stages)
        };
        status.publishers.iter().map(view).collect()
    }

    fn tell(&self, stories: &Stories, totals: Totals) -> Vec<StoryView> {
        let story = |(story, remark): (&crate::insight::stories::Story, Option<String>)| {
            let again = story.came_again(totals);
            let reason = match story.exits {
                1 => story.reason.clone(),
                exits => format!("{} ({exits} times before it was ready again)", story.reason),
            };
            StoryView {
                at: self.clock.unix(story.at),
                node: story.node.clone(),
                reason,
                in_hand: story.in_hand.clone(),
                siblings: story.siblings.clone(),
                redelivered: again.redelivered,
                republished: again.republished,
                recovered_in: story.recovered_in.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
                remark,
            }
        };
        stories.newest().map(story).collect()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "for a line on a page")]
    fn step(&mut self, picture: &Picture) {
        let p99 = |stages: &[crate::status::picture::StageView], stage: &str| {
            stages.iter().find(|view| view.stage == stage).and_then(|view| view.p99).map(|value| value as f32)
        };
        let queues = picture.queues.iter().map(|queue| {
            let step = Step {
                entered: queue.received_rate as f32,
                settled: queue.settled_rate as f32,
                failed: queue.failed_rate as f32,
                open: queue.in_hand as f32,
                p99: p99(&queue.stages, "handle"),
            };
            (Of::Queue(queue.name.clone()), step)
        });
        let publishers = picture.publishers.iter().map(|publisher| {
            let step = Step {
                entered: publisher.accepted_rate as f32,
                settled: publisher.settled_rate as f32,
                failed: 0.0,
                open: publisher.outstanding as f32,
                p99: p99(&publisher.stages, "confirm"),
            };
            (Of::Publisher(publisher.name.clone()), step)
        });
        self.history.push(queues.chain(publishers));
    }
}

/// Messages accepted and settled, by publisher.
fn published(publishers: &[(String, PublisherStats)]) -> Books {
    let mut books = Books::new();
    for (name, stats) in publishers {
        add(&mut books, name, stats);
    }
    books
}

fn published_status(status: &ServiceStatus) -> Books {
    let mut books = Books::new();
    for publisher in &status.publishers {
        add(&mut books, &publisher.name, &publisher.stats);
    }
    books
}

fn add(books: &mut Books, name: &str, stats: &PublisherStats) {
    let [accepted, settled] = books.entry(name.to_owned()).or_default();
    *accepted += stats.accepted;
    *settled += stats.confirmed + stats.returned + stats.nacked + stats.failed + stats.withdrawn;
}
