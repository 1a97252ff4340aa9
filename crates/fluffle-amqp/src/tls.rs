//! TLS: whom to trust and which certificate to show.

use std::{fmt, fs, path::Path};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

/// TLS settings for `amqps` endpoints (rustls; TLS 1.2 and 1.3).
///
/// By default the system's root certificates are trusted and no client certificate is shown. The host name of the
/// URI is always verified; there is no way to switch that off.
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

/// A certificate or key that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS file {file}: {what}")]
pub struct TlsError {
    file: String,
    what: String,
    #[source]
    source: Option<std::io::Error>,
}

impl Tls {
    /// The system's root certificates, no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also trusts the authorities in this PEM text (one or several certificates).
    #[must_use]
    pub fn trust_pem(mut self, pem: impl Into<String>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Also trusts the authorities in this PEM file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn trust_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let pem = read(path.as_ref(), "CERTIFICATE")?;
        Ok(self.trust_pem(pem))
    }

    /// Shows this certificate chain (PEM, leaf first) and signs with this private key (PEM: PKCS#8, PKCS#1 or SEC1).
    #[must_use]
    pub fn client_certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// Like [`client_certificate_pem`](Tls::client_certificate_pem), from files.
    ///
    /// # Errors
    /// When a file cannot be read, the first holds no certificate or the second no private key.
    pub fn client_certificate_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        let chain = read(chain.as_ref(), "CERTIFICATE")?;
        let key = read(key.as_ref(), "PRIVATE KEY")?;
        Ok(self.client_certificate_pem(chain, key))
    }

    pub(crate) fn config(&self) -> OwnedTLSConfig {
        OwnedTLSConfig {
            identity: self.identity.clone().map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key }),
            cert_chain: self.roots.clone(),
        }
    }
}

/// Says what is set, never what it is.
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
