//! Health, metrics and version: the paths that every daemon has.

use http::{Request, Response};

use crate::body::Body;
use crate::chain::Exchange;

/// The answer, if the path is one of them.
pub fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    let mut request = Request::new(());
    *request.method_mut() = x.method.clone();
    *request.uri_mut() = x.uri.clone();
    *request.headers_mut() = x.headers.clone();
    debug_assert!(x.uri.path().trim_end_matches('/') == path);
    x.server.endpoints.answer(&request)
}
