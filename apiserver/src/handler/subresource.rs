//! Subresources: which request on which one goes where.

use http::Response;
use hyper::body::Incoming;
use resources::negotiate::Offers;
use resources::request::RequestInfo;
use resources::status::Failure;

use super::{binding, eviction, get, patch, scale, token, update};
use crate::body::Body;
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::stream;

/// Subresources of their resource's kind whose handlers upstream gave no tables.
const UNTABLED: [(&str, &str); 8] = [
    ("certificatesigningrequests", "approval"),
    ("compositepodgroups", "status"),
    ("devicetaintrules", "status"),
    ("podgroups", "status"),
    ("pods", "ephemeralcontainers"),
    ("pods", "resize"),
    ("resourceclaims", "status"),
    ("resourcepoolstatusrequests", "status"),
];

/// What answers about an object can be had in.
#[must_use]
pub fn offers(info: &RequestInfo) -> Offers {
    let at = (info.resource.as_str(), info.subresource.as_str());
    if UNTABLED.contains(&at) {
        Offers::Untabled
    } else {
        Offers::Object
    }
}

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let name = x.info.subresource.clone();
    let verb = x.info.verb.clone();
    match (endpoint.resource.name, name.as_str()) {
        ("pods", "binding") if verb == "create" => {
            return binding::serve(x, endpoint, incoming).await;
        }
        ("pods", "eviction") if verb == "create" => {
            return eviction::serve(x, endpoint, incoming).await;
        }
        ("serviceaccounts", "token") if verb == "create" => {
            return token::serve(x, endpoint, incoming).await;
        }
        ("pods", "log" | "exec" | "attach" | "portforward") => {
            return stream::pod(x, endpoint).await;
        }
        ("pods" | "services" | "nodes", "proxy") => {
            return stream::proxy(x, endpoint, incoming).await;
        }
        (_, "scale") => return scale::serve(x, endpoint, incoming).await,
        _ => {}
    }
    let part = endpoint.strategy.part(&name);
    let part = part.ok_or_else(Failure::no_such_resource)?;
    match verb.as_str() {
        "get" => get::serve(x, endpoint).await,
        "update" => update::part(x, endpoint, Some(part), incoming).await,
        "patch" => patch::part(x, endpoint, Some(part), incoming).await,
        _ => Err(Failure::no_such_resource()),
    }
}
