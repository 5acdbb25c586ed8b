//! OpenAPI documents.

use http::Response;

use crate::body::Body;
use crate::chain::Exchange;

/// The answer, if the path is one of them.
pub fn serve(_x: &Exchange, _path: &str) -> Option<Response<Body>> {
    None
}
