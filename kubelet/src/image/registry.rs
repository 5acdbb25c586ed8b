//! Reads from registries: the pull half of the OCI distribution API.
//!
//! Everything that a registry sends is bounded: documents and error texts in size, bodies in how
//! long they may stand still, redirects and challenges in number. Credentials go to the registry's
//! own host and its token server, never to a mirror or where a redirect leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use parking_lot::Mutex;

use super::auth::Credential;
use super::import::DOCUMENT_MAX;
use super::layer::Hasher;
use super::reference::{Algorithm, Digest, Reference};

pub(crate) mod challenge;
pub mod hosts;
pub mod proxy;
mod transport;

use hosts::{Host, HostsError};
use transport::{Body, Roots, Timeouts, Transport};

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Config {
    pub hosts: hosts::Config,
    pub proxies: proxy::Proxies,
    /// For name look-up, connection and TLS together.
    pub connect_timeout: Duration,
    /// For the head of an answer, and for each next piece of a body.
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: hosts::Config::default(),
            proxies: proxy::Proxies::default(),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// Why a registry did not give what was asked.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Hosts(#[from] HostsError),
    #[error("connect to {host}: {source}")]
    Connect {
        host: String,
        source: std::io::Error,
    },
    #[error("certificates for {host}: {reason}")]
    Certificates { host: String, reason: String },
    #[error("{host}: {source}")]
    Http { host: String, source: hyper::Error },
    #[error("{host} did not answer in {after:?}")]
    Timeout { host: String, after: Duration },
    #[error("{what}: not found at {host}")]
    NotFound { what: String, host: String },
    #[error(
        "{what}: pull access denied, repository does not exist or may require authorization: \
         {host}: {message}"
    )]
    Denied {
        what: String,
        host: String,
        message: String,
    },
    #[error("{what}: unexpected status from {host}: {status}: {message}")]
    Status {
        what: String,
        host: String,
        status: StatusCode,
        message: String,
    },
    #[error("{what}: {host} sent more than {DOCUMENT_MAX} bytes")]
    TooLarge { what: String, host: String },
    #[error("{host}: {reason}")]
    Protocol { host: String, reason: &'static str },
    #[error("{what} is {found}, not {expected}")]
    Digest {
        what: String,
        expected: Digest,
        found: Digest,
    },
    #[error("no host of {0} may be asked for this")]
    NoHost(String),
}

impl Error {
    /// Whether asking again soon may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Http { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }

    /// Whether the registry itself says that it is down.
    pub fn is_unavailable(&self) -> bool {
        use StatusCode as S;
        let down = [S::BAD_GATEWAY, S::SERVICE_UNAVAILABLE, S::GATEWAY_TIMEOUT];
        matches!(self, Self::Status { status, .. } if down.contains(status))
    }
}

type Result<T> = std::result::Result<T, Error>;

const REDIRECTS: usize = 5;
/// Bytes of an error's text that are passed on.
const MESSAGE_MAX: usize = 1024;

/// Documents that this node understands, the preferred first.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// All registries, as this node is configured to reach them.
pub struct Registry {
    config: Config,
    roots: Arc<Roots>,
}

/// Why a host is asked: mirrors may be good for content only, not for what a tag means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Resolve,
    Pull,
}

/// One pull from one repository: its hosts, and what they know us as. Nothing of it is shared with
/// another pull, so that no pod's permission becomes another's.
pub(super) struct Session {
    transport: Transport,
    reference: Reference,
    credential: Option<Credential>,
    hosts: Vec<Known>,
}

struct Known {
    host: Host,
    /// What the host asked us to send with each request.
    authorization: Mutex<Option<HeaderValue>>,
}

/// A document and its address.
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
}

/// Content on its way.
pub(super) struct Blob {
    body: Body,
    /// The position of the first byte that comes: as asked, or 0 if the host cannot start there.
    pub(super) offset: u64,
}

impl Blob {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.body.chunk().await
    }
}

impl Registry {
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            config,
            roots: Arc::default(),
        })
    }

    /// Begins a pull.
    pub(super) fn session(
        &self,
        reference: &Reference,
        credential: Option<Credential>,
    ) -> Result<Session> {
        let hosts = self.config.hosts.of(reference.domain())?;
        let timeouts = Timeouts {
            connect: self.config.connect_timeout,
            stall: self.config.stall_timeout,
        };
        let known = |host| Known {
            host,
            authorization: Mutex::new(None),
        };
        Ok(Session {
            transport: Transport::new(timeouts, self.config.proxies.clone(), self.roots.clone()),
            reference: reference.clone(),
            credential,
            hosts: hosts.into_iter().map(known).collect(),
        })
    }
}

impl Session {
    /// What the reference means now: a manifest or an index.
    pub(super) async fn resolve(&self) -> Result<Document> {
        match self.reference.digest() {
            Some(digest) => self.manifest(digest).await,
            None => {
                let tag = self.reference.tag().unwrap_or("latest");
                let what = self.reference.to_string();
                let bytes = self
                    .document(Purpose::Resolve, "manifests", tag, what)
                    .await?;
                Ok(Document {
                    digest: Digest::of(&bytes),
                    bytes,
                })
            }
        }
    }

    /// A manifest by its address.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Document> {
        self.verified("manifests", digest).await
    }

    /// A small blob by its address: an image's configuration.
    pub(super) async fn config(&self, digest: &Digest) -> Result<Document> {
        self.verified("blobs", digest).await
    }

    /// A blob from this position on.
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Blob> {
        let what = self.reference.at(digest);
        let (host, status, headers, body) = self
            .get(Purpose::Pull, "blobs", &digest.to_string(), offset, &what)
            .await?;
        if status != StatusCode::PARTIAL_CONTENT {
            return Ok(Blob { body, offset: 0 });
        }
        let range = headers
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let start = range.and_then(|range| {
            range
                .strip_prefix("bytes ")?
                .split('-')
                .next()?
                .parse::<u64>()
                .ok()
        });
        match start {
            Some(start) if start == offset => Ok(Blob { body, offset }),
            _ => Err(Error::Protocol {
                host,
                reason: "sent another range than it was asked for",
            }),
        }
    }

    async fn verified(&self, kind: &str, digest: &Digest) -> Result<Document> {
        let what = self.reference.at(digest);
        let bytes = self
            .document(Purpose::Pull, kind, &digest.to_string(), what.clone())
            .await?;
        match digest_of(&bytes, digest.algorithm()) {
            found if found == *digest => Ok(Document {
                digest: found,
                bytes,
            }),
            found => Err(Error::Digest {
                what,
                expected: digest.clone(),
                found,
            }),
        }
    }

    async fn document(
        &self,
        purpose: Purpose,
        kind: &str,
        name: &str,
        what: String,
    ) -> Result<Bytes> {
        let (host, _, _, mut body) = self.get(purpose, kind, name, 0, &what).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            if bytes.len() + chunk.len() > DOCUMENT_MAX as usize {
                return Err(Error::TooLarge { what, host });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// Asks the hosts in turn until one answers with success. The last one is the registry itself:
    /// its error is the one that counts.
    async fn get(
        &self,
        purpose: Purpose,
        kind: &str,
        name: &str,
        offset: u64,
        what: &str,
    ) -> Result<(String, StatusCode, HeaderMap, Body)> {
        let may = |known: &&Known| match purpose {
            Purpose::Resolve => known.host.resolve,
            Purpose::Pull => known.host.pull,
        };
        let mut last = None;
        for known in self.hosts.iter().filter(may) {
            match self.get_from(known, kind, name, offset, what).await {
                Ok((status, headers, body)) => {
                    return Ok((known.host.authority().to_owned(), status, headers, body));
                }
                Err(error) => {
                    tracing::debug!(host = known.host.authority(), %error, "registry host failed");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::NoHost(self.reference.domain().to_owned())))
    }

    async fn get_from(
        &self,
        known: &Known,
        kind: &str,
        name: &str,
        offset: u64,
        what: &str,
    ) -> Result<(StatusCode, HeaderMap, Body)> {
        let host = &known.host;
        let mut uri = format!("{}/{}/{kind}/{name}", host.base(), self.reference.path());
        if host.is_mirror {
            uri.push_str(&format!("?ns={}", self.reference.domain()));
        }
        let mut challenged = false;
        loop {
            let authorization = known.authorization.lock().clone();
            let answer = self.follow(host, &uri, authorization, kind, offset).await?;
            let (status, headers, mut body) = answer;
            if status.is_success() {
                return Ok((status, headers, body));
            }
            if status == StatusCode::UNAUTHORIZED && !challenged {
                challenged = true;
                if let Some(answer) = self.answer_challenge(host, &headers).await? {
                    *known.authorization.lock() = Some(answer);
                    continue;
                }
            }
            let message = body.text(MESSAGE_MAX).await;
            let (what, host) = (what.to_owned(), host.authority().to_owned());
            return Err(match status {
                StatusCode::NOT_FOUND => Error::NotFound { what, host },
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
                    what,
                    host,
                    message,
                },
                _ => Error::Status {
                    what,
                    host,
                    status,
                    message,
                },
            });
        }
    }

    /// Sends one request, and again to where it is redirected.
    async fn follow(
        &self,
        host: &Host,
        uri: &str,
        authorization: Option<HeaderValue>,
        kind: &str,
        offset: u64,
    ) -> Result<(StatusCode, HeaderMap, Body)> {
        let bad = |reason| Error::Protocol {
            host: host.authority().to_owned(),
            reason,
        };
        let mut uri: Uri = uri.parse().map_err(|_| bad("has no valid address"))?;
        let (first, mut authorization) = (uri.authority().cloned(), authorization);
        for _ in 0..=REDIRECTS {
            let mut request = Request::get(uri.clone()).header(USER_AGENT, user_agent());
            if kind == "manifests" {
                request = request.header(ACCEPT, MANIFESTS);
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            if let Some(value) = &authorization {
                request = request.header(AUTHORIZATION, value);
            }
            if uri.authority() == first.as_ref() {
                for (name, value) in &host.headers {
                    request = request.header(name, value);
                }
            }
            let request = request.body(()).map_err(|_| bad("cannot be asked"))?;
            let (status, headers, body) = self.transport.send(request, host).await?;
            if !status.is_redirection() {
                return Ok((status, headers, body));
            }
            let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let to = to.ok_or_else(|| bad("redirects to nowhere"))?;
            let next = resolve(&uri, to).ok_or_else(|| bad("redirects to an invalid address"))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(bad("redirects away from TLS"));
            }
            if next.authority() != uri.authority() {
                authorization = None;
            }
            uri = next;
        }
        Err(bad("redirects too often"))
    }

    /// What to send so that the host lets us in: a token from its token server, or the password
    /// itself.
    async fn answer_challenge(
        &self,
        host: &Host,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>> {
        let credential = self.credential.as_ref().filter(|_| !host.is_mirror);
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let texts = challenges.filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = texts.flat_map(challenge::parse).collect();
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let Some(bearer) = of("bearer") {
            let scope = format!("repository:{}:pull", self.reference.path());
            let transport = &self.transport;
            return challenge::token(transport, host, bearer, &scope, credential)
                .await
                .map(Some);
        }
        match (of("basic"), credential) {
            (Some(_), Some(credential)) => Ok(Some(challenge::basic(credential))),
            _ => Ok(None),
        }
    }
}

/// A `Location` relative to where it was sent from.
fn resolve(from: &Uri, to: &str) -> Option<Uri> {
    let text = match to {
        _ if to.starts_with("https://") || to.starts_with("http://") => to.to_owned(),
        _ if to.starts_with("//") => format!("{}:{to}", from.scheme_str()?),
        _ if to.starts_with('/') => format!("{}://{}{to}", from.scheme_str()?, from.authority()?),
        _ => {
            let dir = from.path().rsplit_once('/').map_or("", |(dir, _)| dir);
            format!("{}://{}{dir}/{to}", from.scheme_str()?, from.authority()?)
        }
    };
    text.split('#').next()?.parse().ok()
}

fn digest_of(bytes: &[u8], algorithm: Algorithm) -> Digest {
    let mut hash = Hasher::new(algorithm);
    hash.update(bytes);
    hash.finish()
}

fn user_agent() -> &'static str {
    concat!("navarch/", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_relative_to_where_they_come_from() {
        let from: Uri = "https://r.example/v2/a/blobs/x?ns=y".parse().unwrap();
        for (to, want) in [
            ("https://cdn.example/b?sig=1", "https://cdn.example/b?sig=1"),
            ("/b", "https://r.example/b"),
            ("//cdn.example/b", "https://cdn.example/b"),
            ("b", "https://r.example/v2/a/blobs/b"),
        ] {
            assert_eq!(resolve(&from, to).unwrap().to_string(), want);
        }
    }
}
