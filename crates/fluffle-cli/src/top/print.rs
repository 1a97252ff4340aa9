//! Looks as text and JSON on standard output, without a view.

use std::io::{self, ErrorKind, Write, stdout};

use comfy_table::CellAlignment;

use crate::{
    common::{
        exit::Exit,
        failure::Failure,
        output::{Colour, OutputArgs, json_line, safe, table},
        runtime::Interrupt,
    },
    top::{
        args::TopArgs,
        cells::{self, HEADS},
        look::Look,
        lost::Lost,
        order,
        service::Service,
        watcher::Watcher,
    },
};

/// Prints this many looks; `None`: until Ctrl-C. If the last was not whole, the subcommand was not carried out.
pub(crate) async fn run(args: &TopArgs, watcher: &mut Watcher, count: Option<u64>) -> Result<Exit, Failure> {
    let mut stop = Interrupt::new()?;
    let mut code = Exit::Clean;
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        if printed > 0 {
            tokio::select! {
                () = stop.wait() => break,
                () = tokio::time::sleep(args.interval) => {}
            }
        }
        let look = tokio::select! {
            () = stop.wait() => break,
            look = watcher.look() => look,
        };
        printed += 1;
        code = if look.is_whole() { Exit::Clean } else { Exit::NotCarriedOut };
        match print(args, look) {
            Ok(()) => {}
            // The reader of a pipe has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(Failure::new(format!("cannot write to standard output: {error}"))),
        }
    }
    Ok(code)
}

fn print(args: &TopArgs, mut look: Look) -> io::Result<()> {
    let mut out = stdout().lock();
    if look.lost.is_some() {
        // They are of a time before, and would be taken for what is now.
        look.queues.clear();
    }
    if args.output.json {
        json_line(&mut out, &look)?;
    } else {
        out.write_all(text(args, &look).as_bytes())?;
    }
    out.flush()
}

fn text(args: &TopArgs, look: &Look) -> String {
    let output = &args.output;
    let mut text = format!("{} {}\n", safe(&look.broker), safe(&look.vhost));
    if let Some(lost) = &look.lost {
        text.push_str(&output.paint(Colour::Red, &lost_text("the broker gives no answer", lost, look.at)));
        text.push('\n');
    } else if look.queues.is_empty() {
        text.push_str("no queues\n");
    } else {
        text.push_str(&queues(args, look));
    }
    if let Some(service) = &look.service {
        text.push_str(&service_text(output, service, look.at));
    }
    text
}

/// Who is lost, since when and why.
pub(crate) fn lost_text(what: &str, lost: &Lost, now: u64) -> String {
    let since = cells::age(now.saturating_sub(lost.since) / 1000);
    format!("{what} (for {since}): {}", safe(&lost.why))
}

fn queues(args: &TopArgs, look: &Look) -> String {
    let mut rows: Vec<_> = look.queues.iter().collect();
    order::sort(&mut rows, args.sort, false);
    let heads: Vec<&str> = std::iter::once("QUEUE").chain(HEADS).collect();
    let mut table = table(&heads);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        table.add_row(std::iter::once(cells::name(row)).chain(cells::numbers(row)));
    }
    let why = cells::why_unknown(look);
    let why = if why.is_empty() { String::new() } else { format!("{why}\n") };
    format!("{table}\n{why}")
}

fn service_text(output: &OutputArgs, service: &Service, now: u64) -> String {
    let lines = service_lines(service, now);
    let paint = |(colour, line): &(Option<Colour>, String)| match colour {
        Some(colour) => output.paint(*colour, line),
        None => line.clone(),
    };
    let lines: Vec<_> = lines.iter().map(paint).collect();
    format!("\n{}\n", lines.join("\n"))
}

/// A service in lines, each safe for a terminal: its health, the verdicts of its queues, its tree.
pub(crate) fn service_lines(service: &Service, now: u64) -> Vec<(Option<Colour>, String)> {
    if let Some(lost) = &service.lost {
        return vec![(Some(Colour::Red), lost_text(&format!("{} gives no answer", safe(&service.url)), lost, now))];
    }
    let title = format!("{} {} at {}", safe(&service.name), safe(&service.state), safe(&service.url));
    let mut lines = vec![(Some(Colour::Bold), title)];
    let groups = [
        ("not alive", Colour::Red, &service.live),
        ("not ready", Colour::Red, &service.ready),
        ("note", Colour::Yellow, &service.notes),
    ];
    for (what, colour, findings) in groups {
        lines.extend(findings.iter().map(|finding| (Some(colour), format!("{what}: {}", safe(finding)))));
    }
    for queue in &service.queues {
        let colour = match queue.verdict.as_str() {
            "healthy" => Some(Colour::Green),
            "idle" => None,
            _ => Some(Colour::Yellow),
        };
        let advice = queue.advice.as_ref().map_or_else(String::new, |advice| format!(" -> {}", safe(advice)));
        let (name, verdict, words) = (safe(&queue.name), safe(&queue.verdict), safe(&queue.words));
        lines.push((colour, format!("queue {name}: {verdict}: {words}{advice}")));
    }
    for node in &service.tree {
        let colour = match node.state.as_str() {
            "running" | "stopped" => None,
            "failed" | "backing off" => Some(Colour::Red),
            _ => Some(Colour::Yellow),
        };
        let mut line = format!("{:indent$}{} {}", "", safe(&node.id), safe(&node.state), indent = node.depth * 2);
        if let Some(rate) = node.rate {
            line.push_str(&format!(" {}/s", cells::speed(rate)));
        }
        if node.restarts > 0 {
            line.push_str(&format!(", {} restarts", node.restarts));
        }
        for remark in [&node.last_exit, &node.note].into_iter().flatten() {
            line.push_str(&format!(", {}", safe(remark)));
        }
        lines.push((colour, line));
    }
    lines
}
