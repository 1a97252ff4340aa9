//! How a replay runs: batch by batch, each in the order that `journal.rs` describes.

use std::{collections::HashMap, time::Duration};

use fluffle::{
    amqp::{
        Prepared,
        bare::{CopyPublisher, CopyVerdict},
    },
    wire::headers,
};
use lapin::options::ConfirmSelectOptions;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    common::{amqp, failure::Failure},
    dlq::{
        interrupt::Interrupt,
        letter::Letter,
        replay::{
            args::ReplayArgs,
            journal::{Entry, Journal, Kind, Known, Verdict},
            probe::probe,
            report::Report,
            source::Source,
            targets::Targets,
        },
    },
};

/// How long the broker may take to confirm the copies of a batch.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);

/// How often to look whether letters arrive in the dead-letter queue.
const WATCH: Duration = Duration::from_secs(1);

/// One run of a replay.
pub(crate) struct Run<'a> {
    pub(crate) args: &'a ReplayArgs,
    pub(crate) source: &'a mut Source,
    pub(crate) journal: &'a mut Journal,
    pub(crate) interrupt: &'a mut Interrupt,
    pub(crate) targets: &'a mut Targets,
    pub(crate) report: &'a mut Report,
    pub(crate) replay: String,
    copies: CopyPublisher,
    /// Before which no further letter may be sent.
    next: Instant,
    watched: Instant,
    /// Letters that had arrived in the dead-letter queue when it was last probed.
    arrived: u64,
    canary_done: bool,
    /// Whether a letter of an earlier run is known and stays, because it is not wanted any more.
    pub(crate) keeps_open: bool,
}

/// A letter of a batch, and its copy, unless it is only to be acked.
struct Item {
    tag: u64,
    entry: Entry,
    copy: Option<Prepared>,
}

impl<'a> Run<'a> {
    pub(crate) async fn new(
        args: &'a ReplayArgs,
        source: &'a mut Source,
        journal: &'a mut Journal,
        interrupt: &'a mut Interrupt,
        targets: &'a mut Targets,
        report: &'a mut Report,
    ) -> Result<Run<'a>, Failure> {
        let channel = amqp::channel(source.connection()).await?;
        amqp::in_time("confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let copies = CopyPublisher::new(source.connection(), channel);
        let replay = report.replay.clone();
        let now = Instant::now();
        let canary_done = args.canary == 0 || source.depth().is_none();
        Ok(Run {
            args,
            source,
            journal,
            interrupt,
            targets,
            report,
            replay,
            copies,
            next: now,
            watched: now,
            arrived: 0,
            canary_done,
            keeps_open: false,
        })
    }

    /// Replays until there are no more letters, Ctrl-C, or the same fails again.
    pub(crate) async fn all(&mut self) -> Result<(), Failure> {
        self.report.end = "complete";
        loop {
            let batch = self.take().await?;
            if batch.is_empty() {
                break;
            }
            self.send(batch).await?;
            if self.interrupt.came() {
                self.report.end = "interrupted";
                break;
            }
            let again = if self.canary_done { self.watch().await? } else { self.canary().await? };
            if let Some(why) = again {
                (self.report.end, self.report.stopped_because) = ("stopped", Some(why));
                break;
            }
        }
        if self.interrupt.came() && self.report.end == "complete" {
            self.report.end = "interrupted";
        }
        Ok(())
    }

    /// Takes letters until there are enough for a batch.
    async fn take(&mut self) -> Result<Vec<Item>, Failure> {
        let mut most = self.args.batch;
        if let Some(rate) = self.args.rate {
            most = most.min((u64::from(rate) / 10).max(1));
        }
        if !self.canary_done {
            most = most.min(self.args.canary.saturating_sub(self.report.replayed).max(1));
        }
        let mut batch = Vec::new();
        let mut looks_like: HashMap<String, usize> = HashMap::new();
        while (batch.len() as u64) < most && !self.interrupt.came() {
            let Some(letter) = self.source.next().await? else { break };
            match self.consider(&letter, &mut looks_like).await? {
                Some(item) => batch.push(item),
                None => self.source.keep(&letter).await?,
            }
        }
        Ok(batch)
    }

    /// What is to be done with a letter; `None`: it stays.
    async fn consider(
        &mut self,
        letter: &Letter,
        looks_like: &mut HashMap<String, usize>,
    ) -> Result<Option<Item>, Failure> {
        let report = &mut *self.report;
        report.looked_at += 1;
        if letter.dead.header(headers::REPLAY) == Some(&self.replay) {
            report.came_back += 1;
            // A probe of a quorum queue moves the letters that it puts back behind this one.
            self.source.is_new();
            return Ok(None);
        }
        let (print, is_its_own) = self.source.print(letter);
        let before = looks_like.entry(print.clone()).or_default();
        let known = self.journal.known(&print, *before);
        let mut item = Item { tag: letter.tag, entry: Entry { print, kind: Kind::New, id: None }, copy: None };
        if known == Some(Known::Confirmed) && is_its_own {
            *before += 1;
            item.entry.kind = Kind::Already;
            return Ok(Some(item));
        }
        let Some(target) = wanted(self.args, letter, report) else {
            self.keeps_open |= known.is_some();
            return Ok(None);
        };
        *before += 1;
        if known.is_some() {
            item.entry.kind = Kind::Again;
            item.entry.id = letter.id().map(str::to_owned);
        }
        item.copy = Some(letter.dead.replayed(&target, &self.replay));
        self.targets.count(self.source.connection(), &target).await?;
        Ok(Some(item))
    }

    /// Sends a batch, and acks the letters whose copies are confirmed.
    async fn send(&mut self, batch: Vec<Item>) -> Result<(), Failure> {
        if let Some(rate) = self.args.rate {
            sleep_until(self.next).await;
            self.next = Instant::now() + Duration::from_secs_f64(batch.len() as f64 / f64::from(rate));
        }
        let from = batch.first().map_or(0, |item| item.tag);
        let (mut tags, mut copies, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for item in batch {
            tags.push(item.tag);
            copies.push(item.copy);
            entries.push(item.entry);
        }
        let kinds: Vec<Kind> = entries.iter().map(|entry| entry.kind).collect();
        self.journal.batch(from, entries)?;
        for (at, copy) in copies.into_iter().enumerate() {
            if let Some(copy) = copy {
                self.copies.publish(at as u64, copy);
            }
        }
        let verdicts = self.verdicts(&kinds).await;
        let plain = verdicts.iter().map(|verdict| match verdict {
            CopyVerdict::Confirmed => Verdict::Confirmed,
            CopyVerdict::Refused(_) => Verdict::Refused,
            CopyVerdict::Unknown(_) => Verdict::Unknown,
        });
        self.journal.verdicts(plain.collect())?;
        for ((tag, kind), verdict) in tags.into_iter().zip(kinds).zip(verdicts) {
            match verdict {
                CopyVerdict::Confirmed => {
                    self.source.ack(tag).await?;
                    match kind {
                        Kind::Already => self.report.already_there += 1,
                        Kind::New | Kind::Again => self.report.replayed += 1,
                    }
                }
                CopyVerdict::Refused(why) => self.report.refuse(&why),
                CopyVerdict::Unknown(why) => {
                    return Err(Failure::new(format!(
                        "copies were sent and not confirmed: {why}. Their letters are still in the queue. Run the same \
                         command again: it goes on, and tells what may be there twice"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The verdict of each letter of the batch. Those that are only to be acked count as confirmed.
    async fn verdicts(&mut self, kinds: &[Kind]) -> Vec<CopyVerdict> {
        let waits = |kind: &Kind| match kind {
            Kind::Already => CopyVerdict::Confirmed,
            Kind::New | Kind::Again => {
                CopyVerdict::Unknown(format!("the broker did not confirm within {CONFIRM_LIMIT:?}"))
            }
        };
        let mut verdicts: Vec<CopyVerdict> = kinds.iter().map(waits).collect();
        let until = Instant::now() + CONFIRM_LIMIT;
        let mut told = false;
        while self.copies.waiting() > 0 && Instant::now() < until {
            if let Ok(settled) = timeout(WATCH, self.copies.settled()).await {
                for (at, verdict) in settled {
                    if let Some(place) = verdicts.get_mut(at as usize) {
                        *place = verdict;
                    }
                }
            } else if self.source.connection().status().blocked() && !told {
                told = true;
                self.source.say("the broker blocks publishers, because it is short of memory or disk: waiting");
            }
        }
        verdicts
    }

    /// After the first letters, waits whether they come back. Says why the replay is to stop.
    async fn canary(&mut self) -> Result<Option<String>, Failure> {
        if self.report.replayed < self.args.canary {
            return Ok(None);
        }
        self.canary_done = true;
        if !self.targets.are_consumed() {
            self.source
                .say("canary: the queues that letters go to have no consumer, so that none can come back; going on");
            return Ok(None);
        }
        let (sent, wait) = (self.report.replayed, humantime::format_duration(self.args.canary_wait));
        self.source.say(&format!("canary: {sent} letters replayed; waiting {wait} whether they come back"));
        let until = Instant::now() + self.args.canary_wait;
        while Instant::now() < until && !self.interrupt.came() {
            if self.source.arrivals().await?.is_some_and(|arrived| arrived >= sent) {
                break;
            }
            let step = until.min(Instant::now() + Duration::from_millis(200));
            tokio::select! {
                () = sleep_until(step) => {}
                () = self.interrupt.wait() => {}
            }
        }
        self.came_back(1).await
    }

    /// Once a second, looks whether letters arrive in the dead-letter queue. Says why the replay is to stop.
    async fn watch(&mut self) -> Result<Option<String>, Failure> {
        if self.watched.elapsed() < WATCH {
            return Ok(None);
        }
        self.watched = Instant::now();
        self.came_back(self.args.stop_at).await
    }

    /// If at least `least` letters have arrived since the last look, looks which of them were replayed.
    async fn came_back(&mut self, least: u64) -> Result<Option<String>, Failure> {
        let Some(arrived) = self.source.arrivals().await? else { return Ok(None) };
        let Source::Queue(look) = &*self.source else { return Ok(None) };
        if arrived < self.arrived.saturating_add(least) {
            return Ok(None);
        }
        let found = probe(&look.connection, &look.queue, &self.replay).await?;
        self.arrived = arrived;
        if found.came_back >= least {
            self.report.came_back = self.report.came_back.max(found.came_back);
            let cause = found.cause.unwrap_or_default();
            return Ok(Some(format!("{} letters came back; most of them {cause}", found.came_back)));
        }
        if !found.saw_all {
            return Ok(Some(format!(
                "{arrived} letters arrived in the queue meanwhile, which is too long to see whether they were \
                 replayed. If they were not: --canary 0 --stop-at {}",
                arrived.saturating_mul(10)
            )));
        }
        Ok(None)
    }
}

/// The queue that a letter is to go to; `None` if it stays, which is counted.
pub(crate) fn wanted(args: &ReplayArgs, letter: &Letter, report: &mut Report) -> Option<String> {
    if !args.filter.wants(letter) {
        report.not_wanted += 1;
        return None;
    }
    if letter.unreadable().is_some() {
        report.unreadable += 1;
        return None;
    }
    let target = args.to.as_deref().or_else(|| letter.dead.origin_queue());
    if target.is_none() {
        report.without_origin += 1;
    }
    target.map(str::to_owned)
}

/// Waits until the broker has put back what a killed run held: until the queue stays as long as it is, for a moment.
pub(crate) async fn settle_down(source: &mut Source) -> Result<(), Failure> {
    const SAME: u32 = 5;
    let Source::Queue(look) = source else { return Ok(()) };
    let (mut last, mut same) = (look.ready().await?, 0);
    let until = Instant::now() + Duration::from_secs(10);
    while same < SAME && Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
        let now = look.ready().await?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    look.measure_again(last);
    Ok(())
}
