//! What every daemon answers beside its own work: health, `/metrics`, `/configz`, `/version`, `/flagz`,
//! `/statusz`.

use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::RwLock;

use super::{Attributes, Decision};
use super::{
    Authenticator, Authorizer, Connection, Health, Pages, Request, Response, full, json, text,
};
use crate::metrics::Metrics;
use crate::version;

/// The common endpoints of a daemon; cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    health: Health,
    metrics: Metrics,
    configz: Arc<RwLock<serde_json::Map<String, serde_json::Value>>>,
    pages: Option<Pages>,
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

    /// Endpoints that everybody may ask, for plain ports bound to loopback.
    #[must_use]
    pub fn open(health: Health, metrics: Metrics) -> Self {
        Self {
            health,
            metrics,
            configz: Arc::default(),
            pages: None,
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
        self.answer(&request).unwrap_or_else(not_found)
    }

    /// The answer to one of the common paths, or none.
    #[must_use]
    pub fn answer<B>(&self, request: &http::Request<B>) -> Option<Response> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match path {
            "/metrics" => Some(self.scrape(request)),
            "/configz" => Some(json(StatusCode::OK, &*self.configz.read())),
            "/version" => Some(json(StatusCode::OK, &version::info())),
            _ => (self.health.answer(path, query)).or_else(|| self.pages.as_ref()?.answer(request)),
        }
    }

    fn scrape<B>(&self, request: &http::Request<B>) -> Response {
        let accept = request
            .headers()
            .get(ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let (kind, body) = self.metrics.answer(accept);
        let mut response = http::Response::new(full(body));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
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

fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}
