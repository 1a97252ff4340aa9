//! One run: safety during the storm, then liveness, calm and poison.

use std::{
    io,
    path::Path,
    slice::from_mut,
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{App, Error, Service, broker::Faults, prelude::Offsets, telemetry::Telemetry};

use crate::{
    args::{Args, ChildArgs, Kind},
    child::{self, DISKS_FILL, Full, Mortal},
    damage::Damage,
    fact::{Fact, Facts, Tail},
    handlers::Store,
    id::{CALM, DEADLY, Lane, VISITOR},
    model::{Breach, Model},
    place::Place,
    posts::{Out, STEADY, Shift},
    report::Report,
    script::Script,
    stall,
    stranger::Stranger,
    weather,
    workload::{self, STEADY_CONSUMERS},
};

/// How often the log of facts is read.
const LOOK: Duration = Duration::from_millis(20);

/// How many messages each publisher publishes after the storm.
const CALM_MESSAGES: u64 = 20;

/// The average pause between two messages of a publisher. Against a node that is away a third of the time, and with
/// consumers killed every other second, the rest of half an hour's messages still drains in time.
const PAUSE_EMBEDDED: Duration = Duration::from_millis(12);
const PAUSE_RABBITMQ: Duration = Duration::from_millis(150);

/// How long a stranger waits for the broker during the storm.
const FICKLE: Duration = Duration::from_secs(1);

/// How long everything may take to drain. A retry copy or dead letter whose confirm never comes is published again
/// after 10 to 15 s.
const DRAIN: Duration = Duration::from_secs(120);

/// How long the ledger may take to balance when nothing happens any more: the telemetry looks twice a second, and a
/// confirm may be counted 50 ms late.
const BALANCED: Duration = Duration::from_secs(5);

/// Runs one seed. The files of all processes are in `folder`.
///
/// # Errors
/// If the run is impossible: no broker, or no process. Broken promises are in the report.
pub async fn run(args: &Args, seed: u64, folder: &Path) -> Result<(Report, Tail), Error> {
    let place = Place::start(args.broker, seed)?;
    let path = folder.join("facts");
    let facts = Facts::begin(&path, "parent")?;
    stall::watch(&facts)?;
    let mut stage = Stage { tail: Tail::open(&path)?, model: Model::new(Script::new(seed)), place };
    let limit = args.drain_within.map_or(DRAIN, Duration::from_secs);

    let steady = Steady::start(&stage.place.url(), seed, &facts, folder).await?;
    let lasting = Duration::from_secs(args.seconds);
    let until = Instant::now() + lasting;
    let messages = args.messages.unwrap_or(u64::MAX);
    let pause = match args.broker {
        Kind::Embedded => PAUSE_EMBEDDED,
        Kind::Rabbitmq | Kind::Cluster => PAUSE_RABBITMQ,
    };
    let url = stage.place.url();
    let child_args = |letter: char, messages| -> io::Result<ChildArgs> {
        let journals = folder.join(letter.to_string());
        std::fs::create_dir(&journals)?;
        let (url, name, pause) = (url.clone(), format!("{letter}1"), pause.as_millis() as u64);
        Ok(ChildArgs { url, journals, script: seed, name, publish_for: 0, messages, pause })
    };
    let mut children = Vec::new();
    for letter in letters(args.broker) {
        children.push(Mortal::start(child_args(*letter, messages)?, until, &facts).await?);
    }
    let mut sources = steady.publish("s0", &Lane::ALL, Shift { until, messages, pause });
    let stranger =
        Stranger { addresses: stage.place.quiet_addresses(), script: Script::new(seed), facts: facts.clone() };
    sources.extend(stranger.publish("", Shift { until, messages, pause }, FICKLE)?);
    let raging = weather::rage(&stage.place, &mut children, seed, lasting, &facts);
    let (raged, visited) = match args.broker {
        Kind::Cluster => tokio::join!(raging, visit(child_args(VISITOR, 0)?, lasting, &facts)),
        Kind::Embedded | Kind::Rabbitmq => (raging.await, Ok(())),
    };

    let mut breaches = Vec::new();
    breaches.extend(visited.err().map(|error| Breach::Stuck(format!("the process for a third of the storm: {error}"))));
    let mut damage = match raged {
        Ok(damage) => damage,
        Err(error) => {
            breaches.push(Breach::Stuck(format!("the weather: {error}")));
            stage.place.faults().into_iter().try_for_each(Faults::heal_all)?;
            for child in children.iter_mut().filter(|child| child.is_full()) {
                // The child may have ended, which is then the failure to report.
                let _ = child.make_room();
            }
            Damage::default()
        }
    };
    let undertaker = workload::bury(workload::client(&stage.place.quiet_url(), "undertaker")?, &facts).start().await?;
    sources.extend(children.iter().flat_map(|child| child::sources(child.life())));
    let healed = Instant::now();
    let mut drained = None;
    match stage.drain(&steady, &mut children, &sources, healed + limit).await {
        Ok(()) => {
            drained = Some(healed.elapsed());
            breaches.extend(steady.ledger("after the storm").await);
        }
        Err(error) => breaches.push(Breach::Stuck(format!("not drained within {limit:?}: {error}"))),
    }
    // The others go when there is nothing left to do. The last one stays.
    for mut other in children.split_off(1) {
        let ended = other.end().await;
        breaches.extend(ended.err().map(|error| Breach::Stuck(format!("shutting down: {error}"))));
    }
    if let (Some(_), [child]) = (drained, &mut children[..]) {
        let calm = Shift { until: Instant::now() + limit, messages: CALM_MESSAGES, pause: Duration::ZERO };
        child.live_again(format!("{CALM}1"), calm, DISKS_FILL.then_some(Full::Copying)).await?;
        let mut sources = steady.publish(&format!("{CALM}0"), &Lane::ALL, calm);
        sources.extend(stranger.publish(&CALM.to_string(), calm, limit)?);
        sources.extend(child::sources(child.life()));
        if let Err(error) = stage.drain(&steady, from_mut(child), &sources, calm.until).await {
            breaches.push(Breach::Stuck(format!("after the storm, not drained within {limit:?}: {error}")));
        }
        breaches.extend(steady.ledger("in the calm").await);
        if child.is_full() {
            child.make_room()?;
        }
        child.be_poisoned(DEADLY.to_string()).await?;
        let mut sources = steady.publish(&format!("{DEADLY}0"), &Lane::ALL, calm);
        sources.extend(stranger.publish(&DEADLY.to_string(), calm, limit)?);
        if let Err(error) = stage.drain(&steady, from_mut(child), &sources, Instant::now() + limit).await {
            breaches.push(Breach::Stuck(format!("with poison, not drained within {limit:?}: {error}")));
        }
        breaches.extend(steady.ledger("with poison").await);
        damage.faults += u64::from(child.aborts());
        damage.restarts += u64::from(child.aborts());
    }
    let mut left = Ok(());
    for mut child in children {
        left = child.end().await.map_err(Error::from);
    }
    for ended in [left, steady.end().await, undertaker.shutdown().await.map_err(Error::from)] {
        breaches.extend(ended.err().map(|error| Breach::Stuck(format!("shutting down: {error}"))));
    }
    let Stage { mut tail, mut model, .. } = stage;
    tail.rest(&facts)?.into_iter().for_each(|fact| model.take(fact));
    let (totals, broken) = model.judge();
    breaches.extend(broken);
    Ok((Report { seed, broker: args.broker, totals, damage, breaches, drained }, tail))
}

/// The first letters of the names of the processes that are killed. Of a cluster's service there are several.
fn letters(broker: Kind) -> &'static [char] {
    match broker {
        Kind::Embedded | Kind::Rabbitmq => &['c'],
        Kind::Cluster => &['c', 'd', 'e'],
    }
}

/// A process is added under load, and leaves in order after a third of the storm. It publishes nothing, because nobody
/// would send what is left in its journals.
async fn visit(args: ChildArgs, lasting: Duration, facts: &Facts) -> io::Result<()> {
    tokio::time::sleep(lasting / 3).await;
    let life = args.name.clone();
    facts.tell(&Fact::Fault(format!("process {life} is added")));
    let mut visitor = Mortal::start(args, Instant::now(), facts).await.map_err(io::Error::other)?;
    tokio::time::sleep(lasting / 3).await;
    visitor.is_alive()?;
    facts.tell(&Fact::Fault(format!("process {life} leaves")));
    // While a node is away, a shutdown may take longer than its limit. Then it is killed.
    if let Err(error) = visitor.end().await {
        facts.tell(&Fact::Fault(error.to_string()));
        facts.tell(&Fact::Killed(life));
    }
    Ok(())
}

/// The state that is checked during a run.
struct Stage {
    tail: Tail,
    model: Model,
    place: Place,
}

impl Stage {
    /// Waits until nothing is left to do: these publishers have their answers, every accepted message has ended, no
    /// copy is on its way, and every queue is empty and has its consumer.
    async fn drain(
        &mut self,
        steady: &Steady,
        children: &mut [Mortal],
        sources: &[String],
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            children.iter_mut().try_for_each(Mortal::is_alive)?;
            steady.is_alive()?;
            self.tail.look()?.into_iter().for_each(|fact| self.model.take(fact));
            let busy: Vec<&str> =
                sources.iter().map(String::as_str).filter(|source| !self.model.is_quiet(source)).collect();
            let (waiting, outstanding) = (self.model.waiting(), steady.outstanding());
            if busy.is_empty() && waiting == 0 && outstanding == 0 && self.place.unsettled()?.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (queues, holders) = (self.place.unsettled()?, self.place.holders());
                return Err(Error::other(format!(
                    "{waiting} messages without an end, {outstanding} confirms outstanding, publishers {busy:?} not \
                     quiet, queues not settled: {queues:?}, channels with unacked deliveries: {holders:?}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The application of the surviving process.
struct Steady {
    service: Service,
    telemetry: Telemetry,
    publishers: Vec<Out>,
    script: Script,
    facts: Facts,
}

impl Steady {
    async fn start(url: &str, seed: u64, facts: &Facts, folder: &Path) -> Result<Self, Error> {
        let script = Script::new(seed);
        let telemetry = Telemetry::new();
        let app = App::new(workload::client(url, "steady")?).topology(workload::topology()).telemetry(&telemetry);
        let journal = |number| folder.join(format!("s{number}.journal"));
        let publishers = STEADY
            .iter()
            .enumerate()
            .map(|(number, post)| post.publisher(&app, &format!("s{number}"), script, &journal(number)))
            .collect::<Result<_, _>>()?;
        let offsets = Offsets::open(folder.join("story.offsets")).map_err(Error::other)?;
        let store = Arc::new(Store::default());
        let app = workload::consume(app, &STEADY_CONSUMERS, &store, &offsets, script, facts, false)?;
        let service = app.start().await?;
        service.ready().await?;
        Ok(Self { service, telemetry, publishers, script, facts: facts.clone() })
    }

    /// Starts the publishers of these lanes, with names that begin with `prefix`, and returns the names.
    fn publish(&self, prefix: &str, lanes: &[Lane], shift: Shift) -> Vec<String> {
        let posts = STEADY.iter().zip(&self.publishers).enumerate();
        posts
            .filter(|(_, (post, _))| lanes.contains(&post.lane()))
            .map(|(number, (post, out))| {
                let source = format!("{prefix}p{number}");
                actix::spawn(post.run(out.clone(), source.clone(), self.script, self.facts.clone(), shift));
                source
            })
            .collect()
    }

    /// How many confirms its publishers wait for, including those of its consumers' copies.
    fn outstanding(&self) -> usize {
        self.service.publishers().iter().map(|(_, stats)| stats.outstanding).sum()
    }

    /// Waits until its ledger balances: everything that came in is settled or open. Returns what does not balance.
    async fn ledger(&self, when: &str) -> Vec<Breach> {
        let deadline = Instant::now() + BALANCED;
        loop {
            let picture = self.telemetry.picture();
            let lines = picture.iter().flat_map(|picture| &picture.ledger);
            let wrong: Vec<_> = lines.filter(|line| line.entered != line.settled + line.open).cloned().collect();
            if wrong.is_empty() && picture.is_some() {
                return Vec::new();
            }
            if Instant::now() >= deadline {
                let breach = |line| Breach::Ledger(format!("{when}: {line:?}"));
                return wrong.into_iter().map(breach).collect();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_alive(&self) -> io::Result<()> {
        use futures_util::future::FutureExt;
        match self.service.wait().now_or_never() {
            None => Ok(()),
            Some(ended) => Err(io::Error::other(format!("the service ended by itself: {ended:?}"))),
        }
    }

    async fn end(self) -> Result<(), Error> {
        Ok(self.service.shutdown().await?)
    }
}
