//! Reads, publishes, and counts what becomes of each message.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use fluffle::{
    amqp::{Prepared, PublishError},
    prelude::{App, Forwarder},
};
use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep_until;
use tracing_subscriber::EnvFilter;

use crate::{
    common::{amqp, exit::Exit, failure::Failure, output::json, runtime::Interrupt},
    publish::{
        args::PublishArgs,
        batches::{Batches, Parcel},
        draft::Draft,
        encode::Encoder,
        input::Input,
        pace::Pace,
        tally::{End, Tally},
    },
};

/// Most AMQP messages on the way: fewer than the forwarder has room for, so that handing over never waits.
const ON_THE_WAY: usize = 1000;
/// How long the service may take to stop. All is settled by then, unless a second Ctrl-C gave it up.
const STOP: Duration = Duration::from_secs(5);

/// `fluffle publish`. The exit code says what became of the messages.
pub(crate) fn command(args: &PublishArgs) -> Result<Exit, Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal()).init();
    let encoder = Encoder::new(args.types.pool()?, args.gzip, !args.not_mandatory);
    let tally = actix::System::new().block_on(publish(args, encoder))?;
    if args.output.json {
        json(&tally)?;
    } else {
        eprintln!("{}", tally.text());
    }
    Ok(tally.exit())
}

async fn publish(args: &PublishArgs, encoder: Encoder) -> Result<Tally, Failure> {
    let input = Input::open(args).await?;
    // A service tries for ever to connect. A person wants to know at once that the broker cannot be reached, and why.
    let connection = amqp::connect(&args.broker, "publish").await?;
    let _ = tokio::time::timeout(STOP, connection.close(200, "reachable".into())).await;
    let app = App::new(args.broker.broker()?.name("fluffle publish")).drain_within(STOP);
    let out = app.forwarder("publish");
    let service = app.start().await?;
    let mut sender = Sender {
        args,
        out,
        batches: Batches::new(encoder, args.batch),
        on_the_way: FuturesUnordered::new(),
        tally: Tally::new(args.skip, !args.not_mandatory),
        progress: progress(args),
    };
    let sent = sender.run(input).await;
    sender.progress.finish_and_clear();
    let tally = sender.tally;
    // What was given up by a second Ctrl-C is counted as not confirmed, however the service ends.
    let _ = service.shutdown().await;
    sent.map(|()| tally)
}

struct Sender<'a> {
    args: &'a PublishArgs,
    out: Forwarder,
    batches: Batches,
    on_the_way: FuturesUnordered<LocalBoxFuture<'static, Settled>>,
    tally: Tally,
    progress: ProgressBar,
}

/// What became of one AMQP message.
struct Settled {
    lines: (u64, u64),
    messages: u64,
    failed: Option<PublishError<Prepared>>,
}

impl Sender<'_> {
    /// Publishes all of the input, and waits for all outcomes.
    async fn run(&mut self, mut input: Input) -> Result<(), Failure> {
        let mut stop = Interrupt::new()?;
        let mut pace = Pace::new(self.args.rate);
        loop {
            let has_room = self.on_the_way.len() < ON_THE_WAY;
            let due = self.batches.due();
            let lingered = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let next = async {
                pace.due().await;
                input.next(self.args).await
            };
            let mut parcels = Vec::new();
            tokio::select! {
                biased;
                () = stop.wait() => self.tally.end = End::Interrupted,
                Some(settled) = self.on_the_way.next() => {
                    self.count(settled);
                    if !self.tally.is_hopeless() {
                        continue;
                    }
                    self.tally.end = End::Refused;
                }
                () = lingered => {
                    self.flush(&mut parcels);
                    self.send(parcels).await;
                    continue;
                }
                draft = next, if has_room => {
                    if let Some(draft) = draft {
                        pace.taken();
                        if self.take(draft).await {
                            continue;
                        }
                    }
                }
            }
            break;
        }
        let mut parcels = Vec::new();
        self.flush(&mut parcels);
        self.send(parcels).await;
        self.finish(&mut stop).await;
        Ok(())
    }

    /// Publishes a message, or keeps it for a batch. `false`: the input is wrong, and no more is read.
    async fn take(&mut self, draft: Result<Draft, String>) -> bool {
        let mut parcels = Vec::new();
        let taken = draft.and_then(|draft| {
            let pushed = self.batches.push(&draft, &mut parcels);
            pushed.map(|()| draft.line).map_err(|why| format!("line {}: {why}", draft.line))
        });
        self.send(parcels).await;
        match taken {
            Ok(line) => {
                self.tally.last_line = line;
                true
            }
            Err(why) => {
                self.wrong(why);
                false
            }
        }
    }

    fn wrong(&mut self, why: String) {
        self.tally.end = End::InputError;
        self.tally.input_error = Some(why);
    }

    fn flush(&mut self, parcels: &mut Vec<Parcel>) {
        if let Err(why) = self.batches.flush(parcels) {
            self.wrong(why);
        }
    }

    /// Hands over in order. The forwarder has room, so this does not wait.
    async fn send(&mut self, parcels: Vec<Parcel>) {
        for Parcel { prepared, lines, messages } in parcels {
            self.tally.published += messages;
            match self.out.enqueue(prepared).await {
                Ok(receipt) => self.on_the_way.push(Box::pin(async move {
                    Settled { lines, messages, failed: receipt.confirmed().await.err() }
                })),
                Err(error) => self.count(Settled { lines, messages, failed: Some(error) }),
            }
        }
    }

    fn count(&mut self, settled: Settled) {
        self.tally.settle(settled.lines, settled.messages, settled.failed);
        self.progress.set_position(self.tally.settled());
    }

    /// Waits for what is on the way, at most for the deadline of each message (30 s), or until a second Ctrl-C.
    async fn finish(&mut self, stop: &mut Interrupt) {
        loop {
            tokio::select! {
                biased;
                settled = self.on_the_way.next() => match settled {
                    Some(settled) => self.count(settled),
                    None => return,
                },
                () = stop.wait() => {
                    self.tally.end = End::Interrupted;
                    self.tally.unconfirmed += self.tally.published - self.tally.settled();
                    return;
                }
            }
        }
    }
}

/// Shown on a terminal only.
fn progress(args: &PublishArgs) -> ProgressBar {
    if args.ndjson.is_none() && args.repeat == 1 {
        return ProgressBar::hidden();
    }
    let bar = if args.ndjson.is_none() { ProgressBar::new(args.repeat) } else { ProgressBar::no_length() };
    let style = ProgressStyle::with_template("{spinner} {human_pos} settled, {per_sec}, {elapsed}");
    style.map_or(ProgressBar::hidden(), |style| bar.with_style(style))
}
