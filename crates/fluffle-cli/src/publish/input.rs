//! Where messages come from.

use std::io::IsTerminal;

use futures_util::StreamExt;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::{
    common::failure::Failure,
    publish::{args::PublishArgs, draft::Draft, encode::longest_line},
};

/// The largest body that is read from a file: that of the library's limits. The broker's own limit may be lower.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Where messages come from.
pub(crate) enum Input {
    /// One body, several times.
    Repeated { body: Vec<u8>, next: u64, last: u64 },
    /// Lines of NDJSON.
    Lines { lines: Lines, read: u64, skip: u64 },
}

type Lines = FramedRead<Box<dyn AsyncRead + Unpin>, LinesCodec>;

impl Input {
    /// Opens what the arguments name.
    pub(crate) async fn open(args: &PublishArgs) -> Result<Self, Failure> {
        if let Some(path) = &args.ndjson {
            let from: Box<dyn AsyncRead + Unpin> = if path.as_os_str() == "-" {
                Box::new(tokio::io::stdin())
            } else {
                let opened = File::open(path).await;
                Box::new(opened.map_err(|error| Failure::new(format!("--ndjson {}: {error}", path.display())))?)
            };
            let lines = FramedRead::new(from, LinesCodec::new_with_max_length(longest_line()));
            return Ok(Self::Lines { lines, read: 0, skip: args.skip });
        }
        let body = match (&args.body, &args.file) {
            (Some(body), _) => body.clone().into_bytes(),
            (None, Some(path)) => {
                let failed =
                    |error: &dyn std::fmt::Display| Failure::new(format!("--file {}: {error}", path.display()));
                whole(File::open(path).await.map_err(|error| failed(&error))?).await.map_err(|error| failed(&error))?
            }
            (None, None) if std::io::stdin().is_terminal() => {
                let why = "nothing to publish: give a body, --file, --ndjson, or a body on standard input";
                return Err(Failure::new(why));
            }
            (None, None) => {
                let read = whole(tokio::io::stdin()).await;
                read.map_err(|error| Failure::new(format!("standard input: {error}")))?
            }
        };
        Ok(Self::Repeated { body, next: 1, last: args.repeat })
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// Which line is wrong, and why.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, args: &PublishArgs) -> Option<Result<Draft, String>> {
        match self {
            Self::Repeated { next, last, .. } if *next > *last => None,
            Self::Repeated { body, next, .. } => {
                let line = *next;
                *next += 1;
                Some(Draft::of_arguments(args, body.clone(), line))
            }
            Self::Lines { lines, read, skip } => loop {
                let line = lines.next().await?;
                *read += 1;
                let at = |why: String| format!("line {read}: {why}");
                match line {
                    Ok(line) if *read <= *skip || line.trim().is_empty() => {}
                    Ok(line) => return Some(Draft::of_line(args, &line, *read).map_err(at)),
                    Err(error) => return Some(Err(at(error.to_string()))),
                }
            },
        }
    }
}

async fn whole(from: impl AsyncRead + Unpin) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    from.take(LARGEST + 1).read_to_end(&mut body).await.map_err(|error| error.to_string())?;
    if body.len() as u64 > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes, which no message may be"));
    }
    Ok(body)
}
