//! Taking letters out of a queue one by one, and putting them back.
//!
//! `basic.get` and not a consumer, because a consumer's prefetch cannot grow while it holds letters, and one without
//! prefetch gets the whole queue into this process's memory at once.

use std::{collections::VecDeque, sync::Arc};

use futures_util::future::try_join_all;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

use crate::{
    common::{
        amqp,
        broker::BrokerArgs,
        delivery_limit::{DeliveryLimit, Version},
        failure::Failure,
        management,
        output::{Colour, safe},
    },
    dlq::{args::LookArgs, letter::Letter, progress::Progress, reach::Reach},
};

/// Letters that are asked for at a time: each question takes the way to the broker and back.
const AHEAD: u64 = 32;

/// A queue as a passive declaration tells of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) ready: u64,
    pub(crate) consumers: u32,
}

/// A channel that takes letters and holds them until they are acked or put back.
pub(crate) struct Look {
    pub(crate) connection: Connection,
    channel: Channel,
    pub(crate) queue: Arc<str>,
    pub(crate) depth: Depth,
    pub(crate) limit: DeliveryLimit,
    /// Whether the queue counts a look, if it is a quorum queue.
    counts: bool,
    /// How many letters to take, if there are so many.
    asked: u64,
    most: u64,
    /// Letters taken so far.
    pub(crate) taken: u64,
    /// Letters that the broker has handed out, and that are not taken yet.
    ahead: VecDeque<Letter>,
    /// Whether the queue had no more letters when it was last asked.
    ran_out: bool,
    progress: Progress,
    stopped: bool,
    interrupted: bool,
}

impl Look {
    /// Connects, and asks whether the queue is there. `most` is how many letters to take if --most does not say; never
    /// more than there are now, so that letters that die meanwhile are not taken.
    pub(crate) async fn open(args: &LookArgs, subcommand: &str, most: u64) -> Result<Self, Failure> {
        Self::of_queue(&args.queue, &args.broker, &args.reach, subcommand, most).await
    }

    pub(crate) async fn of_queue(
        queue: &str,
        broker: &BrokerArgs,
        reach: &Reach,
        subcommand: &str,
        most: u64,
    ) -> Result<Self, Failure> {
        let connection = amqp::connect(broker, &format!("dlq {subcommand}")).await?;
        let channel = amqp::channel(&connection).await?;
        let depth = depth(&channel, queue).await.map_err(|error| explained(queue, &error))?;
        let version = Version::of(broker).await?;
        let limit = delivery_limit(&connection, queue, broker, reach, version).await?;
        let asked = reach.most.unwrap_or(most);
        let most = asked.min(depth.ready);
        let (queue, progress) = (queue.into(), Progress::new(most));
        Ok(Self {
            connection,
            channel,
            queue,
            depth,
            limit,
            counts: version.counts_looks(),
            asked,
            most,
            taken: 0,
            ahead: VecDeque::new(),
            ran_out: false,
            progress,
            stopped: false,
            interrupted: false,
        })
    }

    /// The next letter; `None` after the last, or after Ctrl-C.
    ///
    /// Fails if the letter is past half of the delivery limit and `leaves` does not say that it is to leave the queue:
    /// looking at it again could lose it. All letters are put back first.
    pub(crate) async fn next(&mut self) -> Result<Option<Letter>, Failure> {
        if self.taken >= self.most || self.stopped {
            return Ok(None);
        }
        if self.ahead.is_empty() {
            self.fetch().await?;
        }
        let Some(letter) = self.ahead.pop_front() else { return Ok(None) };
        self.taken += 1;
        self.progress.step();
        Ok(Some(letter))
    }

    /// Asks for the next letters, all at once. The broker answers in order.
    async fn fetch(&mut self) -> Result<(), Failure> {
        let wanted = if self.ran_out { 1 } else { AHEAD.min(self.most - self.taken) };
        let get = || self.channel.basic_get((&*self.queue).into(), BasicGetOptions::default());
        let all = try_join_all((0..wanted).map(|_| get()));
        let all = amqp::in_time("basic.get", all).await.map_err(|error| explained(&self.queue, &error.to_string()))?;
        let letters = all.into_iter().flatten().map(|got| Letter::new(&self.queue, got.delivery));
        self.ahead.extend(letters);
        self.ran_out = (self.ahead.len() as u64) < wanted;
        Ok(())
    }

    /// Letters that the broker has handed out, taken or not.
    pub(crate) fn handed_out(&self) -> u64 {
        self.taken + self.ahead.len() as u64
    }

    /// Refuses to keep a letter that is past half of the delivery limit, because putting it back counts.
    pub(crate) async fn may_keep(&mut self, letter: &Letter) -> Result<(), Failure> {
        let counted = letter.delivery_count().filter(|count| self.counts && self.limit.forbids(*count));
        let Some(count) = counted else { return Ok(()) };
        self.put_back().await?;
        let limit = self.limit.limit.unwrap_or_default();
        Err(Failure::new(format!(
            "queue `{}`: its letter {} was handed out {count} times already, and the delivery limit is {limit} ({}). \
             Before RabbitMQ 4.3 a quorum queue counts each look, and drops or dead-letters a message past the limit, \
             so that looking ends at half of it. All letters are back in the queue. Replay or discard them, or look in \
             spite of it with --delivery-limit",
            safe(&self.queue),
            safe(letter.id().unwrap_or("without an id")),
            self.limit.known,
        )))
    }

    /// Takes one letter more, because one of those that were taken was not there at the beginning.
    pub(crate) fn one_more(&mut self) {
        if self.asked > self.most {
            self.most += 1;
        }
    }

    /// Ends the look after the letter in hand.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Ends the look after the letter in hand, because of Ctrl-C.
    pub(crate) fn interrupt(&mut self) {
        self.stopped = true;
        self.interrupted = true;
    }

    /// Whether the look was not interrupted.
    pub(crate) fn is_whole(&self) -> bool {
        !self.interrupted
    }

    /// The queue has more letters than at the beginning, because those that another connection held were put back. No
    /// letter may have been taken before.
    pub(crate) fn measure_again(&mut self, ready: u64) {
        self.depth.ready = ready;
        self.most = self.asked.min(ready);
        self.progress.set_most(self.most);
    }

    /// Acks a letter: it leaves the queue.
    pub(crate) async fn ack(&self, tag: u64) -> Result<(), Failure> {
        amqp::in_time("basic.ack", self.channel.basic_ack(tag, BasicAckOptions::default())).await
    }

    /// What the queue has ready now, without the letters that this look holds.
    pub(crate) async fn ready(&self) -> Result<u64, Failure> {
        let asked = depth(&self.channel, &self.queue).await;
        asked.map(|depth| depth.ready).map_err(|error| explained(&self.queue, &error))
    }

    /// Puts all letters back that were not acked, in their order, and waits until the broker has done so.
    pub(crate) async fn put_back(&mut self) -> Result<(), Failure> {
        self.progress.end();
        // Tag 0 with `multiple` means all (AMQP 0-9-1, basic.nack). It is an error if there are none.
        if self.channel.status().connected() && self.handed_out() > 0 {
            let all = BasicNackOptions { requeue: true, multiple: true };
            amqp::in_time("basic.nack", self.channel.basic_nack(0, all)).await?;
        }
        // The answer says that the broker has acted upon everything before it.
        amqp::in_time("channel.close", self.channel.close(200, "done".into())).await?;
        amqp::in_time("connection.close", self.connection.close(200, "done".into())).await
    }

    /// A line of text above the progress bar, on standard error.
    pub(crate) fn say(&self, line: &str) {
        self.progress.say(line);
    }
}

/// What a queue has ready. If there is none, the broker closes the channel.
pub(crate) async fn depth(channel: &Channel, queue: &str) -> Result<Depth, String> {
    let name = ShortString::try_new(queue).map_err(|_| "a queue's name has at most 255 bytes".to_owned())?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(name, passive, FieldTable::default());
    match amqp::in_time("queue.declare (passive)", asked).await {
        Ok(queue) => Ok(Depth { ready: queue.message_count().into(), consumers: queue.consumer_count() }),
        Err(error) => Err(error.to_string()),
    }
}

/// The broker's refusal, with what to do.
fn explained(queue: &str, error: &str) -> Failure {
    Failure::new(format!("queue `{}`: {} ({})", safe(queue), advice(error), safe(error)))
}

/// What a refusal means.
pub(crate) fn advice(error: &str) -> &'static str {
    match error {
        error if error.contains("NOT_FOUND") => {
            "it does not exist in this virtual host: look at its spelling, and at the virtual host in --url"
        }
        error if error.contains("RESOURCE_LOCKED") => {
            "it is exclusive to another connection, which alone may read it and which it dies with: ask its owner"
        }
        error if error.contains("ACCESS_REFUSED") => {
            "this user may not read it: give the user the permission `read` on it, or use another user in --url"
        }
        _ => "it cannot be used",
    }
}

async fn delivery_limit(
    connection: &Connection,
    queue: &str,
    broker: &BrokerArgs,
    reach: &Reach,
    version: Version,
) -> Result<DeliveryLimit, Failure> {
    if let Some(limit) = reach.delivery_limit {
        return Ok(DeliveryLimit::given(limit));
    }
    let Some(api) = management::client(broker)? else { return Ok(DeliveryLimit::assumed()) };
    let vhost = connection.status().vhost();
    match tokio::time::timeout(amqp::ANSWER, api.get_queue_info(vhost.as_str(), queue)).await {
        Ok(Ok(info)) => Ok(DeliveryLimit::of(&info, version)),
        Ok(Err(error)) => Err(Failure::new(format!("--api, queue `{}`: {error}", safe(queue)))),
        Err(_) => Err(Failure::new(format!("--api: no answer within {:?}", amqp::ANSWER))),
    }
}

/// Says how much was looked at and what a look costs, on standard error.
pub(crate) fn tell_of_cost(args: &LookArgs, look: &Look, counted: bool) {
    if look.taken < look.depth.ready {
        let line = format!("looked at {} of {} letters; --most looks at more", look.taken, look.depth.ready);
        eprintln!("{}", args.output.paint(Colour::Dim, &line));
    }
    if counted && look.counts {
        let limit =
            look.limit.limit.map_or("no limit".to_owned(), |limit| format!("limit {limit}, {}", look.limit.known));
        let line = format!(
            "`{}` is a quorum queue: before RabbitMQ 4.3 this look counts as one delivery of each letter ({limit})",
            safe(&look.queue)
        );
        eprintln!("{}", args.output.paint(Colour::Yellow, &line));
    }
}
