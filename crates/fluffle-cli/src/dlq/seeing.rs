//! `fluffle dlq list`, `show` and `groups`: commands that look and change nothing.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use comfy_table::ColumnConstraint;
use serde_json::{Value, json};

use crate::{
    common::{
        failure::Failure,
        output::{self, Colour, OutputArgs, safe},
    },
    dlq::{
        args::{LookArgs, ShowArgs},
        interrupt::Interrupt,
        letter::{Cause, Letter},
        look::{Look, tell_of_cost},
    },
    message::fields,
    units::count,
};

/// Most letters that a look takes if nobody says how many.
const MOST: u64 = 1000;

/// Most causes that are told apart; letters of further ones are counted together.
const MOST_CAUSES: usize = 1000;

/// Takes letters, gives those that are wanted to `each` until it returns false, and puts all back.
async fn look_at(
    args: &LookArgs,
    subcommand: &str,
    mut each: impl FnMut(&Letter) -> Result<bool, Failure>,
) -> Result<Look, Failure> {
    let mut interrupt = Interrupt::new()?;
    let mut look = Look::open(args, subcommand, MOST).await?;
    let mut counted = false;
    let mut outcome = Ok(());
    while let Some(letter) = look.next().await? {
        counted |= letter.delivery_count().is_some();
        look.may_keep(&letter).await?;
        if args.filter.wants(&letter) {
            match each(&letter) {
                Ok(true) => {}
                Ok(false) => look.stop(),
                Err(error) => {
                    outcome = Err(error);
                    look.stop();
                }
            }
        }
        if interrupt.came() {
            look.interrupt();
        }
    }
    look.put_back().await?;
    outcome?;
    tell_of_cost(args, &look, counted);
    Ok(look)
}

/// Whether the look was not interrupted, as with `show` and `groups`.
pub(crate) async fn list(args: &LookArgs) -> Result<bool, Failure> {
    let mut table = output::table(&["id", "age", "cause"]);
    if let Some(ids) = table.column_mut(0) {
        // An id that is broken over lines cannot be copied.
        ids.set_constraint(ColumnConstraint::ContentWidth);
    }
    let mut letters = Vec::new();
    let look = look_at(args, "list", |letter| {
        if args.output.json {
            letters.push(summary(letter));
        } else {
            table.add_row([safe(&cut(letter.id().unwrap_or("-"), 40)), age(letter), safe(&cause(letter))]);
        }
        Ok(true)
    })
    .await?;
    if args.output.json {
        output::json(&json!({
            "queue": &*look.queue, "ready": look.depth.ready, "looked_at": look.taken, "delivery_limit": look.limit,
            "letters": letters,
        }))?;
        return Ok(look.is_whole());
    }
    println!("{table}");
    println!("{} of {} letters in `{}`", table.row_count(), count(look.depth.ready), safe(&look.queue));
    Ok(look.is_whole())
}

pub(crate) async fn show(args: &ShowArgs) -> Result<bool, Failure> {
    let mut shown = 0;
    let mut letters = Vec::new();
    let look = look_at(&args.look, "show", |letter| {
        shown += 1;
        if args.look.output.json {
            letters.push(everything(letter, args.body));
        } else {
            print(letter, args.body, &args.look.output);
        }
        Ok(shown < args.count)
    })
    .await?;
    if args.look.output.json {
        output::json(&json!({
            "queue": &*look.queue, "ready": look.depth.ready, "looked_at": look.taken, "letters": letters,
        }))?;
        return Ok(look.is_whole());
    }
    if shown == 0 {
        println!("none of the {} letters that were looked at in `{}` is wanted", look.taken, safe(&look.queue));
    }
    Ok(look.is_whole())
}

/// Letters of one cause.
#[derive(Default)]
struct Group {
    letters: u64,
    bytes: u64,
    oldest: Option<SystemTime>,
    newest: Option<SystemTime>,
    example: Option<String>,
}

pub(crate) async fn groups(args: &LookArgs) -> Result<bool, Failure> {
    let mut groups: HashMap<Cause, Group> = HashMap::new();
    let mut others = 0_u64;
    let look = look_at(args, "groups", |letter| {
        let cause = letter.cause();
        if groups.len() >= MOST_CAUSES && !groups.contains_key(&cause) {
            others += 1;
            return Ok(true);
        }
        let group = groups.entry(cause).or_default();
        group.letters += 1;
        group.bytes += letter.dead.body().len() as u64;
        if let Some(since) = letter.since() {
            group.oldest = Some(group.oldest.map_or(since, |oldest| oldest.min(since)));
            group.newest = Some(group.newest.map_or(since, |newest| newest.max(since)));
        }
        if group.example.is_none() {
            group.example = letter.id().map(str::to_owned);
        }
        Ok(true)
    })
    .await?;
    let mut groups: Vec<(Cause, Group)> = groups.into_iter().collect();
    groups.sort_by(|(cause, group), (other, than)| than.letters.cmp(&group.letters).then(cause.cmp(other)));
    if args.output.json {
        let listed: Vec<Value> = groups.iter().map(|(cause, group)| group_json(cause, group)).collect();
        output::json(&json!({
            "queue": &*look.queue, "ready": look.depth.ready, "looked_at": look.taken, "delivery_limit": look.limit,
            "groups": listed, "in_further_groups": others,
        }))?;
        return Ok(look.is_whole());
    }
    let mut table = output::table(&["group", "letters", "oldest", "newest", "cause"]);
    for (cause, group) in &groups {
        table.add_row([
            cause.key(),
            count(group.letters),
            ago(group.oldest),
            ago(group.newest),
            safe(&in_words(cause)),
        ]);
    }
    println!("{table}");
    if others > 0 {
        println!("and {} letters of further causes", count(others));
    }
    Ok(look.is_whole())
}

fn group_json(cause: &Cause, group: &Group) -> Value {
    json!({
        "group": cause.key(), "letters": group.letters, "bytes": group.bytes, "reason": cause.reason,
        "type": cause.type_name, "origin": cause.origin, "error": cause.error, "example": group.example,
        "oldest": stamp(group.oldest), "newest": stamp(group.newest),
    })
}

/// What the letters of a group died of, as far as they have it in common.
fn in_words(cause: &Cause) -> String {
    let mut text = format!("{} in {}, {}", cause.reason, cut(&cause.origin, 80), cut(&cause.type_name, 80));
    if !cause.error.is_empty() {
        text.push_str(&format!(": {}", cut(&cause.error, 120)));
    }
    text
}

/// Why a letter died, in one line.
fn cause(letter: &Letter) -> String {
    let mut text = letter.reason().to_owned();
    if let Some(attempts) = letter.attempts().filter(|attempts| *attempts > 1) {
        text.push_str(&format!(" after {attempts} attempts"));
    }
    match letter.dead.origin_queue() {
        Some(origin) => text.push_str(&format!(" in {}", cut(origin, 80))),
        None => text.push_str(", without an origin"),
    }
    if let Some(name) = letter.dead.type_name() {
        text.push_str(&format!(", {}", cut(name, 80)));
    }
    if !letter.error().is_empty() {
        text.push_str(&format!(": {}", cut(letter.error(), 120)));
    }
    text
}

/// What `list --json` says of a letter.
fn summary(letter: &Letter) -> Value {
    json!({
        "id": letter.id(), "reason": letter.reason(), "error": letter.error(), "attempts": letter.attempts(),
        "type": letter.dead.type_name(), "origin": letter.dead.origin_queue(), "since": stamp(letter.since()),
        "bytes": letter.dead.body().len(), "group": letter.cause().key(), "unreadable": letter.dead.unreadable(),
    })
}

fn everything(letter: &Letter, most: usize) -> Value {
    let mut all = summary(letter);
    let body = letter.dead.body();
    let shown = &body[..body.len().min(most)];
    all["exchange"] = json!(letter.exchange);
    all["routing_key"] = json!(letter.routing_key);
    all["headers"] = letter.headers().map_or(Value::Null, |headers| Value::Object(fields::table_to_json(headers)));
    all["properties"] =
        Value::Object(properties(letter).into_iter().map(|(name, text)| (name.into(), text.into())).collect());
    all["body"] = json!(String::from_utf8_lossy(shown));
    all["body_is_text"] = json!(std::str::from_utf8(body).is_ok());
    all
}

fn properties(letter: &Letter) -> Vec<(&'static str, String)> {
    let all = letter.properties();
    let texts = [
        ("content_type", all.content_type().as_ref()),
        ("content_encoding", all.content_encoding().as_ref()),
        ("type", all.kind().as_ref()),
        ("message_id", all.message_id().as_ref()),
        ("correlation_id", all.correlation_id().as_ref()),
        ("reply_to", all.reply_to().as_ref()),
        ("expiration", all.expiration().as_ref()),
        ("user_id", all.user_id().as_ref()),
        ("app_id", all.app_id().as_ref()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?.as_str().to_owned())));
    let numbers = [
        ("delivery_mode", all.delivery_mode().map(u64::from)),
        ("priority", all.priority().map(u64::from)),
        ("timestamp", *all.timestamp()),
    ];
    texts.chain(numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string())))).collect()
}

fn print(letter: &Letter, most: usize, output: &OutputArgs) {
    let line =
        |name: &str, text: &str| println!("{} {}", output.paint(Colour::Bold, &format!("{name:<16}")), safe(text));
    line("id", letter.id().unwrap_or("-"));
    line("reason", letter.reason());
    if let Some(attempts) = letter.attempts() {
        line("attempts", &attempts.to_string());
    }
    if !letter.error().is_empty() {
        line("error", letter.error());
    }
    line("origin", letter.dead.origin_queue().unwrap_or("- (it does not say: replay it with --to QUEUE)"));
    line("age", &age(letter));
    line("group", &letter.cause().key());
    line("exchange", &letter.exchange);
    line("routing key", &letter.routing_key);
    if let Some(what) = letter.dead.unreadable() {
        line("unreadable", what);
    }
    for (name, text) in properties(letter) {
        line(name, &text);
    }
    for (name, value) in letter.headers().into_iter().flat_map(|table| table.inner()) {
        println!("{} {}", output.paint(Colour::Cyan, &safe(name.as_str())), safe(&cut(&fields::plain(value), 2048)));
    }
    let body = letter.dead.body();
    line("body", &format!("{} bytes", count(body.len() as u64)));
    let shown = &body[..body.len().min(most)];
    match std::str::from_utf8(shown).or_else(|error| match error.error_len() {
        // Only the last character was cut.
        None => std::str::from_utf8(&shown[..error.valid_up_to()]),
        Some(_) => Err(error),
    }) {
        Ok(text) => text.lines().for_each(|line| println!("  {}", safe(line))),
        Err(_) => hexadecimal(shown),
    }
    if shown.len() < body.len() {
        println!("  … --body shows more");
    }
    println!();
}

fn hexadecimal(bytes: &[u8]) {
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let hex: String = chunk.iter().map(|byte| format!("{byte:02x} ")).collect();
        let text: String =
            chunk.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        println!("  {:08x}  {hex:<48} {text}", row * 16);
    }
}

fn age(letter: &Letter) -> String {
    ago(letter.since())
}

fn ago(since: Option<SystemTime>) -> String {
    let Some(since) = since else { return "-".to_owned() };
    let age = SystemTime::now().duration_since(since).unwrap_or_default();
    let whole = humantime::format_duration(Duration::from_secs(age.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn stamp(time: Option<SystemTime>) -> Option<String> {
    Some(humantime::format_rfc3339_seconds(time?).to_string())
}

/// The first characters of a text.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
