//! TLS settings: the trusted authorities, and the client certificate.

use std::{fmt, fs, io, path::Path};

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls::{AlertDescription, Error};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, pem::PemObject};

/// TLS settings for `amqps` endpoints (rustls; TLS 1.2 and 1.3).
///
/// By default the system's root certificates are trusted and no client certificate is sent. The host name of the URI is
/// always verified; this cannot be switched off.
///
/// ```no_run
/// use fluffle_amqp::Tls;
///
/// let tls = Tls::new().trust_file("ca.pem")?.client_certificate_files("client.pem", "client.key")?;
/// # Ok::<(), fluffle_amqp::TlsError>(())
/// ```
#[derive(Clone, Default)]
pub struct Tls {
    roots: Option<String>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// A certificate or key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS file {file}: {what}")]
pub struct TlsError {
    file: String,
    what: String,
    #[source]
    source: Option<std::io::Error>,
}

impl Tls {
    /// Trusts the system's root certificates, and sends no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also trusts the authorities in this PEM text, which holds one or several certificates.
    #[must_use]
    pub fn trust_pem(mut self, pem: impl Into<String>) -> Self {
        let roots = self.roots.get_or_insert_default();
        roots.push('\n');
        roots.push_str(&pem.into());
        self
    }

    /// Also trusts the authorities in this PEM file.
    ///
    /// # Errors
    /// If the file cannot be read or holds no certificate.
    pub fn trust_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let pem = read(path.as_ref(), "CERTIFICATE")?;
        Ok(self.trust_pem(pem))
    }

    /// Sends this certificate chain (PEM, leaf first) to the broker and signs with this private key (PEM: PKCS#8,
    /// PKCS#1 or SEC1).
    #[must_use]
    pub fn client_certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// Like [`client_certificate_pem`](Tls::client_certificate_pem), but reads the PEM texts from files.
    ///
    /// # Errors
    /// If a file cannot be read, the first one holds no certificate or the second one no private key.
    pub fn client_certificate_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let chain = read(chain.as_ref(), "CERTIFICATE")?;
        let key = read(key.as_ref(), "PRIVATE KEY")?;
        Ok(self.client_certificate_pem(chain, key))
    }

    /// The connector that turns a stream into a TLS stream. An error here is permanent: see [`is_refused`].
    pub(crate) fn connector(&self) -> io::Result<RustlsConnector> {
        let mut config = match RustlsConnectorConfig::new_with_native_certs() {
            Ok(config) => config,
            // Containers often have no root certificates. They need none if the application names its authorities.
            Err(_) if self.roots.is_some() => RustlsConnectorConfig::default(),
            Err(error) => {
                return Err(invalid(format!(
                    "{error}: install the package `ca-certificates`, or name an authority by Tls::trust_file"
                )));
            }
        };
        if let Some(roots) = &self.roots {
            config.add_parsable_certificates(certificates(roots.as_bytes())?);
        }
        let connector = match &self.identity {
            None => config.connector_with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(invalid)?;
                config.connector_with_single_cert(certificates(chain)?, key)
            }
        };
        connector.map_err(invalid)
    }
}

/// The application's TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

/// Whether a retry cannot help until a person changes a certificate or the settings: one side has refused the other's
/// certificate, or the application's TLS settings cannot be used.
///
/// Every other failure of a handshake may pass. For example, the peer may be a proxy that answers `503` in plain text.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    let Some(error) = error.get_ref() else { return false };
    match error.downcast_ref::<Error>() {
        Some(Error::InvalidCertificate(_)) => true,
        Some(Error::AlertReceived(alert)) => matches!(
            alert,
            AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
        ),
        Some(_) => false,
        None => error.is::<Unusable>() || error.is::<InvalidDnsNameError>(),
    }
}

/// Whether the peer's bytes are not TLS.
pub(crate) fn is_no_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    matches!(error, Some(Error::InvalidMessage(_)))
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(invalid)
}

fn invalid(error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Unusable(error.to_string()))
}

/// Shows which settings are set, never their values.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("extra_roots", &self.roots.is_some())
            .field("client_certificate", &self.identity.is_some())
            .finish()
    }
}

fn read(path: &Path, section: &str) -> Result<String, TlsError> {
    let file = path.display().to_string();
    let pem = match fs::read_to_string(path) {
        Ok(pem) => pem,
        Err(source) => return Err(TlsError { file, what: "cannot be read".to_owned(), source: Some(source) }),
    };
    if pem.contains(section) && pem.contains("-----BEGIN ") {
        Ok(pem)
    } else {
        Err(TlsError { file, what: format!("holds no PEM section `{section}`"), source: None })
    }
}
