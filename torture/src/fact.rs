//! The log of facts: one line each, in one pipe that all processes write to.
//!
//! A line is one `write` of at most `PIPE_BUF` bytes, so lines of different processes do not mix. SIGKILL cannot lose
//! or cut a line that was written, and the order of lines is the order of events, as far as there is one. A process
//! whose disk is full can still write to the pipe.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::id::Id;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A publisher is about to publish the message.
    Try(Id),
    /// How the message is foreign.
    Foreign(Id, String),
    /// The message was published: the broker has confirmed it.
    Yes(Id),
    /// The message was not published, and the broker cannot have it.
    No(Id, String),
    /// The message was not published: its publisher's journal refused it because of the disk.
    Unwritten(Id, String),
    /// It is unknown whether the broker has the message.
    Maybe(Id, String),
    /// The id of the message on the wire.
    Named(Id, String),
    /// A handler received the message, on this attempt.
    Begin(Id, u32),
    /// The message's handler is about to fail its whole batch on this attempt, whatever its own result.
    Along(Id, u32),
    /// The handler is about to report success: its effect has happened.
    Done(Id, u32),
    /// The framework has acked the message for good, on this attempt.
    Acked(Id, u32),
    /// The body differs from the published one.
    Garbled(Id),
    /// The handler of another type received the message, or the reader of dead letters of another type.
    Mistyped(Id),
    /// The dead letter says how many deliveries ended without an answer.
    Delivered(Id, u32),
    /// The message is in the dead-letter queue: after how many attempts, and why.
    Dead(Id, u32, String),
    /// A publisher publishes nothing more, and has all its answers.
    Quiet(String),
    /// Something was done to the broker, the network, or a process.
    Fault(String),
    /// The child was killed, or a message has killed it, in the life with this name.
    Killed(String),
    /// The disk with the child's journals is about to become full, or has just got room again.
    Disk(Room),
    /// The process that writes this made no progress for so long.
    Stall(Duration),
}

/// Whether a disk accepts more data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has room.
    Some,
    /// It is full.
    None,
}

impl Fact {
    /// The message that the fact is about.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Try(id) | Self::Foreign(id, _) | Self::Yes(id) | Self::Delivered(id, _) => Some(id),
            Self::No(id, _) | Self::Unwritten(id, _) | Self::Maybe(id, _) | Self::Named(id, _) => Some(id),
            Self::Begin(id, _) | Self::Along(id, _) | Self::Done(id, _) | Self::Acked(id, _) => Some(id),
            Self::Garbled(id) | Self::Mistyped(id) | Self::Dead(id, ..) => Some(id),
            Self::Quiet(_) | Self::Fault(_) | Self::Killed(_) | Self::Disk(_) | Self::Stall(_) => None,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Try(id) => write!(f, "try {id}"),
            Self::Foreign(id, what) => write!(f, "foreign {id} {what}"),
            Self::Yes(id) => write!(f, "yes {id}"),
            Self::No(id, why) => write!(f, "no {id} {why}"),
            Self::Unwritten(id, why) => write!(f, "unwritten {id} {why}"),
            Self::Maybe(id, why) => write!(f, "maybe {id} {why}"),
            Self::Named(id, name) => write!(f, "named {id} {name}"),
            Self::Along(id, attempt) => write!(f, "along {id} {attempt}"),
            Self::Begin(id, attempt) => write!(f, "begin {id} {attempt}"),
            Self::Done(id, attempt) => write!(f, "done {id} {attempt}"),
            Self::Acked(id, attempt) => write!(f, "acked {id} {attempt}"),
            Self::Garbled(id) => write!(f, "garbled {id}"),
            Self::Mistyped(id) => write!(f, "mistyped {id}"),
            Self::Delivered(id, times) => write!(f, "delivered {id} {times}"),
            Self::Dead(id, attempts, why) => write!(f, "dead {id} {attempts} {why}"),
            Self::Quiet(source) => write!(f, "quiet {source}"),
            Self::Fault(what) => write!(f, "fault {what}"),
            Self::Killed(life) => write!(f, "killed {life}"),
            Self::Disk(Room::None) => f.write_str("disk full"),
            Self::Disk(Room::Some) => f.write_str("disk roomy"),
            Self::Stall(time) => write!(f, "stall {}", time.as_millis()),
        }
    }
}

/// A line that contains no fact.
#[derive(Debug, PartialEq, Eq)]
pub struct NoFact(String);

impl fmt::Display for NoFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line of the log that tells no fact: {:?}", self.0)
    }
}

impl std::error::Error for NoFact {}

impl FromStr for Fact {
    type Err = NoFact;

    fn from_str(line: &str) -> Result<Self, NoFact> {
        let wrong = || NoFact(line.to_owned());
        let (verb, rest) = line.split_once(' ').ok_or_else(wrong)?;
        match verb {
            "quiet" => return Ok(Self::Quiet(rest.to_owned())),
            "fault" => return Ok(Self::Fault(rest.to_owned())),
            "killed" => return Ok(Self::Killed(rest.to_owned())),
            "stall" => return rest.parse().map(Duration::from_millis).map(Self::Stall).map_err(|_| wrong()),
            "disk" => {
                return match rest {
                    "full" => Ok(Self::Disk(Room::None)),
                    "roomy" => Ok(Self::Disk(Room::Some)),
                    _ => Err(wrong()),
                };
            }
            _ => {}
        }
        let (id, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let id: Id = id.parse().map_err(|_| wrong())?;
        let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let number = || number.parse::<u32>().map_err(|_| wrong());
        Ok(match verb {
            "try" => Self::Try(id),
            "foreign" => Self::Foreign(id, rest.to_owned()),
            "yes" => Self::Yes(id),
            "no" => Self::No(id, rest.to_owned()),
            "unwritten" => Self::Unwritten(id, rest.to_owned()),
            "maybe" => Self::Maybe(id, rest.to_owned()),
            "named" => Self::Named(id, rest.to_owned()),
            "along" => Self::Along(id, number()?),
            "begin" => Self::Begin(id, number()?),
            "done" => Self::Done(id, number()?),
            "acked" => Self::Acked(id, number()?),
            "garbled" => Self::Garbled(id),
            "mistyped" => Self::Mistyped(id),
            "delivered" => Self::Delivered(id, number()?),
            "dead" => Self::Dead(id, number()?, text.to_owned()),
            _ => return Err(wrong()),
        })
    }
}

/// A delay longer than this is reported. The shortest deadline of the workload is a second.
pub(crate) const LONG_STALL: Duration = Duration::from_millis(250);

/// The most characters of a line. A pipe accepts 4096 bytes in one piece.
const LONGEST: usize = 1_000;

/// The writer of facts. All clones write to the same pipe.
#[derive(Clone, Debug)]
pub struct Facts {
    pipe: Arc<File>,
    who: Arc<str>,
}

impl Facts {
    /// Starts a log in this file. The log shows this process as `who`.
    ///
    /// # Errors
    /// If the file, the pipe or the thread cannot be created.
    pub fn begin(path: &Path, who: &str) -> io::Result<Self> {
        let (mut reader, writer) = io::pipe()?;
        let mut file = File::create(path)?;
        thread::Builder::new().name("facts".to_owned()).spawn(move || {
            if let Err(error) = io::copy(&mut reader, &mut file) {
                give_up(&error);
            }
        })?;
        Ok(Self { pipe: Arc::new(File::from(OwnedFd::from(writer))), who: who.into() })
    }

    /// Opens the log that another process has started and [passed](Self::for_a_child) to this one.
    ///
    /// # Errors
    /// If there is no standard output.
    pub fn inherited(who: &str) -> io::Result<Self> {
        Ok(Self { pipe: Arc::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)), who: who.into() })
    }

    /// The standard output of a child, so that it writes to the same log.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn for_a_child(&self) -> io::Result<Stdio> {
        Ok(self.pipe.try_clone()?.into())
    }

    /// Writes a fact. If the log cannot be written, the process ends, because a torture without a log proves nothing.
    pub fn tell(&self, fact: &Fact) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let line = format!("{now} {} {fact}", self.who).replace('\n', " ");
        let line: String = line.chars().take(LONGEST).chain(['\n']).collect();
        let begun = Instant::now();
        if let Err(error) = (&*self.pipe).write_all(line.as_bytes()) {
            give_up(&error);
        }
        let late = begun.elapsed();
        if late >= LONG_STALL {
            // The log is on a disk, and a slow write may have delayed a handler.
            self.tell(&Fact::Stall(late));
        }
    }
}

fn give_up(error: &io::Error) {
    eprintln!("torture: the log of facts cannot be written: {error}");
    std::process::exit(2);
}

/// Reads the log while it is written.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: File,
    /// The beginning of a line that is not complete yet.
    begun: Vec<u8>,
}

impl Tail {
    /// Reads from the beginning.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::open(path)?, begun: Vec::new() })
    }

    /// Returns the facts written since the last call.
    ///
    /// # Errors
    /// If the file cannot be read, or contains a line that is no fact.
    pub fn look(&mut self) -> io::Result<Vec<Fact>> {
        let mut bytes = std::mem::take(&mut self.begun);
        self.file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.begun = bytes.split_off(whole);
        let text = String::from_utf8(bytes).map_err(io::Error::other)?;
        text.lines().map(|line| told(line).2.parse().map_err(io::Error::other)).collect()
    }

    /// Returns the rest of the facts written before this call.
    ///
    /// # Errors
    /// Those of [`look`](Self::look).
    pub fn rest(&mut self, facts: &Facts) -> io::Result<Vec<Fact>> {
        let end = Fact::Fault("the end of the log".to_owned());
        facts.tell(&end);
        let mut rest = self.look()?;
        while !rest.contains(&end) {
            thread::sleep(Duration::from_millis(1));
            rest.extend(self.look()?);
        }
        Ok(rest)
    }

    /// Returns the log lines about one message, and the faults between its first publish and its last line. Each line
    /// has its time since the beginning, in seconds.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn history(&self, id: &Id) -> io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(0))?;
        let mut zero = None;
        let (mut history, mut faults) = (Vec::new(), Vec::new());
        for line in BufReader::new(file).lines() {
            let line = line?;
            let (time, who, what) = told(&line);
            let zero = *zero.get_or_insert(time);
            let fact: Fact = what.parse().map_err(io::Error::other)?;
            let ours = fact.id() == Some(id);
            let amid = matches!(fact, Fact::Fault(_) | Fact::Killed(_) | Fact::Disk(_) | Fact::Stall(_));
            let amid = amid && !history.is_empty();
            if !ours && !amid {
                continue;
            }
            let seconds = time.saturating_sub(zero) as f64 / 1e6;
            let line = format!("{seconds:>10.6} {who:<6} {what}");
            if ours {
                history.append(&mut faults);
                history.push(line);
            } else {
                faults.push(line);
            }
        }
        Ok(history)
    }
}

/// Splits a line into time in microseconds, process and fact.
fn told(line: &str) -> (u64, &str, &str) {
    let mut parts = line.splitn(3, ' ');
    let time = parts.next().and_then(|time| time.parse().ok()).unwrap_or_default();
    (time, parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> Id {
        "wild.c3p1.17".parse().unwrap()
    }

    #[test]
    fn every_fact_can_be_read_back() {
        let facts = [
            Fact::Try(id()),
            Fact::Foreign(id(), "Text(128)".to_owned()),
            Fact::Yes(id()),
            Fact::No(id(), "nacked".to_owned()),
            Fact::Unwritten(id(), "the disk is full".to_owned()),
            Fact::Maybe(id(), "unknown, after republishing".to_owned()),
            Fact::Named(id(), "01997f1e/3".to_owned()),
            Fact::Named(id(), String::new()),
            Fact::Along(id(), 1),
            Fact::Begin(id(), 2),
            Fact::Done(id(), 2),
            Fact::Acked(id(), 2),
            Fact::Garbled(id()),
            Fact::Mistyped(id()),
            Fact::Delivered(id(), 20),
            Fact::Dead(id(), 4, "attempts-exhausted".to_owned()),
            Fact::Quiet("c3p1".to_owned()),
            Fact::Fault("Crash { away: 3ms } by hand".to_owned()),
            Fact::Killed("c3".to_owned()),
            Fact::Disk(Room::None),
            Fact::Disk(Room::Some),
            Fact::Stall(Duration::from_millis(1_300)),
        ];
        for fact in facts {
            assert_eq!(fact.to_string().parse(), Ok(fact));
        }
        for line in ["", "yes", "yes wild.x", "perhaps wild.c3p1.17", "begin wild.c3p1.17 often", "disk broken"] {
            assert!(line.parse::<Fact>().is_err(), "{line}");
        }
    }

    #[test]
    fn what_many_write_is_read_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let facts = Facts::begin(&path, "parent").unwrap();
        let mut tail = Tail::open(&path).unwrap();
        thread::scope(|scope| {
            for writer in 0..4 {
                let facts = Facts { who: "child".into(), ..facts.clone() };
                scope.spawn(move || {
                    for number in 0..500 {
                        facts.tell(&Fact::Try(format!("wild.w{writer}.{number}").parse().unwrap()));
                    }
                });
            }
        });
        let seen = tail.rest(&facts).unwrap();
        assert_eq!(seen.len(), 2_001);
        for writer in 0..4 {
            let source = format!("w{writer}");
            let numbers = seen.iter().filter_map(Fact::id).filter(|id| id.source == source).map(|id| id.number);
            assert!(numbers.eq(0..500));
        }
    }

    #[test]
    fn half_a_line_is_no_fact_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::open(&path).unwrap();
        file.write_all(b"1 child yes wild.w0").unwrap();
        assert_eq!(tail.look().unwrap(), []);
        file.write_all(b".7\n").unwrap();
        assert_eq!(tail.look().unwrap(), [Fact::Yes("wild.w0.7".parse().unwrap())]);
    }

    #[test]
    fn a_fact_is_one_short_line_whatever_a_broker_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let facts = Facts::begin(&path, "parent").unwrap();
        let mut tail = Tail::open(&path).unwrap();
        facts.tell(&Fact::No(id(), format!("refused\nyes wild.c3p1.17{}", "é".repeat(5_000))));
        let [Fact::No(told, why), Fact::Fault(_)] = &tail.rest(&facts).unwrap()[..] else { panic!("not one line") };
        assert_eq!(*told, id());
        assert!(why.starts_with("refused yes wild") && why.chars().count() < LONGEST, "{why}");
    }

    #[test]
    fn a_history_has_the_message_and_the_faults_amid_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let facts = Facts::begin(&path, "parent").unwrap();
        let mut tail = Tail::open(&path).unwrap();
        let fault = |what: &str| Fact::Fault(what.to_owned());
        let other = "wild.c3p1.18".parse().unwrap();
        for fact in [fault("before"), Fact::Try(id()), Fact::Try(other), fault("amid"), Fact::Yes(id()), fault("after")]
        {
            facts.tell(&fact);
        }
        tail.rest(&facts).unwrap();
        let history = tail.history(&id()).unwrap();
        let ends: Vec<&str> = history.iter().filter_map(|line| line.rsplit("parent ").next()).collect();
        assert_eq!(ends, ["try wild.c3p1.17", "fault amid", "yes wild.c3p1.17"]);
    }
}
