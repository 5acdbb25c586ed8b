//! `serviceaccounts/token`.

use http::Response;
use hyper::body::Incoming;

use crate::body::Body;
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::status::Failure;

pub async fn serve(_x: &mut Exchange, _endpoint: &Endpoint, _incoming: Incoming) -> Result<Response<Body>, Failure> {
    Err(Failure::new(501, "NotImplemented", "tokens are not served yet"))
}
