//! Where a replay takes letters from: a queue, or a file.

use lapin::Connection;

use crate::{
    common::{amqp, failure::Failure},
    dlq::{
        export::Reader,
        letter::Letter,
        look::{Depth, Look},
        replay::args::ReplayArgs,
    },
};

/// A file of letters, and the connection for their copies.
pub(crate) struct FileSource {
    reader: Reader,
    connection: Connection,
    taken: u64,
    most: u64,
}

/// A queue or a file.
pub(crate) enum Source {
    Queue(Box<Look>),
    File(Box<FileSource>),
}

impl Source {
    pub(crate) async fn open(args: &ReplayArgs) -> Result<Self, Failure> {
        match (&args.from_file, &args.queue) {
            (Some(path), _) => Ok(Self::File(Box::new(FileSource {
                reader: Reader::open(path)?,
                connection: amqp::connect(&args.broker, "dlq replay").await?,
                taken: 0,
                most: args.reach.most.unwrap_or(u64::MAX),
            }))),
            (None, Some(queue)) => {
                let look = Look::of_queue(queue, &args.broker, &args.reach, "replay", u64::MAX).await?;
                Ok(Self::Queue(Box::new(look)))
            }
            (None, None) => Err(Failure::new("name a dead-letter queue, or a file with --from-file")),
        }
    }

    /// What the replay takes its letters from, for people.
    pub(crate) fn name(args: &ReplayArgs) -> String {
        match (&args.from_file, &args.queue) {
            (Some(path), _) => path.display().to_string(),
            (None, queue) => queue.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::Queue(look) => &look.connection,
            Self::File(file) => &file.connection,
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Letter>, Failure> {
        match self {
            Self::Queue(look) => look.next().await,
            Self::File(file) if file.taken >= file.most => Ok(None),
            Self::File(file) => {
                let letter = file.reader.next()?;
                file.taken += u64::from(letter.is_some());
                Ok(letter)
            }
        }
    }

    /// Goes on where an earlier run ended. Only for a file: a queue holds what is left.
    pub(crate) fn skip_to(&mut self, line: u64) -> Result<(), Failure> {
        match self {
            Self::Queue(_) => Ok(()),
            Self::File(file) => file.reader.skip_to(line),
        }
    }

    /// By what the letter is recognised in another run, and whether nothing else can look like it.
    pub(crate) fn print(&self, letter: &Letter) -> (String, bool) {
        match self {
            // A letter without an id may have a twin that is another message.
            Self::Queue(_) => (letter.fingerprint(), letter.id().is_some()),
            Self::File(_) => (format!("line {}", letter.tag), true),
        }
    }

    /// The letter leaves the queue. A file stays as it is.
    pub(crate) async fn ack(&self, tag: u64) -> Result<(), Failure> {
        match self {
            Self::Queue(look) => look.ack(tag).await,
            Self::File(_) => Ok(()),
        }
    }

    /// The letter stays, which the delivery limit may forbid.
    pub(crate) async fn keep(&mut self, letter: &Letter) -> Result<(), Failure> {
        match self {
            Self::Queue(look) => look.may_keep(letter).await,
            Self::File(_) => Ok(()),
        }
    }

    /// The letter was not in the queue when the replay began.
    pub(crate) fn is_new(&mut self) {
        if let Self::Queue(look) = self {
            look.one_more();
        }
    }

    pub(crate) fn taken(&self) -> u64 {
        match self {
            Self::Queue(look) => look.taken,
            Self::File(file) => file.taken,
        }
    }

    /// How many letters arrived in the queue since the replay began; `None` for a file.
    pub(crate) async fn arrivals(&self) -> Result<Option<u64>, Failure> {
        match self {
            Self::Queue(look) => {
                let left = look.depth.ready.saturating_sub(look.handed_out());
                Ok(Some(look.ready().await?.saturating_sub(left)))
            }
            Self::File(_) => Ok(None),
        }
    }

    pub(crate) fn depth(&self) -> Option<Depth> {
        match self {
            Self::Queue(look) => Some(look.depth),
            Self::File(_) => None,
        }
    }

    pub(crate) fn say(&self, line: &str) {
        match self {
            Self::Queue(look) => look.say(line),
            Self::File(_) => eprintln!("{line}"),
        }
    }

    /// Puts back what was not acked, and closes the connection.
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Queue(look) => look.put_back().await,
            Self::File(file) => amqp::in_time("connection.close", file.connection.close(200, "done".into())).await,
        }
    }
}
