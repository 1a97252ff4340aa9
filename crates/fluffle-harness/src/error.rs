//! Errors of a private broker or database, and what to do about them.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// Why an operation of the harness failed.
///
/// Cloneable, because every test that asks for a shared node gets the same failure.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// RabbitMQ (or a program it needs) is not installed.
    #[error(
        "{program} was not found: install it with `apt-get install rabbitmq-server` \
         (`cargo xtask test` does it for you), or set AMQP_URL to a broker that runs already"
    )]
    NotInstalled {
        /// The program that was looked for.
        program: &'static str,
    },

    /// PostgreSQL is not installed.
    #[error(
        "{program} was not found: install it with `apt-get install postgresql` (`cargo xtask test` does it for you), \
         or set FLUFFLE_POSTGRES_BIN to its folder"
    )]
    NoPostgres {
        /// The program that was looked for.
        program: &'static str,
    },

    /// A program of another Debian package is not installed.
    #[error(
        "{program} was not found: install it with `apt-get install {package}` (`cargo xtask test` does it for you), \
         or add its folder to PATH"
    )]
    NoProgram {
        /// The program that was looked for.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },

    /// A server gave another answer over HTTP than the expected one.
    #[error("{request} was answered with: {answer}")]
    BadAnswer {
        /// The method and the URL.
        request: String,
        /// The status and the text of the answer.
        answer: String,
    },

    /// The node ended, or was not ready in time, while it booted.
    #[error("the {server} {why}; the end of its log ({dir}, FLUFFLE_KEEP_BROKER=1 keeps the folder):\n{log}")]
    BootFailed {
        /// What booted: `RabbitMQ node` or `PostgreSQL server`.
        server: &'static str,
        /// What was observed, e.g. `ended during boot with exit status: 1`.
        why: String,
        /// The node's folder.
        dir: PathBuf,
        /// The last lines of its log.
        log: String,
    },

    /// The operation needs a node that this process owns alone.
    #[error("{operation} needs a broker of its own: {broker}; use RabbitMq::start()")]
    NeedsOwnBroker {
        /// The operation that was refused.
        operation: &'static str,
        /// What kind of broker this is.
        broker: &'static str,
    },

    /// The node is stopped: start it again first.
    #[error("{operation} needs a running node, and this one is stopped: call start_again() first")]
    NotRunning {
        /// The operation that was refused.
        operation: &'static str,
    },

    /// The node is already running.
    #[error("the node is already running: stop() or kill() it first, or use restart()")]
    AlreadyRunning,

    /// A bounded wait ended without the awaited event.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// The event that was awaited.
        what: String,
        /// The wait's limit.
        limit: Duration,
    },

    /// No free port was found at 127.0.0.1.
    #[error("no free TCP port was found at 127.0.0.1 between {from} and {to}")]
    NoFreePort {
        /// The lowest port tried.
        from: u16,
        /// The first port not tried.
        to: u16,
    },

    /// A `rabbitmqctl` command failed.
    #[error("`rabbitmqctl {command}` failed: {output}")]
    Ctl {
        /// The command with its arguments.
        command: String,
        /// The output of the command.
        output: String,
    },

    /// The node refused an operation.
    #[error("{operation} was refused by the node: {reason}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// The Erlang reason.
        reason: String,
    },

    /// `AMQP_URL`, `FLUFFLE_HARNESS_NODE` or a builder's argument is invalid.
    #[error("{name} is not usable: {why}")]
    BadSetting {
        /// The name of the variable or argument.
        name: &'static str,
        /// What is wrong, and what a valid value looks like.
        why: String,
    },

    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl HarnessError {
    /// Makes an error from the operating system's answer to `action`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source: Arc::new(source) }
    }
}
