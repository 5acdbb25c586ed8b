//! Health, metrics and version: the paths that every daemon has.

use http::{Method, Request, Response};
use resources::status::Failure;

use crate::body::Body;
use crate::chain::Exchange;
use crate::dispatch::router;

const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// The answer, if the path is one of them. Whoever asks for health asks etcd and plugins; who asks for
/// metrics asks etcd.
pub async fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    if HEALTH.iter().any(|of| path.starts_with(of)) {
        let etcd = &x.server.config.etcd;
        let timeout = if path.starts_with("/readyz") {
            etcd.ready_timeout
        } else {
            etcd.live_timeout
        };
        x.server.storage.ask(timeout).await;
        if let Some(encryption) = &x.server.encryption
            && !path.starts_with("/livez")
        {
            encryption.ask().await;
        }
    }
    if path == "/metrics" {
        x.server.storage.measure().await;
    }
    if path == "/version" {
        if x.method != Method::GET {
            return Some(x.failed(&Failure::no_such_method()));
        }
        if let Err(failure) = router::accept(&x.headers, &["application/json"]) {
            return Some(x.failed(&failure));
        }
    }
    if path == "/configz" {
        // Upstream's API server has none, other than its siblings.
        return None;
    }
    let mut request = Request::new(());
    // Health is told to whoever asks, in whatever way.
    *request.method_mut() = match HEALTH.iter().any(|of| path.starts_with(of)) {
        true => Method::GET,
        false => x.method.clone(),
    };
    *request.uri_mut() = x.uri.clone();
    *request.headers_mut() = x.headers.clone();
    x.server.endpoints.answer(&request)
}
