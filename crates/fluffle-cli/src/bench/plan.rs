//! The plan of a run: the arguments, checked against one another, with every default filled in.

use std::{thread, time::Duration};

use fluffle::prelude::*;
use serde::Serialize;

use crate::{
    bench::args::{Ack, BenchArgs, PayloadSource, QueueType},
    bench::{message::Message, schedule::Schedule, stages::Timed},
    common::failure::Failure,
    units,
};

/// How long unused queues exist, so that a killed run leaves nothing.
const EXPIRES: Duration = Duration::from_secs(600);

/// How long the unused dead-letter queue exists: a day, because dead letters are evidence.
const EVIDENCE: Duration = Duration::from_secs(24 * 3600);

/// The plan of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) args: BenchArgs,
    /// The id of the run. It is part of the queues' names and of each message.
    pub(crate) run: u32,
    pub(crate) producers: usize,
    pub(crate) queues: usize,
    pub(crate) consumers: usize,
    pub(crate) warm_up: Duration,
    /// How long to measure, without `--count`.
    pub(crate) time: Duration,
}

/// The plan for the report. Keys are stable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Workload {
    pub(crate) broker: String,
    pub(crate) producers: usize,
    pub(crate) queues: usize,
    pub(crate) consumers: usize,
    pub(crate) queue_type: &'static str,
    pub(crate) durable: bool,
    pub(crate) size: String,
    pub(crate) payload: String,
    /// Messages per second of an open loop. `null` for a closed loop.
    pub(crate) rate: Option<f64>,
    /// Most messages published and not handled. `null`: no limit.
    pub(crate) in_flight: Option<u64>,
    pub(crate) confirm: String,
    pub(crate) prefetch: u16,
    pub(crate) guarantee: &'static str,
    /// Of how many keys the order is kept. `null`: handlers do not look at keys.
    pub(crate) ordered_by: Option<u32>,
    /// The channels of each consumer.
    pub(crate) lanes: u32,
    pub(crate) gzip: String,
    /// The bounds of a batch: bytes, linger and messages.
    pub(crate) batch: Option<String>,
    /// Whether handlers get batches as a whole.
    pub(crate) whole_batches: bool,
    pub(crate) warm_up_s: f64,
    pub(crate) seed: u64,
}

impl Plan {
    pub(crate) fn new(args: &BenchArgs, run: u32) -> Result<Self, Failure> {
        let (producers, queues) = (args.producers as usize, args.queues as usize);
        let consumers = handlers(args)?;
        if args.transient && args.queue_type == QueueType::Quorum {
            return Err(Failure::new("--transient: quorum queues are always durable; use --queue-type classic"));
        }
        if let (PayloadSource::File(path), true) = (&args.payload, args.size.to_string() != DEFAULT_SIZE) {
            return Err(Failure::new(format!(
                "--size: with --payload file:{} messages are as large as the records in it",
                path.display()
            )));
        }
        let warm_up = match (args.warm_up, args.count) {
            (Some(time), _) => time,
            (None, Some(_)) => Duration::ZERO,
            (None, None) => Duration::from_secs(2),
        };
        let time = args.time.unwrap_or(Duration::from_secs(8));
        Ok(Self { args: args.clone(), run, producers, queues, consumers, warm_up, time })
    }

    /// The name of the queue with this index.
    pub(crate) fn queue(&self, index: usize) -> String {
        format!("fluffle.bench.{:08x}.{index}", self.run)
    }

    pub(crate) fn dead_letters(&self) -> String {
        format!("fluffle.bench.{:08x}.dead", self.run)
    }

    pub(crate) fn topology(&self) -> Topology {
        let dead = Queue::classic(self.dead_letters()).expires(EVIDENCE);
        (0..self.queues).fold(Topology::new().queue(dead), |topology, index| {
            let queue = match self.args.queue_type {
                QueueType::Classic => Queue::classic(self.queue(index)),
                QueueType::Quorum => Queue::quorum(self.queue(index)),
            };
            let queue = if self.args.transient { queue.transient() } else { queue };
            let arguments = self.args.queue_arg.iter();
            topology.queue(arguments.fold(queue.expires(EXPIRES), |queue, argument| {
                queue.argument(argument.name.clone(), argument.value.clone())
            }))
        })
    }

    /// How each producer publishes.
    pub(crate) fn route(&self) -> Route<Message> {
        let route = Route::coded(Timed, "")
            .confirms(self.args.confirms())
            .lanes(self.args.lanes as usize)
            .persistent(!self.args.transient)
            .gzip(self.args.gzip.0);
        let route = match self.args.batch {
            Some(batch) => route.batch(batch.batching()).mailbox(self.window()),
            None => route,
        };
        let names: Vec<String> = (0..self.queues).map(|index| self.queue(index)).collect();
        match &names[..] {
            [only] => route.key(only),
            _ => route.key_by(move |message| names[message.stream as usize % names.len()].clone()),
        }
    }

    /// How a queue is consumed. The handlers here never fail, so only messages that the framework rejects (such as
    /// undecodable ones) become dead letters.
    pub(crate) fn consume(&self, index: usize) -> Consume<Message> {
        let consume = Consume::coded(Timed, self.queue(index))
            .prefetch(self.args.prefetch)
            .instances(self.instances(index))
            .dead_letter_queue(self.dead_letters())
            .lanes(self.args.lanes as usize)
            .retry(Retry::none());
        let consume = match self.args.ordered_by.map(u64::from) {
            Some(keys) => consume.ordered_by(move |message| (message.stream, message.sequence % keys)),
            None => consume,
        };
        match self.args.ack {
            Ack::AtMostOnce => consume.guarantee(AtMostOnce),
            Ack::AtLeastOnce | Ack::EffectivelyOnce => consume.guarantee(AtLeastOnce),
        }
    }

    /// The number of handlers of a queue, in each of its lanes.
    pub(crate) fn instances(&self, index: usize) -> usize {
        if self.args.lanes > 1 {
            // An even share, see `handlers`.
            return self.consumers / self.queues / self.args.lanes as usize;
        }
        self.consumers / self.queues + usize::from(index < self.consumers % self.queues)
    }

    /// Whether messages of a producer, and with `--ordered-by` of a key, are handled in order. True as well if each
    /// queue has one handler.
    pub(crate) fn keeps_order(&self) -> bool {
        self.args.lanes == 1 && (self.args.ordered_by.is_some() || self.consumers <= self.queues)
    }

    /// The schedule of an open loop. `None` for a closed loop.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        self.args.rate.map(|rate| Schedule::new(rate, self.producers))
    }

    /// The most messages, or batches, that a producer of a closed loop has unconfirmed.
    pub(crate) fn window(&self) -> usize {
        match self.args.confirms() {
            Confirms::Each => 1,
            Confirms::Window(messages) => messages,
            Confirms::Off => 1024,
        }
    }

    /// A producer's share of the messages to be measured. `None` without `--count`.
    pub(crate) fn share(&self, producer: usize) -> Option<u64> {
        let (producers, producer) = (self.producers as u64, producer as u64);
        self.args.count.map(|count| count / producers + u64::from(producer < count % producers))
    }

    pub(crate) fn workload(&self, broker: String, records: Option<usize>) -> Workload {
        let args = &self.args;
        Workload {
            broker,
            producers: self.producers,
            queues: self.queues,
            consumers: self.consumers,
            queue_type: match args.queue_type {
                QueueType::Classic => "classic",
                QueueType::Quorum => "quorum",
            },
            durable: !args.transient,
            size: match records {
                Some(records) => format!("{} records", units::count(records as u64)),
                None => args.size.to_string(),
            },
            payload: match &args.payload {
                PayloadSource::Random => "random".to_owned(),
                PayloadSource::Compressible => "compressible".to_owned(),
                PayloadSource::File(path) => format!("file:{}", path.display()),
            },
            rate: args.rate.map(|rate| rate.0 as f64 / 1e3),
            in_flight: args.in_flight,
            confirm: match args.confirms() {
                Confirms::Off => "off".to_owned(),
                Confirms::Each => "each".to_owned(),
                Confirms::Window(messages) => format!("window:{messages}"),
            },
            prefetch: args.prefetch,
            guarantee: args.ack.name(),
            ordered_by: args.ordered_by,
            lanes: args.lanes,
            gzip: args.gzip.to_string(),
            batch: args.batch.map(|batch| batch.to_string()),
            whole_batches: args.whole_batches,
            warm_up_s: self.warm_up.as_secs_f64(),
            seed: args.seed,
        }
    }
}

/// How many handlers there are, of all queues together.
fn handlers(args: &BenchArgs) -> Result<usize, Failure> {
    let (queues, lanes) = (args.queues as usize, args.lanes as usize);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let of_a_queue = if args.ordered_by.is_some() { cores } else { lanes };
    let handlers = args.consumers.map_or(queues * of_a_queue, |consumers| consumers as usize);
    if (1..queues).contains(&handlers) {
        return Err(Failure::new(format!(
            "--consumers {handlers}: {queues} queues need at least {queues} handlers, one for each; or write \
             --consumers 0 to only publish"
        )));
    }
    if lanes > 1 && !handlers.is_multiple_of(queues * lanes) {
        return Err(Failure::new(format!(
            "--consumers {handlers}: each of the {lanes} lanes of {queues} queues has as many handlers as the others; \
             write a multiple of {}",
            queues * lanes
        )));
    }
    if handlers == 0 && args.in_flight.is_some() {
        return Err(Failure::new("--in-flight: without consumers no message is handled, and publishers would stop"));
    }
    Ok(handlers)
}

/// The default of `--size`, as it is displayed.
const DEFAULT_SIZE: &str = "1,000 B";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn plan(arguments: &[&str]) -> Result<Plan, Failure> {
        let Command::Bench(args) = Cli::parse_from(["fluffle", "bench"].iter().chain(arguments)).command else {
            unreachable!("the subcommand is bench");
        };
        Plan::new(&args, 7)
    }

    #[test]
    fn handlers_are_shared_out_and_each_queue_has_one() {
        let plan = plan(&["--queues", "3", "--consumers", "7"]).unwrap();
        assert_eq!([0, 1, 2].map(|queue| plan.instances(queue)), [3, 2, 2]);
        assert!(!plan.keeps_order());
        let by_key = self::plan(&["--ordered-by", "5", "--queues", "2", "--consumers", "6"]).unwrap();
        assert_eq!((by_key.instances(1), by_key.keeps_order()), (3, true));
        let lanes = self::plan(&["--lanes", "3", "--queues", "2"]).unwrap();
        assert_eq!((lanes.consumers, lanes.instances(0), lanes.keeps_order()), (6, 1, false));
        assert_eq!(self::plan(&["--queues", "3"]).unwrap().consumers, 3);
    }

    #[test]
    fn a_count_is_shared_out_to_the_last_message() {
        let plan = plan(&["--producers", "3", "--count", "10"]).unwrap();
        assert_eq!([0, 1, 2].map(|producer| plan.share(producer)), [Some(4), Some(3), Some(3)]);
        assert_eq!(plan.warm_up, Duration::ZERO);
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_a_reason() {
        for (arguments, words) in [
            (&["--queues", "3", "--consumers", "2"][..], "3 queues need at least 3"),
            (&["--queue-type", "quorum", "--transient"], "always durable"),
            (&["--payload", "file:x", "--size", "7kb"], "as large as the records"),
            (&["--queues", "2", "--lanes", "2", "--consumers", "6"], "a multiple of 4"),
            (&["--in-flight", "5", "--consumers", "0"], "without consumers"),
        ] {
            let error = plan(arguments).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(plan(&["--consumers", "0"]).is_ok());
        assert!(plan(&["--payload", "file:x"]).is_ok());
    }

    #[test]
    fn the_queues_and_their_consumers_are_valid() {
        for kind in ["classic", "quorum"] {
            let plan = plan(&["--queues", "2", "--queue-type", kind, "--queue-arg", "x-max-length=5"]).unwrap();
            plan.topology().validate().unwrap();
        }
    }
}
