//! Where the spans of the contestant with traces go.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// An exporter that throws spans away. What a collector does with them is not Fluffle's cost.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

/// Collects the spans of Fluffle's messages in this process. All contestants run with it, so that none has an
/// advantage; spans of other crates are off.
pub(crate) fn collect() -> SdkTracerProvider {
    let provider = SdkTracerProvider::builder().with_batch_exporter(Nowhere).build();
    let is_ours =
        |of: &Metadata<'_>| of.is_span() && *of.level() <= Level::INFO && of.target().starts_with("fluffle_telemetry");
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("compare"));
    let filter = filter_fn(is_ours).with_max_level_hint(LevelFilter::INFO);
    // Fails if there is a subscriber already, which this program has not.
    let _ = registry().with(layer.with_filter(filter)).try_init();
    provider
}
