//! Subresources: which request on which one goes where.

use http::Response;
use hyper::body::Incoming;
use resources::status::Failure;

use super::{binding, eviction, get, patch, scale, token, update};
use crate::body::Body;
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::stream;

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let name = x.info.subresource.clone();
    let Some(subresource) = endpoint.resource.subresource(&name) else {
        return Err(Failure::no_such_resource());
    };
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
    if !subresource.verbs.contains(&verb.as_str()) {
        return Err(Failure::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
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
