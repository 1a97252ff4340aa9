//! A private Prometheus server, and `promtool`.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;

use crate::{
    HarnessError, http,
    tool::{self, Kind, Server},
    wait::{output_within, poll_until},
};

const PACKAGE: &str = "prometheus";
const CONFIG: &str = "prometheus.yml";
const PROMTOOL_LIMIT: Duration = Duration::from_secs(60);

const KIND: Kind = Kind {
    server: "Prometheus server",
    program: "prometheus",
    package: PACKAGE,
    ready: "/-/ready",
    arguments: |port, folder| {
        vec![
            format!("--config.file={}", folder.join(CONFIG).display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-lifecycle".to_owned(),
        ]
    },
};

/// A Prometheus server on loopback, with its own port, configuration and data. It starts in less than a second.
///
/// Dropping the value ends the server and removes its folder. All calls block.
///
/// ```no_run
/// use std::time::Duration;
///
/// use fluffle_harness::Prometheus;
///
/// let config = "scrape_configs: [{job_name: me, scrape_interval: 100ms, scrape_timeout: 100ms, \
///               static_configs: [{targets: ['127.0.0.1:9464']}]}]";
/// let prometheus = Prometheus::start(config)?;
/// prometheus.wait_until_up("me", Duration::from_secs(10))?;
/// println!("{}", prometheus.query("up")?[0]["value"][1]); // "1"
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
#[derive(Debug)]
pub struct Prometheus(Server);

impl Prometheus {
    /// Whether `prometheus` and `promtool` are installed. Starts nothing.
    #[must_use]
    pub fn is_installed() -> bool {
        ["prometheus", "promtool"].into_iter().all(|program| tool::find(program, PACKAGE).is_ok())
    }

    /// Starts a server with the text of a configuration
    /// (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/>). Paths in it are relative to the
    /// server's [folder](Self::folder).
    ///
    /// # Errors
    /// [`HarnessError::NoProgram`]; [`HarnessError::BootFailed`] with the end of the server's log, for example if the
    /// configuration is invalid.
    pub fn start(config: &str) -> Result<Self, HarnessError> {
        Server::start(&KIND, &[(CONFIG, config)]).map(Self)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The server's folder, with its configuration and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.folder()
    }

    /// Gives the server another configuration. Its data stay.
    ///
    /// # Errors
    /// [`HarnessError::BadAnswer`] if the configuration is invalid; the server then keeps the one it has.
    pub fn reload(&self, config: &str) -> Result<(), HarnessError> {
        fs::write(self.folder().join(CONFIG), config).map_err(HarnessError::io("write the configuration"))?;
        http::request("POST", self.0.port, "/-/reload", "").map(drop)
    }

    /// Evaluates a PromQL expression now. Returns the `result` of the answer: for a vector, an array of
    /// `{"metric": {…}, "value": [time, "text"]}` (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
    ///
    /// # Errors
    /// [`HarnessError::BadAnswer`] with Prometheus's reason, if it cannot evaluate the expression.
    pub fn query(&self, promql: &str) -> Result<Value, HarnessError> {
        let body = format!("query={}", http::escaped(promql));
        let mut answer = self.json("POST", "/api/v1/query", &body)?;
        Ok(answer["data"]["result"].take())
    }

    /// The rules that the server has loaded and evaluates, with their `name`, `query`, `health`, `lastError` and
    /// `alerts`.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn rules(&self) -> Result<Vec<Value>, HarnessError> {
        let answer = self.json("GET", "/api/v1/rules", "")?;
        let groups = answer["data"]["groups"].as_array().into_iter().flatten();
        Ok(groups.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
    }

    /// Waits until each target of a job was scraped and is up.
    ///
    /// # Errors
    /// [`HarnessError::Timeout`] with what the last scrape said.
    pub fn wait_until_up(&self, job: &str, limit: Duration) -> Result<(), HarnessError> {
        let mut last = String::new();
        let looked = poll_until(limit, "the job's targets", || {
            let answer = self.json("GET", "/api/v1/targets?state=active", "")?;
            let all = answer["data"]["activeTargets"].as_array().into_iter().flatten();
            let targets: Vec<&Value> = all.filter(|target| target["labels"]["job"] == job).collect();
            last = targets.iter().map(|target| format!("{}: {}; ", target["health"], target["lastError"])).collect();
            let is_up = !targets.is_empty() && targets.iter().all(|target| target["health"] == "up");
            Ok(is_up.then_some(()))
        });
        looked.map_err(|error| match error {
            HarnessError::Timeout { limit, .. } => {
                HarnessError::Timeout { what: format!("the scrape of the job {job} ({last})"), limit }
            }
            other => other,
        })
    }

    fn json(&self, method: &str, path: &str, body: &str) -> Result<Value, HarnessError> {
        let text = http::request(method, self.0.port, path, body)?;
        serde_json::from_str(&text).map_err(|error| HarnessError::BadAnswer {
            request: format!("{method} {}{path}", self.url()),
            answer: format!("no JSON ({error}): {text}"),
        })
    }
}

/// Runs `promtool` with these arguments and this input, for at most 60 s, and returns what it said. A failed check is
/// no error here: it is in the output's status.
///
/// # Errors
/// [`HarnessError::NoProgram`], [`HarnessError::Timeout`].
///
/// ```no_run
/// let output = fluffle_harness::promtool(&["check", "metrics"], "jobs 1\n")?;
/// println!("{}", String::from_utf8_lossy(&output.stderr)); // jobs no help text
/// # Ok::<(), fluffle_harness::HarnessError>(())
/// ```
pub fn promtool(arguments: &[&str], input: &str) -> Result<Output, HarnessError> {
    let program = tool::find("promtool", PACKAGE)?;
    let file = tempfile::NamedTempFile::new().map_err(HarnessError::io("make a file for promtool's input"))?;
    fs::write(file.path(), input).map_err(HarnessError::io("write promtool's input"))?;
    let stdin = File::open(file.path()).map_err(HarnessError::io("open promtool's input"))?;
    output_within(Command::new(program).args(arguments).stdin(stdin), PROMTOOL_LIMIT, "promtool")
}
