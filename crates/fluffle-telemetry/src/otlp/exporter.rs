//! Sends metrics to a collector at intervals.

use std::{
    collections::BTreeMap,
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use http_body_util::Full;
use hyper::{Request, Uri, body::Bytes, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    otlp::{
        endpoint::{self, EndpointError},
        request::encode,
    },
    source::MetricSource,
};

/// How long the collector may take for one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends metrics to an OpenTelemetry collector at intervals, on a thread of its own. The default settings are those of
/// OpenTelemetry's environment variables.
///
/// ```no_run
/// use std::time::Duration;
///
/// use fluffle_telemetry::{Telemetry, otlp::Otlp};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let telemetry = Telemetry::new();
/// let export = Otlp::from_env().resource("service.name", "shop").every(Duration::from_secs(15)).start(&telemetry)?;
/// // `App::telemetry(&telemetry)`, and the service runs …
/// export.shutdown(); // sends the last values
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Otlp {
    endpoint: String,
    every: Duration,
    resource: BTreeMap<String, String>,
}

impl Otlp {
    /// As the environment says: `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT` (default
    /// `http://localhost:4318`), `OTEL_METRIC_EXPORT_INTERVAL` in milliseconds (default 60,000), `OTEL_SERVICE_NAME`
    /// and `OTEL_RESOURCE_ATTRIBUTES`.
    #[must_use]
    pub fn from_env() -> Self {
        let of = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self { endpoint: endpoint::address(of), every: endpoint::interval(of), resource: endpoint::resource(of) }
    }

    /// The whole URL to which metrics are posted, for example `http://collector:4318/v1/metrics`. Without TLS: send
    /// [`encode`] with a client of your own if you need it.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = url.into();
        self
    }

    /// How often metrics are sent.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval.max(Duration::from_millis(10));
        self
    }

    /// Something about this process that the collector gets with each request, for example `service.name`.
    #[must_use]
    pub fn resource(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.insert(key.into(), value.into());
        self
    }

    /// Begins. If the collector is away, a warning is logged once, and the next values are sent at the next interval;
    /// values are totals, so what was counted meanwhile is in them.
    ///
    /// # Errors
    /// [`EndpointError`] in an [`io::Error`] of kind `InvalidInput` if the URL is none or has TLS; another one if the
    /// thread cannot be started.
    pub fn start<S: MetricSource + Clone>(self, source: &S) -> io::Result<OtlpExport> {
        let invalid = |error: EndpointError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let to = endpoint::parsed(&self.endpoint).map_err(invalid)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = mpsc::channel();
        let (source, every, resource) = (source.clone(), self.every, self.resource);
        let export = move || {
            let mut sender = Sending { to, client: Client::builder(TokioExecutor::new()).build_http(), is_away: false };
            loop {
                let is_over = !matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout));
                sender.send(&runtime, encode(&source, &resource));
                if is_over {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("telemetry-otlp".to_owned()).spawn(export)?;
        Ok(OtlpExport { stop, thread })
    }
}

/// The thread that sends metrics. Dropped, it sends the last values in the background and ends.
#[derive(Debug)]
#[must_use = "dropped, it ends"]
pub struct OtlpExport {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl OtlpExport {
    /// Sends the last values and ends. Blocks for 10 s at most: call it after the service has ended.
    pub fn shutdown(self) {
        drop(self.stop);
        // Fails if the thread has panicked, and then nothing is left to be sent.
        let _ = self.thread.join();
    }
}

struct Sending {
    to: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Whether the last request failed.
    is_away: bool,
}

impl Sending {
    fn send(&mut self, runtime: &Runtime, body: Vec<u8>) {
        let sent = runtime.block_on(self.post(body));
        let was_away = std::mem::replace(&mut self.is_away, sent.is_err());
        match (sent, was_away) {
            (Ok(()), true) => tracing::warn!(to = %self.to, "metrics are sent again: the collector has taken them"),
            (Ok(()), false) => {}
            (Err(why), false) => tracing::warn!(
                to = %self.to, why,
                "metrics are not sent: the collector did not take them. They are totals, so nothing is missing later; \
                 look whether the collector runs and listens there"
            ),
            (Err(why), true) => tracing::debug!(to = %self.to, why, "metrics are still not sent"),
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), String> {
        let request = Request::post(self.to.clone()).header(CONTENT_TYPE, "application/x-protobuf");
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        match timeout(PATIENCE, self.client.request(request)).await {
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it answered {}", answer.status())),
        }
    }
}
