//! What happened, one line each, in one pipe that all processes write to.
//!
//! A line is one `write` of no more than `PIPE_BUF` bytes: lines of different processes do not mix, and what is written
//! when SIGKILL comes is in the pipe, whole. So its order is the order of events, as far as there is one. And a process whose
//! disk is full can still write to it.

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

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A publisher is about to publish it.
    Try(Id),
    /// What is foreign about it.
    Foreign(Id, String),
    /// Published: the broker has confirmed it.
    Yes(Id),
    /// Not published, and the broker cannot have it.
    No(Id, String),
    /// Not published: the disk would not take it into its publisher's journal.
    Unwritten(Id, String),
    /// Not known whether the broker has it.
    Maybe(Id, String),
    /// What it goes by on the wire.
    Named(Id, String),
    /// A handler has been given it, on this attempt.
    Begin(Id, u32),
    /// Its handler is about to fail on this attempt whatever it makes of it: for all that are in one batch with it.
    Along(Id, u32),
    /// The handler is about to answer that it is handled: its effect.
    Done(Id, u32),
    /// The framework has acked it for good, on this attempt.
    Acked(Id, u32),
    /// Its body was not what was published.
    Garbled(Id),
    /// Its dead letter says that it was delivered so often in vain.
    Delivered(Id, u32),
    /// It lies in the dead-letter queue: after how many attempts, and why.
    Dead(Id, u32, String),
    /// A publisher will publish no more, and has all its answers.
    Quiet(String),
    /// Something was done to the broker, the network, or a process.
    Fault(String),
    /// The child has been killed, or what it was given has killed it, in this life.
    Killed(String),
    /// The disk on which the child's journals lie is about to be full, or has had room again since just before.
    Disk(Room),
    /// The process that tells it got no further for so long.
    Stall(Duration),
}

/// Whether a disk takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Some,
    /// It is full.
    None,
}

impl Fact {
    /// The message it is about.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Try(id) | Self::Foreign(id, _) | Self::Yes(id) | Self::Delivered(id, _) => Some(id),
            Self::No(id, _) | Self::Unwritten(id, _) | Self::Maybe(id, _) | Self::Named(id, _) => Some(id),
            Self::Begin(id, _) | Self::Along(id, _) | Self::Done(id, _) | Self::Acked(id, _) => Some(id),
            Self::Garbled(id) | Self::Dead(id, ..) => Some(id),
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

/// A line that tells no fact.
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
            "delivered" => Self::Delivered(id, number()?),
            "dead" => Self::Dead(id, number()?, text.to_owned()),
            _ => return Err(wrong()),
        })
    }
}

/// What takes so much longer than it should is worth telling. The shortest deadline of the workload is a second.
pub(crate) const LONG_STALL: Duration = Duration::from_millis(250);

/// The most characters of a line. A pipe takes 4096 bytes in one piece.
const LONGEST: usize = 1_000;

/// Where facts are written. Clones write to the same pipe.
#[derive(Clone, Debug)]
pub struct Facts {
    pipe: Arc<File>,
    who: Arc<str>,
}

impl Facts {
    /// Begins a log in this file, for a process that goes by this name in it.
    ///
    /// # Errors
    /// When there can be no file, pipe or thread.
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

    /// The log that another process has begun and [given](Self::for_a_child) to this one.
    ///
    /// # Errors
    /// When there is no standard output.
    pub fn inherited(who: &str) -> io::Result<Self> {
        Ok(Self { pipe: Arc::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)), who: who.into() })
    }

    /// What is to be a child's standard output, for it to write to the same log.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn for_a_child(&self) -> io::Result<Stdio> {
        Ok(self.pipe.try_clone()?.into())
    }

    /// Writes a fact. A torture whose log cannot be written proves nothing: it ends.
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
            // The log is on a disk, and who waits for it may be a handler.
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
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
}

impl Tail {
    /// From the beginning.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::open(path)?, begun: Vec::new() })
    }

    /// The facts written since the last look.
    ///
    /// # Errors
    /// When the file cannot be read, or holds what is no fact.
    pub fn look(&mut self) -> io::Result<Vec<Fact>> {
        let mut bytes = std::mem::take(&mut self.begun);
        self.file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.begun = bytes.split_off(whole);
        let text = String::from_utf8(bytes).map_err(io::Error::other)?;
        text.lines().map(|line| told(line).2.parse().map_err(io::Error::other)).collect()
    }

    /// The rest of what was told before this call.
    ///
    /// # Errors
    /// As of [`look`](Self::look).
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

    /// What the log says of one message, and of the faults that came after it was first published and until the last that was
    /// heard of it: lines with their time since the beginning, in seconds.
    ///
    /// # Errors
    /// When the file cannot be read.
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

/// Time in microseconds, process, fact.
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
