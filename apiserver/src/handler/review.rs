//! Reviews: resources that are only computed.

use http::Response;
use hyper::body::Incoming;

use crate::body::Body;
use crate::chain::Exchange;
use crate::status::Failure;

pub struct Review {}

#[must_use]
pub fn find(_group: &str, _version: &str, _resource: &str) -> Option<&'static Review> {
    None
}

impl Review {
    pub async fn serve(&self, _x: &mut Exchange, _incoming: Incoming) -> Result<Response<Body>, Failure> {
        Err(Failure::new(501, "NotImplemented", "reviews are not served yet"))
    }
}
