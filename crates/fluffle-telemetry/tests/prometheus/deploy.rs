//! The files in `deploy/`, and a real Prometheus that runs with them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fluffle_harness::{HarnessError, Prometheus};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that a test waits for any one thing.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The address that `prometheus.yml` scrapes.
const TARGET: &str = "127.0.0.1:9464";

/// The path of a file in `deploy/`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

/// The text of a file in `deploy/`.
pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// One alert rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) expr: String,
    /// The labels that its texts show.
    pub(crate) labels: Vec<String>,
    /// Its lines in the file, the first and the one behind the last.
    lines: (usize, usize),
    /// The lines of the expression.
    expr_lines: (usize, usize),
}

/// The alert rules of a text with the form of `alerts.yml`, in order.
pub(crate) fn rules(text: &str) -> Vec<Rule> {
    let lines: Vec<&str> = text.lines().collect();
    let name_of = |line: &str| line.strip_prefix("      - alert: ").map(str::to_owned);
    let starts: Vec<usize> = (0..lines.len()).filter(|line| name_of(lines[*line]).is_some()).collect();
    let rule = |(place, start): (usize, &usize)| {
        let end = starts.get(place + 1).copied().unwrap_or(lines.len());
        let first = (*start..end).find(|line| lines[*line].starts_with("        expr: ")).unwrap();
        let last = (first + 1..end).find(|line| !lines[*line].starts_with("          ")).unwrap();
        let inline = lines[first].trim_start().trim_start_matches("expr: ").trim_start_matches(">-");
        let folded = lines[first + 1..last].iter().map(|line| line.trim());
        let expr = std::iter::once(inline).chain(folded).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let shown = lines[last..end].iter().flat_map(|line| line.split("$labels.").skip(1));
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let labels = shown.map(|text| text.split(|c| !is_of_a_name(c)).next().unwrap().to_owned()).collect();
        Rule { name: name_of(lines[*start]).unwrap(), expr, labels, lines: (*start, end), expr_lines: (first, last) }
    };
    starts.iter().enumerate().map(rule).collect()
}

impl Rule {
    /// The text of the rules, with another expression for this one.
    pub(crate) fn with_expr(&self, text: &str, expr: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.splice(self.expr_lines.0..self.expr_lines.1, [format!("        expr: >-\n          {expr}")]);
        lines.join("\n") + "\n"
    }

    /// The text of the rules in which this one fires at once, or nothing if it does so anyway.
    pub(crate) fn without_for(&self, text: &str) -> Option<String> {
        let is_for = |place: usize, line: &str| {
            (self.lines.0..self.lines.1).contains(&place) && line.starts_with("        for: ")
        };
        let kept: Vec<&str> =
            text.lines().enumerate().filter(|(place, line)| !is_for(*place, line)).map(|(_, line)| line).collect();
        (kept.len() < text.lines().count()).then(|| kept.join("\n") + "\n")
    }

    /// The expression without its condition: its value for everything that it looks at.
    pub(crate) fn unconditional(&self) -> &str {
        let end = [" != ", " == ", " > "].iter().filter_map(|operator| self.expr.rfind(operator)).max();
        &self.expr[..end.unwrap_or_else(|| panic!("{} has no condition at its end", self.name))]
    }
}

/// A Prometheus with `prometheus.yml` and the rules, faster than in the files: it scrapes twice a second, looks at
/// the rules as often, and alerts are due after one second.
pub(crate) struct Deployed {
    pub(crate) prometheus: Prometheus,
    _rules: Option<TempDir>,
}

impl Deployed {
    /// Starts it and waits until it has scraped the service at `address`.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fast: String =
            read("alerts.yml")
                .lines()
                .map(|line| {
                    if line.starts_with("        for: ") { "        for: 1s\n".to_owned() } else { format!("{line}\n") }
                })
                .collect();
        let rules = folder.path().join("alerts.yml");
        fs::write(&rules, fast).unwrap();
        let mut config = read("prometheus.yml");
        for (from, to) in [
            (TARGET, address.to_string()),
            ("- alerts.yml", format!("- {}", rules.display())),
            ("scrape_interval: 15s", "scrape_interval: 500ms\n  scrape_timeout: 500ms".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 250ms".to_owned()),
        ] {
            assert_eq!(config.matches(from).count(), 1, "{from} is once in prometheus.yml");
            config = config.replace(from, &to);
        }
        let prometheus = Prometheus::start(&config).unwrap();
        prometheus.wait_until_up("fluffle", SOON).unwrap();
        Self { prometheus, _rules: Some(folder) }
    }

    /// One that runs with another configuration.
    pub(crate) fn of(prometheus: Prometheus) -> Self {
        Self { prometheus, _rules: None }
    }

    /// The samples of an expression: the labels of each and its value.
    pub(crate) fn samples(&self, promql: &str) -> Result<Vec<(Value, f64)>, HarnessError> {
        let result = self.prometheus.query(promql)?;
        let sample = |one: &Value| Some((one["metric"].clone(), one["value"][1].as_str()?.parse().ok()?));
        Ok(result.as_array().unwrap_or_else(|| panic!("{promql}: {result}")).iter().filter_map(sample).collect())
    }

    /// Waits until the samples of an expression are as wished, and returns them. The error has the last ones.
    pub(crate) fn wait_for(
        &self,
        promql: &str,
        is_it: impl Fn(&[(Value, f64)]) -> bool,
    ) -> Result<Vec<(Value, f64)>, String> {
        let deadline = Instant::now() + SOON;
        loop {
            let samples = self.samples(promql).map_err(|error| error.to_string())?;
            if is_it(&samples) {
                return Ok(samples);
            }
            if Instant::now() > deadline {
                return Err(format!("not within {SOON:?}; at the end {samples:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until this alert fires, and returns one of its alerts: its labels and annotations.
    pub(crate) fn fires(&self, alert: &str) -> Value {
        let promql = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        if let Err(why) = self.wait_for(&promql, |samples| !samples.is_empty()) {
            let rule = self.prometheus.rules().unwrap().into_iter().find(|rule| rule["name"] == alert);
            panic!("{alert} does not fire: {why}; {rule:?}");
        }
        let rule = self.prometheus.rules().unwrap().into_iter().find(|rule| rule["name"] == alert).unwrap();
        rule["alerts"][0].clone()
    }
}
