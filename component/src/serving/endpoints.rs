//! What every daemon answers beside its own work: health, `/metrics`, `/metrics/slis`, `/configz`, `/version`, `/flagz`,
//! `/statusz`, `/debug/pprof`, `/debug/flags/v`.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use parking_lot::RwLock;

use super::{Attributes, Decision};
use super::{
    Authenticator, Authorizer, Connection, Debug, Health, Pages, Request, Response, full, json,
    text,
};
use crate::compatibility::EffectiveVersion;
use crate::metrics::Metrics;
use crate::supervisor::BoxError;

/// The common endpoints of a daemon; cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    health: Health,
    metrics: Metrics,
    configz: Arc<RwLock<serde_json::Map<String, serde_json::Value>>>,
    pages: Option<Pages>,
    debug: Option<Debug>,
    guard: Option<Arc<Guard>>,
}

/// Who may ask for what is not open to everybody.
struct Guard {
    authenticator: Authenticator,
    authorizer: Authorizer,
}

impl Endpoints {
    /// What every daemon serves.
    pub const PATHS: [&str; 6] = [
        "/configz", "/healthz", "/livez", "/metrics", "/readyz", "/version",
    ];
    /// How checks ended; a DELETE begins anew.
    const RESULTS: &str = "/metrics/slis";

    /// Endpoints that everybody may ask, for plain ports bound to loopback.
    #[must_use]
    pub fn open(health: Health, metrics: Metrics) -> Self {
        Self {
            health,
            metrics,
            configz: Arc::default(),
            pages: None,
            debug: None,
            guard: None,
        }
    }

    /// The same endpoints, asking the API server who may read them.
    #[must_use]
    pub fn guarded(self, authenticator: Authenticator, authorizer: Authorizer) -> Self {
        Self {
            guard: Some(Arc::new(Guard {
                authenticator,
                authorizer,
            })),
            ..self
        }
    }

    /// Shows what the process was started with, at `/flagz` and `/statusz`.
    #[must_use]
    pub fn with_pages(self, pages: Pages) -> Self {
        let pages = Some(pages);
        Self { pages, ..self }
    }

    /// Shows what can be seen of the running process at `/debug/pprof`, and lets its verbosity be set at `/debug/flags/v`, if this
    /// is asked for (`--profiling`).
    #[must_use]
    pub fn with_debug(self, wanted: bool) -> Self {
        let debug = wanted.then_some(Debug {
            command_line: false,
        });
        Self { debug, ..self }
    }

    /// Shows a configuration under `name` at `/configz`. It must hold no secret.
    pub fn configz(&self, name: &str, config: serde_json::Value) {
        self.configz.write().insert(name.to_owned(), config);
    }

    /// Answers a request to a daemon that has no other paths: authentication, authorization, then the
    /// endpoint, or 404.
    pub async fn serve(self, request: Request) -> Response {
        if let Some(guard) = &self.guard
            && let Err(refusal) = guard.pass(&request).await
        {
            return refusal;
        }
        if let Some(response) = self.answer(&request) {
            return response;
        }
        self.debug(request).await.unwrap_or_else(not_found)
    }

    /// The checks that are answered with.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The answer to a path below `/debug`, or none.
    pub async fn debug<B>(&self, request: http::Request<B>) -> Option<Response>
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>>,
    {
        self.debug?.answer(request).await
    }

    /// The answer to one of the common paths, or none.
    #[must_use]
    pub fn answer<B>(&self, request: &http::Request<B>) -> Option<Response> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        match path {
            // By whatever method, as upstream's are asked.
            "/metrics" => Some(exposed(request, |accept| self.metrics.answer(accept))),
            Self::RESULTS => Some(self.health.results().serve(request)),
            "/configz" => Some(json(StatusCode::OK, &*self.configz.read())),
            "/version" => Some(json(StatusCode::OK, &self.version().info())),
            _ => (self.health.answer(path, query)).or_else(|| self.pages.as_ref()?.answer(request)),
        }
    }

    fn version(&self) -> EffectiveVersion {
        let pages = self.pages.as_ref();
        pages.map(Pages::version).unwrap_or_default()
    }
}

/// Metrics in the form that the client takes: `answer` is given its `Accept` header, and gives a media type and the text.
pub fn exposed<B>(
    request: &http::Request<B>,
    answer: impl FnOnce(&str) -> (&'static str, String),
) -> Response {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let (kind, body) = answer(accept);
    let mut response = http::Response::new(full(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl Guard {
    async fn pass<B>(&self, request: &http::Request<B>) -> Result<(), Response> {
        let attributes = Attributes::of_path(request);
        if self.authorizer.always_allows(&attributes.path) {
            return Ok(());
        }
        let user = match self.authenticator.authenticate(request).await {
            Ok(user) => user,
            Err(e) => {
                tracing::debug!(error = %e, "Unable to authenticate the request");
                if let Some(connection) = Connection::of(request) {
                    connection.close();
                }
                return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized\n"));
            }
        };
        match self.authorizer.authorize(&user, &attributes).await {
            Ok(Decision::Allowed) => Ok(()),
            Ok(Decision::Denied(reason)) => Err(text(
                StatusCode::FORBIDDEN,
                format!(
                    "forbidden: User {:?} cannot {} path {:?}{}{reason}\n",
                    user.name,
                    attributes.verb,
                    attributes.path,
                    if reason.is_empty() { "" } else { ": " },
                ),
            )),
            Err(e) => {
                tracing::warn!(error = %e, "Cannot ask for authorization");
                Err(text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("Internal Server Error: {:?}\n", attributes.path),
                ))
            }
        }
    }
}

pub(super) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}
