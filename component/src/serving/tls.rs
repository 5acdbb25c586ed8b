//! TLS for listeners: certificates from files that may change, by server name where asked.
//!
//! Client certificates are asked for but not judged here: the handshake proves that the client holds
//! the key, and [`super::ClientCa`] decides per request whether the certificate is one to trust.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use store::trust::{self, Expiry, Origin, Role, Roots};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use crate::args::{self, Args};
use crate::files::FromFiles;

/// Why TLS cannot be set up.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read certificates or keys in {origin}")]
    Pem {
        origin: String,
        #[source]
        cause: rustls_pki_types::pem::Error,
    },
    #[error("no certificate in {0}")]
    NoCertificate(String),
    #[error("the key in {key} cannot be used with the certificate in {cert}")]
    Pair {
        cert: String,
        key: String,
        #[source]
        cause: rustls::Error,
    },
    #[error("a certificate in {origin} cannot be an authority")]
    Authority {
        origin: String,
        #[source]
        cause: trust::Untrusted,
    },
    #[error("--tls-cert-file and --tls-private-key-file must be given together")]
    HalfAPair,
    #[error("cipher suite {0} is not supported")]
    Suite(String),
    #[error("no key exchange group of {0:?} is supported")]
    Groups(Vec<String>),
    #[error("TLS version {0:?} is not supported, must be VersionTLS12 or VersionTLS13")]
    Version(String),
    #[error(
        "malformed --tls-sni-cert-key {0:?}: certificate file and key file, separated by a comma"
    )]
    Sni(String),
    #[error("TLS settings do not fit together")]
    Settings(#[source] rustls::Error),
}

/// A certificate with its intermediates, and its key.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Read again when they change.
    Files { cert: PathBuf, key: PathBuf },
    /// PEM in memory.
    Memory(super::Pair),
}

/// A certificate for some server names.
#[derive(Clone, Debug)]
pub struct Sni {
    pub identity: Identity,
    /// Names, perhaps with a `*` for the first label; empty means those in the certificate.
    pub names: Vec<String>,
}

/// The TLS settings of a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    pub identity: Identity,
    pub sni: Vec<Sni>,
    /// Whether clients are asked for a certificate.
    pub ask_for_certificate: bool,
    /// Authorities that clients are told about, so that they choose a fitting certificate.
    pub client_ca: Option<PathBuf>,
    /// TLS 1.3 only.
    pub only_tls13: bool,
    /// Go's names; empty means all.
    pub cipher_suites: Vec<String>,
    /// Go's numbers; empty means all.
    pub groups: Vec<String>,
}

impl Tls {
    /// TLS 1.2 and 1.3, asking for client certificates.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            sni: Vec::new(),
            ask_for_certificate: true,
            client_ca: None,
            only_tls13: false,
            cipher_suites: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// With what the flags of [`args::secure_serving`] and `--client-ca-file` say.
    ///
    /// # Errors
    /// If a setting is not supported.
    pub fn from_flags(args: &Args, identity: Identity) -> Result<Self, Error> {
        let version = args.get(&args::TLS_MIN_VERSION);
        let only_tls13 = match version.as_str() {
            // Older ones are accepted and mean the oldest that there is.
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            _ => return Err(Error::Version(version)),
        };
        let sni = args
            .get(&args::TLS_SNI_CERT_KEY)
            .0
            .iter()
            .map(|text| Sni::parse(text))
            .collect::<Result<_, _>>()?;
        let tls = Self {
            sni,
            client_ca: args.known(&args::CLIENT_CA_FILE).flatten(),
            only_tls13,
            cipher_suites: args.get(&args::TLS_CIPHER_SUITES),
            groups: args.get(&args::TLS_CURVE_PREFERENCES),
            ..Self::new(identity)
        };
        provider(&tls).map(|_| tls)
    }
}

impl Sni {
    /// `cert,key` or `cert,key:name,name`.
    fn parse(text: &str) -> Result<Self, Error> {
        let (files, names) = text.split_once(':').unwrap_or((text, ""));
        let malformed = || Error::Sni(text.to_owned());
        let (cert, key) = files.split_once(',').ok_or_else(malformed)?;
        if cert.is_empty() || key.is_empty() || key.contains(',') {
            return Err(malformed());
        }
        let names = names
            .split(',')
            .filter(|n| !n.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            identity: Identity::Files {
                cert: cert.into(),
                key: key.into(),
            },
            names,
        })
    }
}

/// Does the handshakes of a listener.
#[derive(Clone)]
pub(super) struct Acceptor {
    made: Arc<FromFiles<Made>>,
}

/// What the files gave.
struct Made {
    config: Arc<ServerConfig>,
    expiry: Expiry,
}

impl Acceptor {
    pub(super) fn new(tls: &Tls, http2: bool) -> Result<Self, Error> {
        let mut paths = Vec::new();
        for identity in tls.sni.iter().map(|s| &s.identity).chain([&tls.identity]) {
            if let Identity::Files { cert, key } = identity {
                paths.extend([cert.clone(), key.clone()]);
            }
        }
        paths.extend(tls.client_ca.clone());
        let tls = tls.clone();
        let made = FromFiles::new(paths, move || made(&tls, http2))?;
        made.current().expiry.look();
        Ok(Self {
            made: Arc::new(made),
        })
    }

    /// For tests: the files are looked at for each handshake.
    #[cfg(test)]
    pub(super) fn look_always(&mut self) {
        Arc::get_mut(&mut self.made)
            .expect("not shared yet")
            .look_always();
    }

    pub(super) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: I,
    ) -> io::Result<TlsStream<I>> {
        let made = self.made.current();
        made.expiry.look();
        let config = Arc::clone(&made.config);
        let accepted = tokio_rustls::TlsAcceptor::from(config).accept(stream).await;
        accepted.map_err(trust::in_words)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

fn made(tls: &Tls, http2: bool) -> Result<Made, Error> {
    let provider = Arc::new(provider(tls)?);
    let versions: &[_] = if tls.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(Error::Settings)?;
    let builder = if tls.ask_for_certificate {
        let hints = match &tls.client_ca {
            Some(path) => roots(path)?.subjects(),
            None => Vec::new(),
        };
        let algorithms = provider.signature_verification_algorithms;
        builder.with_client_cert_verifier(Arc::new(AnyCertificate { hints, algorithms }))
    } else {
        builder.with_no_client_auth()
    };
    let mut expiry = Expiry::default();
    let certificates = Certificates::read(tls, &mut expiry)?;
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Made {
        config: Arc::new(config),
        expiry,
    })
}

/// ring, with the cipher suites and groups that are wanted. TLS 1.3's suites are always on, as in Go.
fn provider(tls: &Tls) -> Result<CryptoProvider, Error> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let name = |s: &rustls::SupportedCipherSuite| format!("{:?}", s.suite());
        let wanted: Vec<String> = tls.cipher_suites.iter().map(|s| rustls_name(s)).collect();
        for (given, wanted) in tls.cipher_suites.iter().zip(&wanted) {
            if !provider.cipher_suites.iter().any(|s| name(s) == *wanted) {
                return Err(Error::Suite(given.clone()));
            }
        }
        provider
            .cipher_suites
            .retain(|s| s.tls13().is_some() || wanted.contains(&name(s)));
    }
    if !tls.groups.is_empty() {
        let number = |g: &&dyn rustls::crypto::SupportedKxGroup| u16::from(g.name()).to_string();
        provider
            .kx_groups
            .retain(|g| tls.groups.contains(&number(g)));
        if provider.kx_groups.is_empty() {
            return Err(Error::Groups(tls.groups.clone()));
        }
    }
    Ok(provider)
}

/// Go's name of a suite in rustls' spelling.
fn rustls_name(go: &str) -> String {
    match go.strip_prefix("TLS_") {
        Some(rest) if !rest.contains("_WITH_") => format!("TLS13_{rest}"),
        _ if go.ends_with("_CHACHA20_POLY1305") => format!("{go}_SHA256"),
        _ => go.to_owned(),
    }
}

/// The authorities in a PEM file.
pub(crate) fn roots(path: &Path) -> Result<Roots, Error> {
    let pem = std::fs::read(path).map_err(|e| Error::Pem {
        origin: path.display().to_string(),
        cause: rustls_pki_types::pem::Error::Io(e),
    })?;
    roots_of(&pem, &path.display().to_string())
}

/// The authorities in a PEM text that comes from `origin`.
pub(crate) fn roots_of(pem: &[u8], origin: &str) -> Result<Roots, Error> {
    let mut roots = Roots::default();
    for cert in certificates(pem, origin)? {
        roots.add(cert).map_err(|cause| Error::Authority {
            origin: origin.to_owned(),
            cause,
        })?;
    }
    Ok(roots)
}

/// At least one certificate.
pub(crate) fn certificates(
    pem: &[u8],
    origin: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|cause| Error::Pem {
            origin: origin.to_owned(),
            cause,
        })?;
    if certs.is_empty() {
        Err(Error::NoCertificate(origin.to_owned()))
    } else {
        Ok(certs)
    }
}

/// The first private key.
pub(crate) fn private_key(pem: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|cause| Error::Pem {
        origin: origin.to_owned(),
        cause,
    })
}

fn certified(identity: &Identity, expiry: &mut Expiry) -> Result<Arc<CertifiedKey>, Error> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| Error::Pem {
            origin: path.display().to_string(),
            cause: rustls_pki_types::pem::Error::Io(e),
        })
    };
    let (cert, key, cert_origin, key_origin) = match identity {
        Identity::Files { cert, key } => (
            read(cert)?,
            read(key)?,
            cert.display().to_string(),
            key.display().to_string(),
        ),
        Identity::Memory(pair) => (
            pair.cert.clone().into_bytes(),
            pair.key.clone().into_bytes(),
            "memory".to_owned(),
            "memory".to_owned(),
        ),
    };
    let chain = certificates(&cert, &cert_origin)?;
    let origin = match identity {
        Identity::Files { cert, .. } => Origin::File(cert),
        Identity::Memory(_) => Origin::Elsewhere(&cert_origin),
    };
    expiry.add(Role::Server, origin, &chain);
    let key = private_key(&key, &key_origin)?;
    trust::certified(chain, key)
        .map(Arc::new)
        .map_err(|cause| Error::Pair {
            cert: cert_origin,
            key: key_origin,
            cause,
        })
}

/// The certificates of a listener.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    by_name: Vec<(String, Arc<CertifiedKey>)>,
}

impl Certificates {
    fn read(tls: &Tls, expiry: &mut Expiry) -> Result<Self, Error> {
        let default = certified(&tls.identity, expiry)?;
        let mut by_name = Vec::new();
        for sni in &tls.sni {
            let key = certified(&sni.identity, expiry)?;
            let names = if sni.names.is_empty() {
                dns_names(&key.cert[0])
            } else {
                sni.names.clone()
            };
            by_name.extend(
                names
                    .into_iter()
                    .map(|n| (n.to_ascii_lowercase(), Arc::clone(&key))),
            );
        }
        Ok(Self { default, by_name })
    }

    /// The exact name first, then a wildcard for its first label.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let named = |wanted: &str| {
            self.by_name
                .iter()
                .find(|(n, _)| n == wanted)
                .map(|(_, key)| key)
        };
        named(name).or_else(|| named(&format!("*.{}", name.split_once('.')?.1)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .and_then(|name| self.find(&name.to_ascii_lowercase()));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

/// The DNS names that a certificate is for.
fn dns_names(cert: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(cert) else {
        return Vec::new();
    };
    let Ok(Some(names)) = cert.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = |name: &x509_parser::extensions::GeneralName<'_>| match name {
        x509_parser::extensions::GeneralName::DNSName(n) => Some((*n).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// Asks for a certificate, takes any whose key the client proves to hold.
#[derive(Debug)]
struct AnyCertificate {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        trust::verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        trust::verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
