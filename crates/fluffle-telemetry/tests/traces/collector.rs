//! A small collector: a real server that receives OTLP over HTTP and decodes OpenTelemetry's protobufs.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::any_value::Value,
    trace::v1::{Span as ReceivedSpan, span::SpanKind},
};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use prost::Message;
use tracing_subscriber::prelude::*;

/// The longest that a test waits for spans.
const SOON: Duration = Duration::from_secs(30);

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub kind: SpanKind,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Empty for a root.
    pub parent: Vec<u8>,
    pub links: Vec<Link>,
    pub attributes: HashMap<String, String>,
    /// Whether its status is an error, and the error's text.
    pub error: Option<String>,
    pub nanoseconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub to: Vec<u8>,
    pub trace: Vec<u8>,
    pub kind: String,
}

impl Span {
    pub fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }

    /// The spans that it links as this kind.
    pub fn linked(&self, kind: &str) -> Vec<&[u8]> {
        self.links.iter().filter(|link| link.kind == kind).map(|link| &link.to[..]).collect()
    }
}

/// What has arrived in this process, and the provider that exports its spans.
pub struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    provider: SdkTracerProvider,
    /// What was logged.
    pub log: Log,
}

/// Lines of the log.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let all = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The collector of this process. The `tracing` spans of all its tests are exported to it.
pub fn collector() -> &'static Collector {
    static COLLECTOR: OnceLock<Collector> = OnceLock::new();
    COLLECTOR.get_or_init(|| {
        // The exporter's client wants it as soon as some crate of the build turns on TLS in reqwest. It fails only
        // where a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let spans = Arc::default();
        let address = serve(&spans);
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("http://{address}/v1/traces"))
            .with_timeout(SOON)
            .build()
            .expect("an exporter");
        let resource = Resource::builder().with_attributes([KeyValue::new("service.name", "test")]).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let log = Log::default();
        let into = log.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || into.clone());
        let filter = tracing_subscriber::EnvFilter::new("info,hyper=off,reqwest=off,lapin=off");
        tracing_subscriber::registry().with(filter).with(lines).with(layer).init();
        Collector { spans, provider, log }
    })
}

impl Collector {
    /// The spans for which `of` is true, as soon as there are `count` of them.
    pub fn spans(&'static self, count: usize, of: impl Fn(&Span) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + SOON;
        loop {
            // Another thread, because the exporter must not be waited for on a thread of a tokio runtime.
            std::thread::spawn(|| self.provider.force_flush()).join().unwrap().expect("flushed");
            let arrived: Vec<Span> = self.spans.lock().unwrap().iter().filter(|span| of(span)).cloned().collect();
            if arrived.len() >= count {
                return arrived;
            }
            let names = || arrived.iter().map(|span| span.name.as_str()).collect::<Vec<_>>();
            assert!(Instant::now() < deadline, "{} of {count} spans: {:?}", arrived.len(), names());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Serves on a free port of 127.0.0.1, on a thread of its own, until the process ends.
fn serve(into: &Arc<Mutex<Vec<Span>>>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let into = Arc::clone(&into);
                let service = service_fn(move |request| receive(request, Arc::clone(&into)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    address
}

async fn receive(request: Request<Incoming>, into: Arc<Mutex<Vec<Span>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_traces = request.uri().path() == "/v1/traces";
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (status, answer) = match ExportTraceServiceRequest::decode(body) {
        Ok(export) if is_traces => {
            let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            into.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans).map(span));
            (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
        }
        _ => (StatusCode::BAD_REQUEST, Vec::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    *response.status_mut() = status;
    Ok(response)
}

fn span(received: ReceivedSpan) -> Span {
    let kind = received.kind();
    let attributes = |all: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>| -> HashMap<String, String> {
        let text = |value| match value {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        all.into_iter().filter_map(|one| Some((one.key, text(one.value?.value?)))).collect()
    };
    let links = received.links.into_iter().map(|link| Link {
        to: link.span_id,
        trace: link.trace_id,
        kind: attributes(link.attributes).remove("fluffle.link").unwrap_or_default(),
    });
    Span {
        links: links.collect(),
        name: received.name,
        kind,
        trace: received.trace_id,
        id: received.span_id,
        parent: received.parent_span_id,
        attributes: attributes(received.attributes),
        error: received.status.filter(|status| status.code == 2).map(|status| status.message),
        nanoseconds: received.end_time_unix_nano.saturating_sub(received.start_time_unix_nano),
    }
}
