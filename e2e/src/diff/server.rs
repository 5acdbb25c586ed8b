//! An API server with its etcd, and how it is asked.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use tokio::time::timeout;

use super::audit;
use super::case::{Answer, Names, Step};
use super::mask::Mask;
use super::writes::Writes;
use crate::bench::client::{Connection, in_background};
use crate::cluster::{self, Cluster, Daemon, Spec, Upstream};
use crate::https;
use crate::progress::Progress;
use crate::workshop::Workshop;

/// An answer that takes longer is taken as far as it came.
const ANSWER: Duration = Duration::from_secs(20);
/// Of both servers, which are alone with their etcd.
const FLAGS: &[&str] = &[
    // What comes and goes by itself would be seen by chance.
    "--event-ttl=24h",
];

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Upstreams,
}

impl Whose {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Upstreams => "upstream",
        }
    }
}

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Https(#[from] https::Error),
}

/// A server that is asked.
pub struct Server {
    pub whose: Whose,
    pub mask: Mask,
    pub writes: Writes,
    pub audit: audit::Log,
    address: SocketAddr,
    admin: Arc<rustls::ClientConfig>,
    nobody: Arc<rustls::ClientConfig>,
}

/// An answer as it came.
pub struct Raw {
    /// 0 where there is none.
    pub status: u16,
    /// Names in small letters; several values on lines of their own.
    pub headers: BTreeMap<String, String>,
    /// Without compression.
    pub body: Bytes,
    pub ended: bool,
}

impl Server {
    /// Starts an API server and its etcd in `dir`; the caller is in the runtime that follows etcd.
    ///
    /// # Errors
    /// If they do not start.
    pub fn start(
        workshop: &Workshop,
        whose: Whose,
        dir: &Path,
        launcher: &Path,
    ) -> Result<(Self, Cluster), Error> {
        let log = dir.join(whose.name()).join("audit.log");
        let flags = FLAGS.iter().map(|flag| (*flag).to_owned());
        let flags = flags.chain(audit::flags(workshop.root(), &log));
        let mut spec = Spec {
            flags: flags.map(|flag| (Daemon::KubeApiserver, flag)).collect(),
            ..workshop.spec(&dir.join(whose.name()), launcher)
        };
        if whose == Whose::Upstreams {
            spec.upstream = Upstream::from(&[Daemon::KubeApiserver][..]);
        }
        let cluster = Cluster::up_api_server(spec, Progress::Screen)?;
        let server = Self::of(whose, &cluster, audit::Log::new(log))?;
        let (writes, etcd) = (server.writes.clone(), cluster.etcd()[0]);
        let tls = cluster.etcd_client()?.config();
        in_background(async move {
            // How it ends does not matter: writes that are looked for and not seen are counted.
            let _ = writes.follow(etcd, tls).await;
        });
        Ok((server, cluster))
    }

    fn of(whose: Whose, cluster: &Cluster, audit: audit::Log) -> Result<Self, Error> {
        let address = cluster.api_server();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            whose,
            mask: Mask::new(vec![address.ip()], now.as_secs()),
            writes: Writes::default(),
            audit,
            address,
            admin: cluster.tls(),
            nobody: cluster.anonymous()?.config(),
        })
    }

    pub fn caller(&self) -> Caller<'_> {
        Caller {
            server: self,
            admin: None,
            nobody: None,
        }
    }
}

/// Connections of one worker.
pub struct Caller<'a> {
    pub server: &'a Server,
    admin: Option<Connection>,
    nobody: Option<Connection>,
}

impl Caller<'_> {
    /// Sends a request and takes the whole answer.
    pub async fn send(&mut self, step: &Step, names: &Names) -> Raw {
        let body = names.body(&step.body);
        let mut outcome = self.once(step, names, body.clone()).await;
        // Those whom nobody knows have a connection for one request; how far the next came on it is chance.
        if outcome.is_err() && is_anonymous(step) {
            outcome = self.once(step, names, body).await;
        }
        let refused = |why: String| Raw {
            status: 0,
            headers: BTreeMap::new(),
            body: why.into(),
            ended: false,
        };
        outcome.unwrap_or_else(refused)
    }

    async fn once(&mut self, step: &Step, names: &Names, body: Bytes) -> Result<Raw, String> {
        match timeout(ANSWER, self.exchange(step, names, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn exchange(&mut self, step: &Step, names: &Names, body: Bytes) -> Result<Raw, String> {
        let (tls, kept) = if is_anonymous(step) {
            (&self.server.nobody, &mut self.nobody)
        } else {
            (&self.server.admin, &mut self.admin)
        };
        let text = |error: &dyn std::error::Error| crate::init::chain(error);
        let mut connection = match kept.take().filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => Connection::open(self.server.address, Arc::clone(tls))
                .await
                .map_err(|error| text(&error))?,
        };
        let path = names.fill(&step.path);
        let mut request = Request::builder()
            .method(step.method.as_str())
            .uri(format!("https://{}{path}", connection.authority()));
        if !step.headers.iter().any(|(name, _)| name == "user-agent") {
            request = request.header("user-agent", "navarch-diff");
        }
        for (name, value) in step.headers.iter().filter(|(name, _)| name != "as") {
            request = request.header(name, names.fill(value));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| text(&error))?;
        let response = connection
            .exchange(request)
            .await
            .map_err(|error| text(&error))?;
        let (head, mut stream) = response.into_parts();
        let mut headers = BTreeMap::new();
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let known: &mut String = headers.entry(name.as_str().to_owned()).or_default();
            if !known.is_empty() {
                known.push('\n');
            }
            known.push_str(&value);
        }
        let mut bytes = Vec::new();
        let taken = timeout(ANSWER / 2, async {
            while let Some(frame) = stream.frame().await {
                match frame {
                    Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
                    Err(_) => return false,
                }
            }
            true
        });
        let ended = taken.await.unwrap_or(false);
        if ended {
            *kept = Some(connection);
        }
        let zipped = headers
            .get("content-encoding")
            .is_some_and(|coding| coding == "gzip");
        Ok(Raw {
            status: head.status.as_u16(),
            headers,
            body: if zipped { unzip(&bytes) } else { bytes }.into(),
            ended,
        })
    }
}

/// Without the certificate of the administrator.
fn is_anonymous(step: &Step) -> bool {
    let mut names = step.headers.iter().map(|(name, _)| name.as_str());
    names.any(|name| matches!(name, "as" | "authorization"))
}

/// What is cut off is taken as far as it goes.
fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out);
    out
}

impl Raw {
    /// As later requests see it.
    pub fn answer(&self) -> Answer {
        Answer {
            headers: self.headers.clone(),
            json: serde_json::from_slice(&self.body).unwrap_or_default(),
            body: self.body.clone(),
        }
    }
}
