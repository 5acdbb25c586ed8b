//! TLS towards the API server: authorities, the client's certificate, and their changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use store::trust::{self, Believe, Expiry, Identity, Origin, Role, Roots};

use super::config::{Config, Source};
use super::exec::{self, Plugin};
use crate::files::FromFiles;

/// Why TLS cannot be set up.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot read the PEM of {origin}")]
    Pem {
        origin: String,
        #[source]
        cause: rustls_pki_types::pem::Error,
    },
    #[error("no certificate in {0}")]
    NoCertificate(String),
    #[error("no certificate in {0} can be read")]
    Unreadable(String),
    #[error("no authority is given, and the system has none")]
    NoAuthorities,
    #[error("the client's certificate and key do not fit")]
    Pair(#[source] rustls::Error),
}

/// Where systems keep the authorities they trust, as Go looks for them.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The TLS settings of a client. A new pointer means that connections should be made anew.
pub(super) struct Tls {
    base: FromFiles<Base>,
    plugin: Option<Arc<Plugin>>,
    /// The settings with the certificate that the plugin gave, and what they were made from.
    derived: Mutex<Option<Derived>>,
}

struct Derived {
    base: Arc<Base>,
    certificate: (String, String),
    config: Arc<ClientConfig>,
}

/// What the files say.
struct Base {
    config: Arc<ClientConfig>,
    believe: Believe,
    protocols: &'static [&'static [u8]],
    expiry: Expiry,
}

/// What is offered (ALPN), the best first.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

impl Tls {
    pub(super) fn new(config: &Config, plugin: Option<Arc<Plugin>>) -> Result<Self, Error> {
        let sources = config.ca.iter().chain(
            config
                .certificate
                .iter()
                .flat_map(|(cert, key)| [cert, key]),
        );
        let paths = sources.filter_map(|s| match s {
            Source::File(path) => Some(path.clone()),
            Source::Inline(_) => None,
        });
        let settings = config.clone();
        let base = FromFiles::new(paths.collect(), move || base(&settings))?;
        base.current().expiry.look();
        Ok(Self {
            base,
            plugin,
            derived: Mutex::new(None),
        })
    }

    #[cfg(test)]
    pub(super) fn look_always(&mut self) {
        self.base.look_always();
    }

    /// The settings as of now.
    pub(super) async fn current(&self) -> Result<Arc<ClientConfig>, exec::Error> {
        let base = self.base.current();
        base.expiry.look();
        let Some(plugin) = &self.plugin else {
            return Ok(Arc::clone(&base.config));
        };
        let Some(certificate) = plugin.credential().await?.certificate.clone() else {
            return Ok(Arc::clone(&base.config));
        };
        let mut derived = self.derived.lock();
        if let Some(d) = derived
            .as_ref()
            .filter(|d| Arc::ptr_eq(&d.base, &base) && d.certificate == certificate)
        {
            return Ok(Arc::clone(&d.config));
        }
        let pair = pair(
            certificate.0.as_bytes(),
            certificate.1.as_bytes(),
            "the plugin",
        );
        let made = pair.and_then(|pair| settings(&base.believe, Some(pair), base.protocols));
        let config = match made {
            Ok(config) => Arc::new(config),
            Err(e) => {
                tracing::error!(error = %e, "The plugin's certificate cannot be used");
                return Ok(Arc::clone(&base.config));
            }
        };
        *derived = Some(Derived {
            base,
            certificate,
            config: Arc::clone(&config),
        });
        Ok(config)
    }
}

fn base(config: &Config) -> Result<Base, Error> {
    let mut expiry = Expiry::default();
    let named = |what: &str| format!("{what} for {}", config.server);
    let believe = if config.insecure {
        Believe::Anyone
    } else {
        let (pem, origin) = match &config.ca {
            Some(source) => read(source, "certificate-authority-data")?,
            None => system_authorities()?,
        };
        let mut roots = Roots::default();
        // As client-go: one that can be read is enough.
        if roots.add_readable(certificates(&pem, &origin)?) == 0 {
            return Err(Error::Unreadable(origin));
        }
        // The system's are many, and whoever keeps them up to date takes out those that have ended.
        if let Some(source) = &config.ca {
            expiry.add_roots(place(source, &named(&origin)), &roots);
        }
        Believe::Roots(Arc::new(roots))
    };
    let certificate = match &config.certificate {
        Some((cert, key)) => {
            let (pem, origin) = read(cert, "client-certificate-data")?;
            let (key, _) = read(key, "client-key-data")?;
            let pair = pair(&pem, &key, &origin)?;
            expiry.add(Role::Client, place(cert, &named(&origin)), &pair.0);
            Some(pair)
        }
        None => None,
    };
    let protocols = match config.http1 {
        true => &PROTOCOLS[1..],
        false => PROTOCOLS,
    };
    Ok(Base {
        config: Arc::new(settings(&believe, certificate, protocols)?),
        believe,
        protocols,
        expiry,
    })
}

fn place<'a>(source: &'a Source, name: &'a str) -> Origin<'a> {
    match source {
        Source::File(path) => Origin::File(path),
        Source::Inline(_) => Origin::Elsewhere(name),
    }
}

fn settings(
    believe: &Believe,
    certificate: Option<Identity>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, Error> {
    trust::client(believe, certificate, protocols).map_err(Error::Pair)
}

fn read(source: &Source, inline: &str) -> Result<(Vec<u8>, String), Error> {
    match source {
        Source::Inline(pem) => Ok((pem.clone(), inline.to_owned())),
        Source::File(path) => {
            let pem = std::fs::read(path).map_err(|cause| Error::Read {
                path: path.clone(),
                cause,
            })?;
            Ok((pem, path.display().to_string()))
        }
    }
}

fn system_authorities() -> Result<(Vec<u8>, String), Error> {
    let found = SYSTEM_AUTHORITIES
        .iter()
        .find_map(|p| Some((std::fs::read(Path::new(p)).ok()?, (*p).to_owned())));
    found.ok_or(Error::NoAuthorities)
}

fn certificates(pem: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
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

fn pair(cert: &[u8], key: &[u8], origin: &str) -> Result<Identity, Error> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|cause| Error::Pem {
        origin: origin.to_owned(),
        cause,
    })?;
    Ok((certificates(cert, origin)?, key))
}
