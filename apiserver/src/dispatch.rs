//! From a path to its handler.

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use proto::catalogue::{self, Resource};
use resources::request::RequestInfo;
use resources::status::Failure;
use resources::warnings::lifecycle;

use crate::body::{self, Body};
use crate::chain::{Exchange, traces};
use crate::compress;
use crate::handler::review::{self, Review};
use crate::handler::{self, binding, component_status, subresource};
use crate::registry::Endpoint;
use crate::server::Server;
use crate::{auth, discovery, flowcontrol, health, openapi, peer};

mod index;
pub mod router;

/// Group, version and name of the resource that is a pod's `binding` under another path.
const BINDINGS: (&str, &str, &str) = ("", "v1", "bindings");

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
    /// Statuses of components.
    Components(&'static Resource),
    /// Bindings, which are written into pods.
    Bound(&'a Endpoint),
    /// A resource that is not served.
    Unknown,
    /// What is not about a resource.
    Path,
}

impl<'a> Route<'a> {
    #[must_use]
    pub fn find(server: &'a Server, info: &RequestInfo) -> Self {
        // What begins with two slashes is below no version of the API.
        if !info.is_resource || info.path.starts_with("//") {
            return Self::Path;
        }
        let (group, version, resource) = (&info.group, &info.version, &info.resource);
        if let Some(endpoint) = server.registry.find(group, version, resource) {
            return Self::Stored(endpoint);
        }
        if (group.as_str(), version.as_str(), resource.as_str()) == BINDINGS
            && let Some(pods) = server.registry.find("", "v1", "pods")
        {
            return Self::Bound(pods);
        }
        if let Some(of) = component_status::find(group, version, resource) {
            return Self::Components(of);
        }
        review::find(group, version, resource).map_or(Self::Unknown, Self::Computed)
    }

    /// The resource that is asked for, if it is served.
    #[must_use]
    pub fn resource(self, info: &RequestInfo) -> Option<&'static Resource> {
        match self {
            Self::Stored(endpoint) => Some(endpoint.resource),
            Self::Computed(review) => review.resource(&info.version),
            Self::Components(resource) => Some(resource),
            Self::Bound(_) => bindings(),
            Self::Unknown | Self::Path => None,
        }
    }
}

/// Serves a request that has passed the chain.
pub async fn dispatch(x: &mut Exchange, route: Route<'_>, incoming: Incoming) -> Response<Body> {
    let outcome = match route {
        Route::Path => return Box::pin(paths(x, incoming)).await,
        Route::Unknown => match peer::able(x) {
            able if !able.is_empty() => return Box::pin(peer::hand_on(x, able, incoming)).await,
            _ if x.server.discovery.has_group(&x.info.group) => Err(Failure::no_such_resource()),
            _ => return body::not_found(),
        },
        Route::Computed(review) => Box::pin(review.serve(x, incoming)).await,
        Route::Components(resource) => Box::pin(components(x, resource)).await,
        Route::Bound(pods) => Box::pin(bind(x, pods, incoming)).await,
        Route::Stored(endpoint) => {
            let deadline = tokio::time::Instant::from_std(x.deadline);
            let work = endpoint_request(x, endpoint, incoming);
            match tokio::time::timeout_at(deadline, work).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    if let Some(counted) = &x.counted {
                        counted.termination()();
                    }
                    Err(Failure::timeout(
                        "request did not complete within the allotted timeout",
                    ))
                }
            }
        }
    };
    match outcome {
        Ok(response) => sent(x, response).await,
        Err(failure) => x.failed(&failure),
    }
}

/// An answer on its way. One that takes long is compressed if the client likes, and has the time that its request had.
async fn sent(x: &Exchange, response: Response<Body>) -> Response<Body> {
    if x.info.verb == "watch" || is_stream(&x.info) {
        return response;
    }
    let response = compress::answer(x, response).await;
    match &x.counted {
        Some(counted) => body::until(response, x.deadline, counted.termination()),
        None => response,
    }
}

/// Bindings that name their pod themselves.
pub(crate) fn bindings() -> Option<&'static Resource> {
    let (group, version, name) = BINDINGS;
    catalogue::resource(group, version, name)
}

async fn components(
    x: &mut Exchange,
    resource: &'static Resource,
) -> Result<Response<Body>, Failure> {
    router::check(resource, &x.info, &x.method, &x.headers)?;
    tell_end(x, resource);
    component_status::serve(x, resource).await
}

/// POST of a binding.
async fn bind(
    x: &mut Exchange,
    pods: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let bindings = bindings().ok_or_else(Failure::no_such_resource)?;
    router::check(bindings, &x.info, &x.method, &x.headers)?;
    binding::serve(x, pods, incoming).await
}

/// What is not about a resource: health, discovery, schemas, versions, metrics.
async fn paths(x: &mut Exchange, incoming: Incoming) -> Response<Body> {
    if let Some(response) = index::serve(x) {
        return response;
    }
    let path = x.info.path.trim_end_matches('/').to_owned();
    if let Some(response) = health::serve(x, &path).await {
        return response;
    }
    if let Some(response) = discovery::serve(x, &path) {
        return compress::answer(x, response).await;
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
    if let Some(response) = debug(x, incoming).await {
        return response;
    }
    // What a group that there is has not.
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let group = match parts[..] {
        ["api", _] => Some(""),
        ["apis", group, _] => Some(group),
        _ => None,
    };
    if group.is_some_and(|group| x.server.discovery.has_group(group)) {
        return x.failed(&Failure::no_such_resource());
    }
    body::not_found()
}

async fn endpoint_request(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let resource = endpoint.resource;
    if !x
        .server
        .config
        .served
        .has_part(resource, &x.info.subresource)
    {
        return Err(Failure::no_such_resource());
    }
    router::check(resource, &x.info, &x.method, &x.headers)?;
    // A subresource of the object's own kind goes away with it.
    if matches!(x.info.subresource.as_str(), "" | "status") {
        tell_end(x, resource);
    }
    let _span = traces::handler(x);
    handle(x, endpoint, incoming).await
}

/// Warns of a kind that goes away.
fn tell_end(x: &mut Exchange, resource: &Resource) {
    if let Some(end) = lifecycle::of(resource) {
        let removed = end.removal();
        x.server.requests.deprecated(x, removed.as_deref());
        x.warnings.push(end.warning(resource.kind));
        x.deprecated = Some(removed);
    }
}

/// What can be seen of the process, if that is asked for and allowed.
async fn debug(x: &Exchange, incoming: Incoming) -> Option<Response<Body>> {
    let mut request = Request::new(incoming);
    *request.method_mut() = x.method.clone();
    *request.uri_mut() = x.uri.clone();
    x.server.endpoints.debug(request).await
}

/// The handler at work. Boxed: a request has the room of its own verb, and what is around it is moved cheaply.
fn handle<'a>(
    x: &'a mut Exchange,
    endpoint: &'a Endpoint,
    incoming: Incoming,
) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
    if !x.info.subresource.is_empty() {
        return Box::pin(subresource::serve(x, endpoint, incoming));
    }
    match x.info.verb.as_str() {
        "get" => Box::pin(handler::get::serve(x, endpoint)),
        "list" => Box::pin(handler::list::serve(x, endpoint)),
        "watch" => Box::pin(handler::watch::serve(x, endpoint)),
        "create" => Box::pin(handler::create::serve(x, endpoint, incoming)),
        "update" => Box::pin(handler::update::serve(x, endpoint, incoming)),
        "patch" => Box::pin(handler::patch::serve(x, endpoint, incoming)),
        "delete" => Box::pin(handler::delete::serve(x, endpoint, incoming)),
        "deletecollection" => Box::pin(handler::collection::serve(x, endpoint, incoming)),
        _ => Box::pin(std::future::ready(Err(Failure::no_such_method()))),
    }
}
