//! `fluffle dlq export` and `discard`, and the file of letters that both write.
//!
//! One JSON object on each line. What is for people (`id`, `reason`, `error`, …) is written only; `amqp` and the body
//! are what the letter is made of again.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use fluffle::amqp::DeadLetter;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    common::{
        failure::Failure,
        output::{self, safe},
    },
    dlq::{
        args::{DiscardArgs, ExportArgs},
        interrupt::Interrupt,
        letter::Letter,
        look::{Look, tell_of_cost},
    },
    units::count,
};

/// Letters that are written and synced together, before they are acked.
const BATCH: usize = 256;

/// The longest line that is read, in bytes: a body of 128 MiB, which is the most that RabbitMQ takes, in base64.
const LONGEST_LINE: u64 = 200 << 20;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    queue: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    error: String,
    #[serde(default, rename = "type")]
    type_name: Option<String>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    exchange: String,
    #[serde(default)]
    routing_key: String,
    /// What could not be read of it. Such a letter is never replayed, because the copy would be another message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// The AMQP properties with all headers, in base64.
    amqp: String,
    /// The body, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Line {
    fn of(queue: &str, letter: &Letter) -> Result<Self, Failure> {
        let body = letter.dead.body();
        let text = std::str::from_utf8(body).ok().map(str::to_owned);
        let since = letter.since().map(|since| humantime::format_rfc3339_seconds(since).to_string());
        Ok(Self {
            queue: queue.to_owned(),
            id: letter.id().map(str::to_owned),
            reason: letter.reason().to_owned(),
            error: letter.error().to_owned(),
            type_name: letter.dead.type_name().map(str::to_owned),
            origin: letter.dead.origin_queue().map(str::to_owned),
            since,
            exchange: letter.exchange.clone(),
            routing_key: letter.routing_key.clone(),
            unreadable: letter.dead.unreadable().map(str::to_owned),
            amqp: BASE64_STANDARD.encode(letter.dead.properties_bytes()?),
            body_base64: text.is_none().then(|| BASE64_STANDARD.encode(body)),
            body: text,
        })
    }

    fn letter(self, number: u64) -> Result<Letter, Failure> {
        let properties = BASE64_STANDARD.decode(&self.amqp)?;
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(encoded)) => BASE64_STANDARD.decode(encoded)?,
            _ => return Err(Failure::new("it needs one of `body` and `body_base64`")),
        };
        Ok(Letter {
            tag: number,
            exchange: self.exchange,
            routing_key: self.routing_key,
            dead: DeadLetter::from_bytes(&self.queue, &properties, body.into())?,
            unreadable_in_file: self.unreadable,
        })
    }
}

/// The file that letters are written to.
pub(crate) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Writer {
    /// Creates the file, which must not exist, so that no other export is overwritten.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| Failure::new(format!("cannot create {}: {error}", path.display())))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Without this a power failure can take the file's name away, though its content was synced.
        File::open(folder).and_then(|folder| folder.sync_all())?;
        Ok(Self { file: BufWriter::new(file), path: path.to_owned() })
    }

    pub(crate) fn write(&mut self, queue: &str, letter: &Letter) -> Result<(), Failure> {
        let line = serde_json::to_string(&Line::of(queue, letter)?)?;
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| self.failed(&error))
    }

    /// Returns when all that was written is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot write to {}: {error}", self.path.display()))
    }
}

/// The file that letters are read from, line by line.
pub(crate) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    number: u64,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file =
            File::open(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        Ok(Self { file: BufReader::new(file), path: path.to_owned(), number: 0 })
    }

    /// The next letter, with the number of its line as its tag.
    pub(crate) fn next(&mut self) -> Result<Option<Letter>, Failure> {
        use std::io::Read;
        loop {
            let mut line = Vec::new();
            let read = (&mut self.file).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let at = |why: String| Failure::new(format!("{} line {}: {why}", self.path.display(), self.number));
            let parsed: Line = serde_json::from_slice(&line)
                .map_err(|error| at(format!("not a letter that `fluffle dlq export` wrote: {error}")))?;
            return parsed.letter(self.number).map(Some).map_err(|error| at(error.to_string()));
        }
    }

    /// Reads over the lines before this number.
    pub(crate) fn skip_to(&mut self, number: u64) -> Result<(), Failure> {
        let mut line = Vec::new();
        while self.number + 1 < number {
            line.clear();
            if self.file.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.number += 1;
        }
        Ok(())
    }
}

pub(crate) async fn export(args: &ExportArgs) -> Result<bool, Failure> {
    let mut interrupt = Interrupt::new()?;
    let mut look = Look::open(&args.look, "export", u64::MAX).await?;
    let mut file = Writer::create(&args.file)?;
    let queue = Arc::clone(&look.queue);
    let (mut exported, mut counted) = (0_u64, false);
    let mut wrote = Ok(());
    while let Some(letter) = look.next().await? {
        counted |= letter.delivery_count().is_some();
        look.may_keep(&letter).await?;
        if args.look.filter.wants(&letter) {
            wrote = file.write(&queue, &letter);
            exported += 1;
        }
        if wrote.is_err() || interrupt.came() {
            look.stop();
        }
    }
    look.put_back().await?;
    wrote?;
    file.sync()?;
    let interrupted = interrupt.came();
    if args.look.output.json {
        output::json(&json!({
            "queue": &*queue, "looked_at": look.taken, "exported": exported, "file": args.file,
            "interrupted": interrupted,
        }))?;
    } else {
        println!(
            "{} letters of `{}` are in {}, and still in the queue",
            count(exported),
            safe(&queue),
            args.file.display()
        );
    }
    tell_of_cost(&args.look, &look, counted);
    Ok(!interrupted)
}

/// What a discard did.
#[derive(Debug, Default, Serialize)]
struct Discarded {
    queue: String,
    dry_run: bool,
    looked_at: u64,
    discarded: u64,
    not_wanted: u64,
    unreadable: u64,
    interrupted: bool,
    file: PathBuf,
}

pub(crate) async fn discard(args: &DiscardArgs) -> Result<bool, Failure> {
    let mut interrupt = Interrupt::new()?;
    let mut look = Look::open(&args.look, "discard", u64::MAX).await?;
    let queue = Arc::clone(&look.queue);
    let mut done =
        Discarded { queue: queue.to_string(), dry_run: !args.go, file: args.export.clone(), ..Discarded::default() };
    let mut counted = false;
    if !args.go {
        while let Some(letter) = look.next().await? {
            counted |= letter.delivery_count().is_some();
            look.may_keep(&letter).await?;
            match (letter.dead.unreadable(), args.look.filter.wants(&letter)) {
                (_, false) => done.not_wanted += 1,
                (Some(_), true) => done.unreadable += 1,
                (None, true) => done.discarded += 1,
            }
            if interrupt.came() {
                look.stop();
            }
        }
    } else {
        let mut file = Writer::create(&args.export)?;
        let mut more = true;
        while more {
            let mut tags = Vec::with_capacity(BATCH);
            while tags.len() < BATCH {
                let Some(letter) = look.next().await? else {
                    more = false;
                    break;
                };
                if !args.look.filter.wants(&letter) {
                    counted |= letter.delivery_count().is_some();
                    look.may_keep(&letter).await?;
                    done.not_wanted += 1;
                } else if letter.dead.unreadable().is_some() {
                    // The file could not have all of it.
                    done.unreadable += 1;
                } else {
                    file.write(&queue, &letter)?;
                    tags.push(letter.tag);
                }
                if interrupt.came() {
                    look.stop();
                }
            }
            file.sync()?;
            for tag in &tags {
                look.ack(*tag).await?;
            }
            done.discarded += tags.len() as u64;
        }
    }
    look.put_back().await?;
    (done.looked_at, done.interrupted) = (look.taken, interrupt.came());
    if args.look.output.json {
        output::json(&done)?;
    } else {
        let verb = if args.go { "discarded" } else { "would be discarded" };
        println!(
            "{} looked at: {} {verb}, {} not wanted, {} stay because they cannot be read in full",
            count(done.looked_at),
            count(done.discarded),
            count(done.not_wanted),
            count(done.unreadable)
        );
        match args.go {
            true => {
                println!("they are in {}: `fluffle dlq replay --from-file` brings them back", args.export.display())
            }
            false => println!("nothing was done; --go does it"),
        }
    }
    tell_of_cost(&args.look, &look, counted);
    Ok(!done.interrupted)
}
