//! One run: safety during the storm, then liveness, calm and poison.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::{App, Error, Service, prelude::Offsets, telemetry::Telemetry};

use crate::{
    args::{Args, ChildArgs, Kind},
    child::{self, DISKS_FILL, Full, Mortal},
    fact::{Facts, Tail},
    handlers::Store,
    id::{CALM, DEADLY, Lane},
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
        Kind::Rabbitmq => PAUSE_RABBITMQ,
    };
    let child = ChildArgs {
        url: stage.place.url(),
        journals: folder.to_owned(),
        script: seed,
        name: "c1".to_owned(),
        publish_for: 0,
        messages,
        pause: pause.as_millis() as u64,
    };
    let mut child = Mortal::start(std::env::current_exe()?, child, until, &facts).await?;
    let mut sources = steady.publish("s0", &Lane::ALL, Shift { until, messages, pause });
    let stranger = Stranger { address: stage.place.quiet_address(), script: Script::new(seed), facts: facts.clone() };
    sources.extend(stranger.publish("", Shift { until, messages, pause }, FICKLE)?);
    let raged = weather::rage(&stage.place, &mut child, seed, lasting, &facts).await;

    let mut breaches = Vec::new();
    let mut damage = match raged {
        Ok(damage) => damage,
        Err(error) => {
            breaches.push(Breach::Stuck(format!("the weather: {error}")));
            stage.place.faults().heal_all()?;
            if child.is_full() {
                // The child may have ended, which is then the failure to report.
                let _ = child.make_room();
            }
            weather::Damage::default()
        }
    };
    let undertaker = workload::bury(workload::client(&stage.place.quiet_url(), "undertaker")?, &facts).start().await?;
    sources.extend(child::sources(child.life()));
    let healed = Instant::now();
    let mut drained = None;
    match stage.drain(&steady, &mut child, &sources, healed + limit).await {
        Ok(()) => {
            drained = Some(healed.elapsed());
            breaches.extend(steady.ledger("after the storm").await);
        }
        Err(error) => breaches.push(Breach::Stuck(format!("not drained within {limit:?}: {error}"))),
    }
    if drained.is_some() {
        let calm = Shift { until: Instant::now() + limit, messages: CALM_MESSAGES, pause: Duration::ZERO };
        child.live_again(format!("{CALM}1"), calm, DISKS_FILL.then_some(Full::Copying)).await?;
        let mut sources = steady.publish(&format!("{CALM}0"), &Lane::ALL, calm);
        sources.extend(stranger.publish(&CALM.to_string(), calm, limit)?);
        sources.extend(child::sources(child.life()));
        if let Err(error) = stage.drain(&steady, &mut child, &sources, calm.until).await {
            breaches.push(Breach::Stuck(format!("after the storm, not drained within {limit:?}: {error}")));
        }
        breaches.extend(steady.ledger("in the calm").await);
        if child.is_full() {
            child.make_room()?;
        }
        child.be_poisoned(DEADLY.to_string()).await?;
        let mut sources = steady.publish(&format!("{DEADLY}0"), &Lane::ALL, calm);
        sources.extend(stranger.publish(&DEADLY.to_string(), calm, limit)?);
        if let Err(error) = stage.drain(&steady, &mut child, &sources, Instant::now() + limit).await {
            breaches.push(Breach::Stuck(format!("with poison, not drained within {limit:?}: {error}")));
        }
        breaches.extend(steady.ledger("with poison").await);
        damage.faults += u64::from(child.aborts());
        damage.restarts += u64::from(child.aborts());
    }
    for ended in
        [child.end().await.map_err(Error::from), steady.end().await, undertaker.shutdown().await.map_err(Error::from)]
    {
        breaches.extend(ended.err().map(|error| Breach::Stuck(format!("shutting down: {error}"))));
    }
    let Stage { mut tail, mut model, .. } = stage;
    tail.rest(&facts)?.into_iter().for_each(|fact| model.take(fact));
    let (totals, broken) = model.judge();
    breaches.extend(broken);
    Ok((Report { seed, broker: args.broker, totals, damage, breaches, drained }, tail))
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
        child: &mut Mortal,
        sources: &[String],
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            child.is_alive()?;
            steady.is_alive()?;
            self.tail.look()?.into_iter().for_each(|fact| self.model.take(fact));
            let busy: Vec<&str> =
                sources.iter().map(String::as_str).filter(|source| !self.model.is_quiet(source)).collect();
            let (waiting, outstanding) = (self.model.waiting(), steady.outstanding());
            if busy.is_empty() && waiting == 0 && outstanding == 0 && self.place.unsettled()?.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let queues = self.place.unsettled()?;
                return Err(Error::other(format!(
                    "{waiting} messages without an end, {outstanding} confirms outstanding, publishers {busy:?} not \
                     quiet, queues not settled: {queues:?}"
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
            .map(|(number, post)| post.publisher(&app, &journal(number)))
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
