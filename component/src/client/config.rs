//! What a client is made from, wherever that comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpStream;

use super::exec::ExecConfig;
use super::kubeconfig::{self, Impersonate, Kubeconfig};
use crate::config::ClientConnection;
use crate::tracing::Tracer;

/// Where the API server is, and who asks.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://host:port/path`; a scheme that is missing is `https`, as a bare host is meant.
    pub server: String,
    pub ca: Option<Source>,
    /// For tests and for those who know better: any server is trusted.
    pub insecure: bool,
    /// The name that the server's certificate must be for, if not the host of `server`.
    pub server_name: Option<String>,
    /// What requests call the server (`Host`), and metrics, if not what `server` says.
    pub host: Option<String>,
    /// HTTP/2 is not spoken: requests at the same time have connections of their own, which are spread over the servers behind
    /// an address.
    pub http1: bool,
    /// How connections are made, if not to where `server` says. Its failures are told in its own words.
    pub dial: Option<Dial>,
    pub certificate: Option<(Source, Source)>,
    pub bearer: Option<Bearer>,
    pub impersonate: Impersonate,
    /// Requests per second; negative means no limit.
    pub qps: f32,
    pub burst: i32,
    /// For each request but watches.
    pub timeout: Option<Duration>,
    /// Of what nobody asked this process for; what somebody did belongs to his trace in any case.
    pub tracer: Tracer,
}

/// Makes a connection of TCP; asked for each one anew.
#[derive(Clone)]
pub struct Dial(pub Arc<dyn Fn() -> BoxFuture<'static, std::io::Result<TcpStream>> + Send + Sync>);

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// PEM, or where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    File(PathBuf),
    Inline(Vec<u8>),
}

/// How requests say who asks, beside a certificate.
#[derive(Clone, Debug)]
pub enum Bearer {
    Token(String),
    /// Read again when it changes.
    TokenFile(PathBuf),
    Exec(Box<ExecConfig>),
}

/// Why a client cannot be made.
#[derive(thiserror::Error, Debug)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("kubeconfig {path}: {problem}")]
    Kubeconfig { path: PathBuf, problem: String },
    #[error("server address {address:?}: {problem}")]
    Server { address: String, problem: String },
    #[error("cannot set up TLS")]
    Tls(#[source] super::tls::Error),
    #[error("not in a cluster: {0}")]
    NotInCluster(&'static str),
}

/// Where a pod finds its credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Config {
    /// A client of this server that says nothing about itself.
    #[must_use]
    pub fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            ca: None,
            insecure: false,
            server_name: None,
            host: None,
            http1: false,
            dial: None,
            certificate: None,
            bearer: None,
            impersonate: Impersonate::default(),
            qps: 5.0,
            burst: 10,
            timeout: None,
            tracer: Tracer::default(),
        }
    }

    /// The current context of a kubeconfig file.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn from_kubeconfig(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let failed = |problem| ConfigError::Kubeconfig {
            path: path.to_owned(),
            problem,
        };
        let file = Kubeconfig::read(&text).map_err(failed)?;
        file.client(None, path.parent().unwrap_or(Path::new("")))
            .map_err(failed)
    }

    /// The cluster that the process runs in as a pod.
    ///
    /// # Errors
    /// If it does not run in one.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        let variable = |name: &'static str| {
            std::env::var(name)
                .ok()
                .filter(|v| !v.is_empty())
                .ok_or(ConfigError::NotInCluster(name))
        };
        let (host, port) = (
            variable("KUBERNETES_SERVICE_HOST")?,
            variable("KUBERNETES_SERVICE_PORT")?,
        );
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let dir = Path::new(SERVICE_ACCOUNT);
        if !dir.join("token").exists() {
            return Err(ConfigError::NotInCluster("no service account token"));
        }
        Ok(Self {
            ca: Some(Source::File(dir.join("ca.crt"))),
            bearer: Some(Bearer::TokenFile(dir.join("token"))),
            ..Self::new(&format!("https://{host}:{port}"))
        })
    }

    /// What a daemon's configuration says: its kubeconfig or, without one, the cluster that it runs in;
    /// `master` replaces the server's address. Rates are the daemon's.
    ///
    /// # Errors
    /// If there is neither a usable kubeconfig nor a cluster.
    pub fn load(connection: &ClientConnection, master: &str) -> Result<Self, ConfigError> {
        let mut config = match (connection.kubeconfig.as_os_str().is_empty(), master) {
            (true, "") => Self::in_cluster()?,
            (true, master) => Self::new(master),
            (false, _) => Self::from_kubeconfig(&connection.kubeconfig)?,
        };
        if !master.is_empty() {
            master.clone_into(&mut config.server);
        }
        config.qps = connection.qps;
        config.burst = connection.burst;
        Ok(config)
    }
}

impl From<kubeconfig::Certificate> for (Source, Source) {
    fn from(certificate: kubeconfig::Certificate) -> Self {
        (certificate.cert, certificate.key)
    }
}
