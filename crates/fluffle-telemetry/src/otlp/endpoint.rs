//! Where a collector listens, and who this process is, by OpenTelemetry's environment variables.

use std::{collections::BTreeMap, time::Duration};

use hyper::Uri;

/// Why an address is none of a collector that can be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics cannot be sent to `{endpoint}`: {problem}")]
pub struct EndpointError {
    /// The address, as given.
    pub endpoint: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// A collector on this host, as OpenTelemetry's SDKs assume.
const DEFAULT: &str = "http://localhost:4318";

const PATH: &str = "/v1/metrics";

/// `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` as it is; else `OTEL_EXPORTER_OTLP_ENDPOINT` with the path of metrics
/// (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
pub(super) fn address(of: impl Fn(&str) -> Option<String>) -> String {
    of("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT").unwrap_or_else(|| {
        let base = of("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_else(|| DEFAULT.to_owned());
        format!("{}{PATH}", base.trim_end_matches('/'))
    })
}

/// `OTEL_METRIC_EXPORT_INTERVAL`, in milliseconds; else 60 s.
pub(super) fn interval(of: impl Fn(&str) -> Option<String>) -> Duration {
    let given = of("OTEL_METRIC_EXPORT_INTERVAL").and_then(|text| text.trim().parse().ok());
    given.filter(|millis| *millis > 0).map_or(Duration::from_secs(60), Duration::from_millis)
}

/// `OTEL_RESOURCE_ATTRIBUTES` (`key=value,key=value`) and `OTEL_SERVICE_NAME`, which comes first.
pub(super) fn resource(of: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let given = of("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let pairs = given.split(',').filter_map(|pair| pair.split_once('='));
    let mut resource: BTreeMap<_, _> =
        pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect();
    if let Some(name) = of("OTEL_SERVICE_NAME") {
        resource.insert("service.name".to_owned(), name);
    }
    resource
}

pub(super) fn parsed(endpoint: &str) -> Result<Uri, EndpointError> {
    let wrong = |problem| EndpointError { endpoint: endpoint.to_owned(), problem };
    let uri: Uri = endpoint.parse().map_err(|_| wrong("it is no URL"))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some() => Ok(uri),
        Some("https") => {
            Err(wrong("this exporter has no TLS. Run a collector beside the service, or send `otlp::encode` yourself"))
        }
        _ => Err(wrong("write it as `http://host:4318/v1/metrics`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_environment_says_where_how_often_and_who() {
        assert_eq!(address(environment(&[])), "http://localhost:4318/v1/metrics");
        assert_eq!(address(environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1/")])), "http://a:1/v1/metrics");
        let own =
            [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://b:2/m"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")];
        assert_eq!(address(environment(&own)), "http://b:2/m");
        assert_eq!(interval(environment(&[("OTEL_METRIC_EXPORT_INTERVAL", "1500")])), Duration::from_millis(1500));
        assert_eq!(interval(environment(&[("OTEL_METRIC_EXPORT_INTERVAL", "soon")])), Duration::from_secs(60));
        let who = [("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=x,rubbish"), ("OTEL_SERVICE_NAME", "shop")];
        let resource = resource(environment(&who));
        assert_eq!((&*resource["a"], &*resource["service.name"], resource.len()), ("b", "shop", 2));
    }

    #[test]
    fn an_address_that_cannot_be_reached_says_why() {
        assert!(parsed("http://127.0.0.1:4318/v1/metrics").is_ok());
        assert!(parsed("https://host/v1/metrics").unwrap_err().to_string().contains("no TLS"));
        assert!(parsed("127.0.0.1:4318").is_err());
        assert!(parsed("http://").is_err());
    }
}
