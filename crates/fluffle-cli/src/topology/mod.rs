//! `fluffle topology`: compares exchanges, queues and bindings with a broker's, creates what is missing, exports and
//! draws them.

mod apply;
pub(crate) mod args;
pub(crate) mod compare;
mod definitions;
mod export;
mod graph;
pub(crate) mod item;
pub(crate) mod model;
mod plan;
pub(crate) mod probe;
mod show;
mod source;
pub(crate) mod steps;
pub(crate) mod target;
mod told;

use std::{
    fs::{self, Permissions},
    io::{ErrorKind, Write, stdout},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::json;
use tokio::sync::watch;

use crate::{
    common::{
        broker::BrokerArgs,
        exit::Exit,
        failure::Failure,
        output,
        runtime::{self, Interrupt},
    },
    topology::{
        args::{ApplyArgs, ExportArgs, GraphArgs, PlanArgs, TopologyArgs, TopologyCommand},
        model::Model,
        plan::{End, Plan},
        target::Target,
        told::Told,
    },
};

/// Runs the subcommand.
pub(crate) fn command(args: &TopologyArgs) -> Result<Exit, Failure> {
    let end = match &args.command {
        TopologyCommand::Plan(args) => runtime::block_on(plan(args)),
        TopologyCommand::Apply(args) => runtime::block_on(apply(args)),
        TopologyCommand::Export(args) => runtime::block_on(export(args)),
        TopologyCommand::Graph(args) => runtime::block_on(graph(args)),
    };
    end.map(End::exit)
}

async fn plan(args: &PlanArgs) -> Result<End, Failure> {
    let plan = plan::make(&args.broker, &args.source.read()?).await?;
    match args.output.json {
        true => output::json(&plan)?,
        false => print!("{}", show::plan(&plan, &args.output)),
    }
    Ok(plan.end())
}

async fn apply(args: &ApplyArgs) -> Result<End, Failure> {
    let model = args.source.read()?;
    let agreed = args.plan.as_deref().map(read_plan).transpose()?;
    let plan = plan::make(&args.broker, &model).await?;
    if !args.output.json {
        print!("{}", show::plan(&plan, &args.output));
    }
    let stopped = match &agreed {
        Some(agreed) => apply::changed_since(agreed, &plan),
        None => Vec::new(),
    };
    if !stopped.is_empty() {
        let why = format!("the broker changed since the plan was made, nothing is applied: {}", stopped.join("; "));
        return refuse(args, &plan, why);
    }
    match plan.end() {
        End::Refused => {
            let why = "something is to be settled by hand first, nothing is applied: see the plan".to_owned();
            return refuse(args, &plan, why);
        }
        End::Nothing => {
            if args.output.json {
                output::json(&json!({ "plan": plan, "applied": [], "stopped": null }))?;
            }
            return Ok(End::Nothing);
        }
        End::Changes => {}
    }
    if !args.yes && !apply::is_agreed("Apply?")? {
        return Err(Failure::new("not agreed, nothing is applied"));
    }
    let mut interrupt = Interrupt::new()?;
    let (interrupted, is_interrupted) = watch::channel(false);
    let listener = tokio::spawn(async move {
        interrupt.wait().await;
        // Fails only if the work is done.
        let _ = interrupted.send(true);
    });
    let done = apply::run(&args.broker, &model, &plan, &is_interrupted).await;
    listener.abort();
    let done = done?;
    if args.output.json {
        output::json(&json!({ "plan": plan, "applied": done.applied, "stopped": done.stopped }))?;
    } else {
        for entity in &done.applied {
            println!("done: {} {}", entity.kind(), output::safe(&entity.name()));
        }
    }
    let all = plan.items.iter().filter(|item| item.status.is_applied()).count();
    match done.stopped {
        None => Ok(End::Nothing),
        Some(why) => Err(Failure::new(format!("{} of {all} done, then stopped: {why}", done.applied.len()))),
    }
}

fn refuse(args: &ApplyArgs, plan: &Plan, why: String) -> Result<End, Failure> {
    if args.output.json {
        output::json(&json!({ "plan": plan, "applied": [], "stopped": why }))?;
    }
    eprintln!("fluffle topology apply: {why}");
    Ok(End::Refused)
}

fn read_plan(file: &Path) -> Result<Plan, Failure> {
    let failed = |why: String| Failure::new(format!("--plan {}: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(format!("it is no output of `plan --json`: {error}")))
}

async fn export(args: &ExportArgs) -> Result<End, Failure> {
    let model = match &args.definitions {
        Some(file) => source::read_definitions(file, args.vhost.as_deref())?,
        None => of_broker(args.broker.as_ref(), "--definitions FILE").await?,
    };
    let exported = export::toml(&model);
    write(args.output.as_deref(), &exported.text)?;
    if !exported.left_out.is_empty() {
        let left_out = exported.left_out.join("; ");
        eprintln!("fluffle topology export: in comments, because the library does not declare it: {left_out}");
    }
    Ok(End::Nothing)
}

async fn graph(args: &GraphArgs) -> Result<End, Failure> {
    let model = match args.file.clone() {
        Some(file) => source::Source { file, vhost: args.vhost.clone() }.read()?,
        None => of_broker(args.broker.as_ref(), "a FILE").await?,
    };
    let drawn = graph::draw(&model, args.format, args.output.as_deref())?;
    write(args.output.as_deref(), &drawn)?;
    Ok(End::Nothing)
}

/// What a broker has, which only the management API tells.
async fn of_broker(args: Option<&BrokerArgs>, instead: &str) -> Result<Model, Failure> {
    let told = match args {
        Some(args) => Told::read(args, &Target::of(args)?.vhost).await?,
        None => None,
    };
    let told = told.ok_or_else(|| {
        Failure::new(format!(
            "AMQP does not list what a broker has: give --url and --api, the URL of the management API, or {instead}"
        ))
    })?;
    Ok(told.model)
}

/// Writes the whole text, or nothing of it to a file.
fn write(file: Option<&Path>, text: &str) -> Result<(), Failure> {
    let Some(file) = file else {
        return match stdout().write_all(text.as_bytes()) {
            // The reader has seen enough: `| head`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        };
    };
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // With the rights of any new file: the user's umask takes some away.
    let rights = Permissions::from_mode(0o666);
    let new = tempfile::Builder::new().permissions(rights).tempfile_in(folder);
    let mut new = new.map_err(|error| failed(&error))?;
    new.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    new.persist(file).map_err(|error| failed(&error))?;
    Ok(())
}
