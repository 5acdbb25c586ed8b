//! Streams to kubelets and pods.

use http::{Extensions, Response};
use hyper::body::Incoming;

use crate::body::Body;
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::status::Failure;

pub async fn pod(
    _x: &mut Exchange,
    _endpoint: &Endpoint,
    _extensions: Extensions,
    _incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    Err(Failure::new(
        501,
        "NotImplemented",
        "streams are not served yet",
    ))
}

pub async fn proxy(
    _x: &mut Exchange,
    _endpoint: &Endpoint,
    _extensions: Extensions,
    _incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    Err(Failure::new(
        501,
        "NotImplemented",
        "proxies are not served yet",
    ))
}
