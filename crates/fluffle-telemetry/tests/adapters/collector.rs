//! A small collector: a real server that receives metrics by OTLP over HTTP and decodes OpenTelemetry's protobufs.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Instant,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
};
use prost::Message;

use super::SOON;

/// What has arrived, newest last.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    requests: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    refuses: Arc<AtomicBool>,
    refused: Arc<AtomicU32>,
}

impl Collector {
    /// Serves on a free port of 127.0.0.1, on a thread of its own, until the process ends.
    pub(crate) fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = collector.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let own = own.clone();
                    let service = service_fn(move |request| receive(request, own.clone()));
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        (collector, address)
    }

    /// From now on answers every request with 503, or takes them again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// How many requests were refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    /// The newest request, as soon as it is as wished.
    pub(crate) fn latest(&self, is_it: impl Fn(&ExportMetricsServiceRequest) -> bool) -> ExportMetricsServiceRequest {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(latest) = self.requests.lock().unwrap().last().filter(|latest| is_it(latest)) {
                return latest.clone();
            }
            assert!(Instant::now() < deadline, "no such request: {:?}", self.requests.lock().unwrap().last());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A metric of a request, by its name.
pub(crate) fn metric<'a>(request: &'a ExportMetricsServiceRequest, name: &str) -> Option<&'a Metric> {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    scopes.flat_map(|scope| &scope.metrics).find(|metric| metric.name == name)
}

pub(crate) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match &attributes.iter().find(|one| one.key == key)?.value.as_ref()?.value {
        Some(Value::StringValue(text)) => Some(text),
        _ => None,
    }
}

async fn receive(request: Request<Incoming>, collector: Collector) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_metrics = request.uri().path() == "/v1/metrics"
        && request.headers().get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Full::default());
    match ExportMetricsServiceRequest::decode(body) {
        _ if collector.refuses.load(Ordering::SeqCst) => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            collector.refused.fetch_add(1, Ordering::SeqCst);
        }
        Ok(export) if is_metrics => collector.requests.lock().unwrap().push(export),
        _ => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}
