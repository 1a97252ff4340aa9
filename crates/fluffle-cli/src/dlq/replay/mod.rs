//! `fluffle dlq replay`.

pub(crate) mod args;
mod journal;
mod probe;
mod report;
mod run;
mod source;
mod targets;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::{
    common::{failure::Failure, output::safe},
    dlq::{
        interrupt::Interrupt,
        replay::{
            args::ReplayArgs,
            journal::Journal,
            report::Report,
            run::{Run, settle_down, wanted},
            source::Source,
            targets::Targets,
        },
    },
};

/// Most characters of a queue's name in the name of its journal.
const LONGEST_NAME: usize = 100;

pub(crate) async fn replay(args: &ReplayArgs) -> Result<bool, Failure> {
    if let Some(id) = args.replay_id.as_ref().filter(|id| id.is_empty() || id.len() > 255) {
        return Err(Failure::new(format!("--replay-id has {} bytes: use 1 to 255", id.len())));
    }
    let mut interrupt = Interrupt::new()?;
    let mut source = Source::open(args).await?;
    let mut report = Report { source: Source::name(args), dry_run: !args.go, ..Report::default() };
    let mut targets = Targets::default();
    if args.go {
        carry_out(args, &mut source, &mut interrupt, &mut targets, &mut report).await?;
    } else {
        rehearse(args, &mut source, &mut interrupt, &mut targets, &mut report).await?;
    }
    let is_whole = report.is_whole();
    report.print(&args.output, targets)?;
    Ok(is_whole)
}

/// Looks at the letters, and counts what would be done.
async fn rehearse(
    args: &ReplayArgs,
    source: &mut Source,
    interrupt: &mut Interrupt,
    targets: &mut Targets,
    report: &mut Report,
) -> Result<(), Failure> {
    report.end = "complete";
    while let Some(letter) = source.next().await? {
        source.keep(&letter).await?;
        report.looked_at += 1;
        if let Some(target) = wanted(args, &letter, report) {
            report.replayed += 1;
            targets.count(source.connection(), &target).await?;
        }
        if interrupt.came() {
            report.end = "interrupted";
            break;
        }
    }
    source.end().await
}

async fn carry_out(
    args: &ReplayArgs,
    source: &mut Source,
    interrupt: &mut Interrupt,
    targets: &mut Targets,
    report: &mut Report,
) -> Result<(), Failure> {
    let path = match &args.journal {
        Some(path) => path.clone(),
        None => default_journal(args)?,
    };
    let (mut journal, resumed) = Journal::open(&path, || args.replay_id.clone().unwrap_or_else(new_id))?;
    report.replay = journal.state.replay.clone().unwrap_or_default();
    report.resumed = resumed;
    if let Some(id) = args.replay_id.as_ref().filter(|id| **id != report.replay) {
        return Err(Failure::new(format!(
            "the replay {} of `{}` ended early: run it to its end first, without --replay-id {}",
            safe(&report.replay),
            safe(&report.source),
            safe(id)
        )));
    }
    if resumed {
        source.say(&format!(
            "the replay {} ended early, after {} letters; going on",
            safe(&report.replay),
            journal.state.replayed
        ));
        source.skip_to(journal.state.from)?;
    }
    if !journal.state.open.is_empty() {
        settle_down(source).await?;
    }
    let mut run = Run::new(args, source, &mut journal, interrupt, targets, report).await?;
    let ran = run.all().await;
    let keeps_open = run.keeps_open;
    // Also after an error: what was not acked goes back.
    let ended = source.end().await;
    report.replayed_in_all = journal.state.replayed;
    report.may_be_twice = journal.state.again;
    report.may_be_twice_ids.clone_from(&journal.state.again_ids);
    report.looked_at = source.taken();
    ran?;
    ended?;
    let is_over = report.end != "interrupted" && !keeps_open;
    journal.finish(is_over)
}

fn new_id() -> String {
    let now = std::time::SystemTime::now();
    format!("{}-{:08x}", humantime::format_rfc3339_seconds(now), fastrand::u32(..))
}

/// The journal of this queue or file: its name, and a hash of where it is.
fn default_journal(args: &ReplayArgs) -> Result<PathBuf, Failure> {
    let place = match (&args.from_file, &args.queue) {
        (Some(path), _) => {
            let path = fs::canonicalize(path)?;
            let mut of_file = path.display().to_string();
            of_file.push('\0');
            of_file + &broker_of(args)?
        }
        (None, queue) => format!("{}\0{}", queue.as_deref().unwrap_or_default(), broker_of(args)?),
    };
    let hash: String = Sha256::digest(place.as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = Source::name(args);
    let name = Path::new(&name).file_name().map_or(name.clone(), |name| name.to_string_lossy().into_owned());
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
    let name = &name[..name.len().min(LONGEST_NAME)];
    Ok(state_folder().join(format!("replay-{name}-{hash}.journal")))
}

/// The broker's address without user and password.
fn broker_of(args: &ReplayArgs) -> Result<String, Failure> {
    let without = |url: &str| {
        let mut url = url::Url::parse(url)?;
        // Fail only for a URL without a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        Ok::<_, Failure>(url.to_string())
    };
    Ok(args.broker.url.split(',').map(without).collect::<Result<Vec<_>, _>>()?.join(","))
}

/// Where programs keep what outlives them (XDG Base Directory Specification).
fn state_folder() -> PathBuf {
    let named = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")));
    state.map_or_else(|| PathBuf::from("."), |state| state.join("fluffle"))
}
