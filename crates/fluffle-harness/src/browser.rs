//! A headless Chromium, driven over WebDriver.

use serde_json::{Value, json};

use crate::{
    HarnessError,
    tool::{self, Kind, Server},
};

const PACKAGE: &str = "chromium-driver";

const KIND: Kind = Kind {
    server: "chromedriver",
    program: "chromedriver",
    package: PACKAGE,
    ready: "/status",
    arguments: |port, _| vec![format!("--port={port}")],
};

/// chromedriver on loopback, which starts a Chromium for each session. It starts in less than a second, a session in
/// one to two.
///
/// The WebDriver client is the caller's, because it is by far larger than this crate; the tests of this workspace use
/// fantoccini. Dropping the value ends chromedriver, its browsers, and removes their profiles.
///
/// ```no_run
/// use fluffle_harness::Browser;
///
/// let browser = Browser::start()?;
/// println!("{}", browser.url());          // http://127.0.0.1:21504, for the client to connect to
/// println!("{}", browser.capabilities()); // {"goog:chromeOptions": {"args": ["--headless", …]}}
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
#[derive(Debug)]
pub struct Browser(Server);

impl Browser {
    /// Whether `chromium` and `chromedriver` are installed. Starts nothing.
    #[must_use]
    pub fn is_installed() -> bool {
        ["chromium", "chromedriver"].into_iter().all(|program| tool::find(program, PACKAGE).is_ok())
    }

    /// Starts chromedriver.
    ///
    /// # Errors
    /// [`HarnessError::NoProgram`], [`HarnessError::BootFailed`] with the end of its log.
    pub fn start() -> Result<Self, HarnessError> {
        tool::find("chromium", PACKAGE)?;
        Server::start(&KIND, &[]).map(Self)
    }

    /// `http://127.0.0.1:PORT`, where a WebDriver client connects.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// What the client asks for in a new session: a headless Chromium, also as root, which calls nobody by itself. The
    /// browser's log is kept, so that a test can read the console's errors. chromedriver makes a fresh profile for each
    /// session, in this server's folder.
    #[must_use]
    pub fn capabilities(&self) -> Value {
        json!({
            "goog:chromeOptions": { "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
                // Over a pipe, so that the browser ends when chromedriver has ended, however that happened.
                "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            ] },
            "goog:loggingPrefs": { "browser": "ALL" },
        })
    }
}
