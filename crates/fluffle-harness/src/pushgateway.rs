//! A private Pushgateway.

use crate::{
    HarnessError, http,
    tool::{self, Kind, Server},
};

const KIND: Kind = Kind {
    server: "Pushgateway",
    program: "prometheus-pushgateway",
    package: "prometheus-pushgateway",
    ready: "/-/ready",
    // Debian's default is one file for all gateways of the host; without a file, metrics end with the gateway.
    arguments: |port, _| vec![format!("--web.listen-address=127.0.0.1:{port}"), "--persistence.file=".to_owned()],
};

/// A Pushgateway on loopback, for jobs that end before Prometheus scrapes them. It starts in less than a second.
///
/// Dropping the value ends the server. All calls block.
///
/// ```no_run
/// use fluffle_harness::Pushgateway;
///
/// let gateway = Pushgateway::start()?;
/// gateway.push("nightly", "# TYPE rows_total counter\nrows_total 7\n")?;
/// assert!(gateway.metrics()?.contains("rows_total"));
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
#[derive(Debug)]
pub struct Pushgateway(Server);

impl Pushgateway {
    /// Whether `prometheus-pushgateway` is installed. Starts nothing.
    #[must_use]
    pub fn is_installed() -> bool {
        tool::find(KIND.program, KIND.package).is_ok()
    }

    /// Starts a gateway.
    ///
    /// # Errors
    /// [`HarnessError::NoProgram`], [`HarnessError::BootFailed`] with the end of its log.
    pub fn start() -> Result<Self, HarnessError> {
        Server::start(&KIND, &[]).map(Self)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Replaces the metrics of a job by this text in Prometheus's format. The job's name must need no escapes in a URL.
    ///
    /// # Errors
    /// [`HarnessError::BadAnswer`] with the gateway's reason, if the text is invalid.
    pub fn push(&self, job: &str, metrics: &str) -> Result<(), HarnessError> {
        http::request("PUT", self.0.port, &format!("/metrics/job/{job}"), metrics).map(drop)
    }

    /// The text that Prometheus would scrape.
    ///
    /// # Errors
    /// If the gateway cannot be reached.
    pub fn metrics(&self) -> Result<String, HarnessError> {
        http::request("GET", self.0.port, "/metrics", "")
    }
}
