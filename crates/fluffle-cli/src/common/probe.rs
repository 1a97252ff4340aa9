//! One endpoint, step by step: TCP, TLS, and the broker's greeting. Says at which step a connection fails, and reads
//! what the client library keeps to itself: the certificates, and what the broker tells of itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPFrame, parse_frame},
    protocol::{AMQPClass, connection::AMQPMethod},
    types::{AMQPValue, FieldTable},
};
use fluffle::amqp::Endpoint;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The longest greeting that is read. RabbitMQ's takes half a kilobyte.
const GREETING: usize = 64 * 1024;

/// What is known of an endpoint after the probe.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// The broker's chain of certificates, its own first.
    pub(crate) chain: Vec<Certificate>,
    /// The properties of the greeting that are text: `product`, `version`, `cluster_name`, `platform`.
    pub(crate) properties: Vec<(String, String)>,
    /// The step that failed, and why.
    pub(crate) failed: Option<(Step, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Tcp,
    Tls,
    Greeting,
}

/// What matters of a certificate.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) names: Vec<String>,
    /// Seconds since 1970.
    pub(crate) ends: i64,
}

impl Probe {
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Takes the steps, each within the limit. Sends no password, and trusts nothing of what it reads.
pub(crate) async fn probe(endpoint: &Endpoint, limit: Duration) -> Probe {
    let mut probe = Probe::default();
    if let Err(failed) = steps(endpoint, limit, &mut probe).await {
        probe.failed = Some(failed);
    }
    probe
}

async fn steps(endpoint: &Endpoint, limit: Duration, probe: &mut Probe) -> Result<(), (Step, String)> {
    let late = || format!("no answer within {}", humantime::format_duration(limit));
    let tcp = timeout(limit, TcpStream::connect((endpoint.host(), endpoint.port()))).await;
    let tcp = tcp.map_err(|_| (Step::Tcp, late()))?.map_err(|error| (Step::Tcp, error.to_string()))?;
    if !endpoint.is_tls() {
        let greeting = timeout(limit, greeting(tcp)).await.map_err(|_| (Step::Greeting, late()))?;
        probe.properties = greeting.map_err(|why| (Step::Greeting, why))?;
        return Ok(());
    }
    let witness = Arc::new(Witness::new());
    let connector = connector(&witness).map_err(|why| (Step::Tls, why))?;
    let name = ServerName::try_from(endpoint.host().to_owned()).map_err(|error| (Step::Tls, error.to_string()))?;
    let tls = timeout(limit, connector.connect(name, tcp)).await;
    probe.chain = witness.chain.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(certificate).collect();
    let tls = tls.map_err(|_| (Step::Tls, late()))?.map_err(|error| (Step::Tls, error.to_string()))?;
    let greeting = timeout(limit, greeting(tls)).await.map_err(|_| (Step::Greeting, late()))?;
    probe.properties = greeting.map_err(|why| (Step::Greeting, why))?;
    Ok(())
}

/// Asks for AMQP 0-9-1, and reads `connection.start`.
async fn greeting(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Vec<(String, String)>, String> {
    let io = |error: std::io::Error| error.to_string();
    stream.write_all(b"AMQP\0\0\x09\x01").await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut head = [0; 7];
    let read = stream.read_exact(&mut head).await;
    read.map_err(|error| format!("the peer ended the connection instead of greeting: {error}"))?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let length = usize::try_from(length).ok().filter(|length| *length < GREETING && head[..3] == [1, 0, 0]);
    let length = length.ok_or_else(|| format!("it does not speak AMQP 0-9-1: it began with {head:02x?}"))?;
    let mut frame = vec![0; head.len() + length + 1];
    frame[..head.len()].copy_from_slice(&head);
    stream.read_exact(&mut frame[head.len()..]).await.map_err(io)?;
    match parse_frame(frame.as_slice()) {
        Ok((_, AMQPFrame::Method(_, AMQPClass::Connection(AMQPMethod::Start(start))))) => {
            Ok(texts(&start.server_properties))
        }
        _ => Err("its first frame is no connection.start".to_owned()),
    }
}

fn texts(table: &FieldTable) -> Vec<(String, String)> {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    };
    table.inner().iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect()
}

fn connector(witness: &Arc<Witness>) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&witness.provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    // The probe reads certificates that the real connection may refuse, to say why. It sends nothing secret.
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<Witness>::clone(witness);
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificate(der: &CertificateDer<'static>) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| {
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
            _ => None,
        };
        names.value.general_names.iter().filter_map(name).collect()
    });
    Some(Certificate {
        subject: parsed.subject().to_string(),
        names: names.unwrap_or_default(),
        ends: parsed.validity().not_after.timestamp(),
    })
}

/// Keeps the certificates that a broker shows, whatever they are worth.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl Witness {
    fn new() -> Self {
        Self { provider: Arc::new(ring::default_provider()), chain: Mutex::default() }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(own).chain(intermediates).map(|der| der.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
