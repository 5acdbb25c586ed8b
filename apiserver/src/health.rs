//! Health, metrics and version: the paths that every daemon has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};

use crate::body::Body;
use crate::chain::Exchange;

/// How long etcd may take to answer, upstream's `--etcd-healthcheck-timeout`.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The answer, if the path is one of them. Whoever asks for health asks etcd.
pub async fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    if ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|p| path.starts_with(p))
    {
        let answers = x.server.store.health(TIMEOUT).await.is_ok();
        x.server.etcd_answers.store(answers, Ordering::Relaxed);
    }
    let mut request = Request::new(());
    *request.method_mut() = x.method.clone();
    *request.uri_mut() = x.uri.clone();
    *request.headers_mut() = x.headers.clone();
    x.server.endpoints.answer(&request)
}
