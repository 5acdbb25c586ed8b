//! From a path to its handler.

use http::{Method, Response};
use hyper::body::Incoming;
use resources::request::RequestInfo;
use resources::status::Failure;
use resources::warnings::lifecycle;

use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::handler::review::{self, Review};
use crate::handler::{self, subresource};
use crate::registry::Endpoint;
use crate::server::Server;
use crate::{auth, discovery, flowcontrol, health, openapi};

/// Subresources whose requests last as long as the client likes.
const STREAMS: [&str; 5] = ["exec", "attach", "portforward", "log", "proxy"];

/// Whether a request is a stream: it has no deadline and is not counted as in flight.
#[must_use]
pub fn is_stream(info: &RequestInfo) -> bool {
    info.is_resource && STREAMS.contains(&info.subresource.as_str())
}

/// What serves a request.
#[derive(Clone, Copy)]
pub enum Route<'a> {
    Stored(&'a Endpoint),
    Computed(&'static Review),
    /// A resource that is not served.
    Unknown,
    /// What is not about a resource.
    Path,
}

impl<'a> Route<'a> {
    #[must_use]
    pub fn find(server: &'a Server, info: &RequestInfo) -> Self {
        if !info.is_resource {
            return Self::Path;
        }
        let (group, version, resource) = (&info.group, &info.version, &info.resource);
        if let Some(endpoint) = server.registry.find(group, version, resource) {
            return Self::Stored(endpoint);
        }
        review::find(group, version, resource).map_or(Self::Unknown, Self::Computed)
    }
}

/// Serves a request that has passed the chain.
pub async fn dispatch(x: &mut Exchange, route: Route<'_>, incoming: Incoming) -> Response<Body> {
    let outcome = match route {
        Route::Path => return paths(x).await,
        Route::Unknown => return body::not_found(),
        Route::Computed(review) => review.serve(x, incoming).await,
        Route::Stored(endpoint) => {
            let deadline = tokio::time::Instant::from_std(x.deadline);
            let work = endpoint_request(x, endpoint, incoming);
            match tokio::time::timeout_at(deadline, work).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::timeout(
                    "request did not complete within the allotted timeout",
                )),
            }
        }
    };
    outcome.unwrap_or_else(|failure| x.failed(&failure))
}

/// What is not about a resource: health, discovery, schemas, versions, metrics.
async fn paths(x: &mut Exchange) -> Response<Body> {
    let path = x.info.path.trim_end_matches('/').to_owned();
    if let Some(response) = health::serve(x, &path).await {
        return response;
    }
    if let Some(response) = discovery::serve(x, &path) {
        return response;
    }
    if let Some(response) = openapi::serve(x, &path) {
        return response;
    }
    if let Some(response) = auth::openid::serve(&x.server, &path) {
        return response;
    }
    if let Some(response) = flowcontrol::dump::serve(x, &path) {
        return response;
    }
    body::not_found()
}

async fn endpoint_request(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let resource = endpoint.resource;
    if resource.namespaced
        && x.info.namespace.is_empty()
        && !matches!(x.info.verb.as_str(), "list" | "watch")
    {
        // `POST /api/v1/pods` is routed nowhere by upstream.
        return Err(not_supported(x));
    }
    if !resource.namespaced && !x.info.namespace.is_empty() && resource.name != "namespaces" {
        return Err(Failure::no_such_resource());
    }
    // A subresource of the object's own kind goes away with it.
    if matches!(x.info.subresource.as_str(), "" | "status") {
        x.warnings.extend(lifecycle::warning(resource));
    }
    if !x.info.subresource.is_empty() {
        return subresource::serve(x, endpoint, incoming).await;
    }
    if !resource.can(&x.info.verb) {
        return Err(not_supported(x));
    }
    match x.info.verb.as_str() {
        "get" => handler::get::serve(x, endpoint).await,
        "list" => handler::list::serve(x, endpoint).await,
        "watch" => handler::watch::serve(x, endpoint).await,
        "create" => handler::create::serve(x, endpoint, incoming).await,
        "update" => handler::update::serve(x, endpoint, incoming).await,
        "patch" => handler::patch::serve(x, endpoint, incoming).await,
        "delete" => handler::delete::serve(x, endpoint, incoming).await,
        "deletecollection" => handler::collection::serve(x, endpoint, incoming).await,
        _ => Err(not_supported(x)),
    }
}

/// 405 as upstream's router words it.
fn not_supported(x: &Exchange) -> Failure {
    let verb = match x.method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    Failure::new(
        405,
        "MethodNotAllowed",
        format!("the server does not allow this method on the requested resource ({verb})"),
    )
}
