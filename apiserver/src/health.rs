//! Health, metrics and version: the paths that every daemon has.

use http::{Request, Response};

use crate::body::Body;
use crate::chain::Exchange;

/// The answer, if the path is one of them. Whoever asks for health asks etcd.
pub async fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    if ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|p| path.starts_with(p))
    {
        let etcd = &x.server.config.etcd;
        let timeout = if path.starts_with("/readyz") {
            etcd.ready_timeout
        } else {
            etcd.live_timeout
        };
        x.server.storage.ask(timeout).await;
    }
    let mut request = Request::new(());
    *request.method_mut() = x.method.clone();
    *request.uri_mut() = x.uri.clone();
    *request.headers_mut() = x.headers.clone();
    x.server.endpoints.answer(&request)
}
