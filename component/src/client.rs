//! The client of the API server.
//!
//! A [`Client`] is a handle to one HTTP/2 connection (more only when its streams run out) with the
//! daemon's credentials, its rate limit and its metrics; [`Client::all`] and [`Client::namespaced`] give
//! the typed [`Api`] of a kind. Answers are asked for in protobuf where the type is known to the
//! catalogue, and in JSON otherwise.
//!
//! What it repeats by itself: answers that say when to come back (429 and 5xx with `Retry-After`),
//! requests that the server never saw (a connection that went away), and reads whose connection broke.
//! A write whose fate is unknown is never repeated.
//!
//! `k8s-openapi` structs drop fields that they do not know. Write objects by patch, apply or status;
//! [`Api::replace`] is for objects that belong to the caller alone, such as leases.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use crate::tracing::Tracer;
use crate::version;

mod api;
mod body;
mod config;
mod credentials;
mod decode;
mod encoding;
mod error;
mod exec;
mod kubeconfig;
mod limit;
mod object;
mod patch;
mod send;
mod tls;
mod transport;
mod uri;
pub(crate) mod watch;

pub(crate) use api::Objects;
pub use api::{Api, ListParams, ResourceVersionMatch, WatchParams};
pub use body::{read_all, stream};
pub use config::{Bearer, Config, ConfigError, Dial, Source};
pub use decode::List;
pub use encoding::Form;
pub use error::Error;
pub use kubeconfig::{Impersonate, Kubeconfig};
pub use limit::RateLimit;
pub use object::{Kind, Object, PartialObjectMetadata, Target};
pub use patch::Patch;
pub use transport::TransportError;
pub use uri::{path_decode, path_escape, percent_decode, query_escape};
pub use watch::{WatchEvent, WatchStream};

/// A handle to the API server; cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// What this handle adds to the shared connection.
    handle: Handle,
}

#[derive(Clone)]
struct Handle {
    user_agent: http::HeaderValue,
    limit: RateLimit,
    timeout: Option<Duration>,
}

struct Inner {
    transport: transport::Transport,
    credentials: credentials::Credentials,
    impersonate: Impersonate,
    metrics: Metrics,
    tracer: Tracer,
    /// `host:port`, as metrics show it.
    host: String,
}

impl Client {
    /// A client of the server that `config` names; it connects when it is first used. `daemon` is the
    /// first part of its user agent.
    ///
    /// # Errors
    /// If certificates, keys or addresses cannot be used.
    pub fn new(
        config: Config,
        daemon: &str,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        let credentials = credentials::Credentials::new(&config, metrics)?;
        let transport = transport::Transport::new(&config, credentials.exec(), tasks.clone())?;
        let host = transport.host().to_owned();
        let inner = Inner {
            transport,
            credentials,
            impersonate: config.impersonate,
            metrics: metrics.clone(),
            tracer: config.tracer,
            host,
        };
        let handle = Handle {
            user_agent: header(&version::user_agent(daemon)),
            limit: RateLimit::new(config.qps, config.burst),
            timeout: config.timeout,
        };
        Ok(Self {
            inner: Arc::new(inner),
            handle,
        })
    }

    /// The same connection under another name, with a rate limit of its own: `kube-controller-manager`
    /// with `leader-election` added, so that neither waits for the other.
    #[must_use]
    pub fn named(&self, suffix: &str, limit: RateLimit) -> Self {
        let agent = self.handle.user_agent.to_str().unwrap_or_default();
        let user_agent = header(&format!("{agent}/{suffix}"));
        Self {
            inner: Arc::clone(&self.inner),
            handle: Handle {
                user_agent,
                limit,
                ..self.handle.clone()
            },
        }
    }

    /// The same client with a limit on each request but watches.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            handle: Handle {
                timeout: Some(timeout),
                ..self.handle.clone()
            },
        }
    }

    /// All objects of a kind: those of cluster scope, or of all namespaces.
    #[must_use]
    pub fn all<K: Kind>(&self) -> Api<K> {
        Api::new(self.clone(), Target::of::<K>(), None)
    }

    /// The objects of a kind in a namespace.
    #[must_use]
    pub fn namespaced<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api::new(self.clone(), Target::of::<K>(), Some(namespace))
    }

    /// The metadata of a kind that is not known when the program is built. Without a namespace, of
    /// cluster scope or all namespaces.
    #[must_use]
    pub fn metadata(&self, target: Target, namespace: Option<&str>) -> Api<PartialObjectMetadata> {
        Api::new(self.clone(), target, namespace)
    }

    /// Where the server is, as `host:port`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    /// The metrics that the client counts in.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.inner.host)
            .finish_non_exhaustive()
    }
}

/// A header value out of a text; characters that headers cannot hold are left out.
fn header(text: &str) -> http::HeaderValue {
    let text: String = text.chars().filter(|c| matches!(c, ' '..='~')).collect();
    http::HeaderValue::try_from(text).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests;
