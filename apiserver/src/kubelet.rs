//! Connections to kubelets, and to whatever else the server forwards requests to.
//!
//! Every connection is made to an address that was looked at before (nobody can have the name point
//! elsewhere in between), speaks HTTP/1.1 so that it can be upgraded, and serves one request.
//! Redirects are never followed. Upstream: `pkg/kubelet/client`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::serving::Body;
use component::trust::{self, Believe, Expiry, Identity, Origin, Role, Roots};
use component::{Supervisor, Task};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proto::view::core_v1::Node;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Kubelet;

/// What a kubelet listens on if its node does not say.
pub const PORT: u16 = 10250;
/// How long TCP and TLS may take together: upstream's dialer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long certificates are used before their files are read again.
const REREAD: Duration = Duration::from_secs(60);

/// Why a backend is not reached.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("no preferred addresses found; known addresses: {0}")]
    NoAddress(String),
    #[error("no addresses for hostname")]
    NoAddresses,
    #[error("address not allowed")]
    NotAllowed,
    #[error("lookup {host}: {cause}")]
    Lookup { host: String, cause: std::io::Error },
    #[error("dial tcp {address}: connect: {}", in_go(.cause))]
    Connect {
        address: SocketAddr,
        cause: std::io::Error,
    },
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("{0}")]
    Handshake(std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// As Go says it: `connection refused`.
fn in_go(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    let said = text.split(" (os error").next().unwrap_or_default();
    said.to_lowercase()
}

/// Whom the server believes to speak to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// A kubelet: the server shows its certificate and checks the kubelet's, if it has an authority.
    Kubelet,
    /// A kubelet whose certificate the client asked not to check.
    AnyKubelet,
    /// TLS with anyone; the server does not say who it is.
    Anyone,
    /// Plain HTTP.
    Plain,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub trust: Trust,
    /// What its certificate is made out to, if not to the host.
    pub name: Option<&'static str>,
    /// Only addresses that could be a pod's or a node's: no loopback, link-local or multicast ones
    /// (CVE-2022-3294).
    pub global_only: bool,
}

impl Target {
    /// `host:port`, IPv6 in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.trust == Trust::Plain {
            "http"
        } else {
            "https"
        }
    }
}

/// The ways to backends.
pub struct Kubelets {
    config: Kubelet,
    tasks: Supervisor,
    /// Settings towards kubelets, with and without a check, and when the files were read.
    settings: Mutex<Option<(Instant, Settings)>>,
}

#[derive(Clone)]
struct Settings {
    checked: Arc<ClientConfig>,
    unchecked: Arc<ClientConfig>,
}

impl Kubelets {
    /// Fails if the certificates cannot be used.
    pub fn new(config: &Kubelet, tasks: &Supervisor) -> anyhow::Result<Self> {
        let kubelets = Self {
            config: config.clone(),
            tasks: tasks.clone(),
            settings: Mutex::new(None),
        };
        kubelets.settings()?;
        Ok(kubelets)
    }

    /// What carries streams once the answer is sent.
    pub(crate) fn tasks(&self) -> &Supervisor {
        &self.tasks
    }

    /// Where the kubelet of a node is.
    pub fn of_node(&self, node: Node<'_>) -> Result<Target, Error> {
        let known = || node.status().addresses().into_iter();
        let host = self
            .config
            .address_types
            .iter()
            .find_map(|wanted| known().find(|a| a.r#type() == wanted))
            .map(|a| a.address().to_owned());
        let Some(host) = host else {
            let all: Vec<String> = known()
                .map(|a| format!("{{{} {}}}", a.r#type(), a.address()))
                .collect();
            return Err(Error::NoAddress(format!("[{}]", all.join(" "))));
        };
        let port = node
            .status()
            .daemon_endpoints()
            .kubelet_endpoint()
            .capital_port();
        let port = u16::try_from(port).ok().filter(|p| *p > 0).unwrap_or(PORT);
        Ok(Target {
            host,
            port,
            trust: Trust::Kubelet,
            name: None,
            global_only: false,
        })
    }

    /// A connection for one request.
    pub async fn connect(&self, target: &Target) -> Result<http1::SendRequest<Body>, Error> {
        let dial = tokio::time::timeout(CONNECT_TIMEOUT, self.dial(target));
        dial.await.map_err(|_| Error::Timeout(target.authority()))?
    }

    async fn dial(&self, target: &Target) -> Result<http1::SendRequest<Body>, Error> {
        let stream = tcp(target).await?;
        if target.trust == Trust::Plain {
            return self.handshake(stream).await;
        }
        let settings = match target.trust {
            Trust::Kubelet => self.settings()?.checked,
            Trust::AnyKubelet => self.settings()?.unchecked,
            Trust::Anyone | Trust::Plain => Arc::new(client(Believe::Anyone, None)?),
        };
        let tls = |e: &dyn std::fmt::Display| Error::Tls(e.to_string());
        let name = target.name.unwrap_or(&target.host).to_owned();
        let name = ServerName::try_from(name).map_err(|e| tls(&e))?;
        let stream = TlsConnector::from(settings)
            .connect(name, stream)
            .await
            .map_err(|e| Error::Handshake(trust::in_words(e)))?;
        self.handshake(stream).await
    }

    async fn handshake<I>(&self, io: I) -> Result<http1::SendRequest<Body>, Error>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        self.tasks
            .spawn(Task::Background, "backend-connection", async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "Connection to a backend ended");
                }
            });
        Ok(sender)
    }

    /// The settings towards kubelets; the files are read again from time to time. Files that cannot be
    /// used any more leave those of before in place.
    fn settings(&self) -> Result<Settings, Error> {
        let mut held = self.settings.lock();
        if let Some((read, settings)) = &*held
            && read.elapsed() < REREAD
        {
            return Ok(settings.clone());
        }
        match (self.read(), &*held) {
            (Ok(settings), _) => {
                *held = Some((Instant::now(), settings.clone()));
                Ok(settings)
            }
            (Err(error), Some((_, before))) => {
                tracing::error!(%error, "The certificates towards kubelets cannot be read again");
                let before = before.clone();
                *held = Some((Instant::now(), before.clone()));
                Ok(before)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn read(&self) -> Result<Settings, Error> {
        let pair = self
            .config
            .client
            .as_ref()
            .map(|files| Ok::<_, Error>((certificates(&files.cert)?, key(&files.key)?)))
            .transpose()?;
        let mut expiry = Expiry::default();
        if let (Some(files), Some((chain, _))) = (&self.config.client, &pair) {
            expiry.add(Role::Client, Origin::File(&files.cert), chain);
        }
        let checked = match &self.config.ca {
            Some(path) => {
                let roots = roots(path)?;
                expiry.add_roots(Origin::File(path), &roots);
                Believe::Roots(Arc::new(roots))
            }
            None => Believe::Anyone,
        };
        expiry.look();
        let again = pair
            .as_ref()
            .map(|(chain, key)| (chain.clone(), key.clone_key()));
        Ok(Settings {
            checked: Arc::new(client(checked, pair)?),
            unchecked: Arc::new(client(Believe::Anyone, again)?),
        })
    }
}

fn client(believe: Believe, identity: Option<Identity>) -> Result<ClientConfig, Error> {
    trust::client(&believe, identity, &[b"http/1.1"]).map_err(|e| Error::Tls(e.to_string()))
}

fn file<T>(path: &Path, found: Result<T, rustls_pki_types::pem::Error>) -> Result<T, Error> {
    found.map_err(|e| Error::Tls(format!("{}: {e}", path.display())))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = file(path, CertificateDer::pem_file_iter(path))?;
    file(path, all.collect())
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    file(path, PrivateKeyDer::from_pem_file(path))
}

/// As client-go: one certificate that can be read is enough.
fn roots(path: &Path) -> Result<Roots, Error> {
    let mut roots = Roots::default();
    match roots.add_readable(certificates(path)?) {
        0 => Err(Error::Tls(format!(
            "{}: no certificate can be read",
            path.display()
        ))),
        _ => Ok(roots),
    }
}

/// Looks the name up once, and connects to an address that was found and is allowed.
async fn tcp(target: &Target) -> Result<TcpStream, Error> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(|cause| Error::Lookup {
            host: target.host.clone(),
            cause,
        })?
        .collect();
    if target.global_only && !found.iter().all(|a| is_global_unicast(a.ip())) {
        return Err(Error::NotAllowed);
    }
    let mut last = Error::NoAddresses;
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Keystrokes must not wait for more of them; a socket without the option still works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(cause) => last = Error::Connect { address, cause },
        }
    }
    Err(last)
}

/// Go's `IP.IsGlobalUnicast`: private addresses are, those of the host and the link are not.
#[must_use]
pub fn is_global_unicast(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests;
