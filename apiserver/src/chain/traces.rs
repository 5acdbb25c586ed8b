//! Requests as traces. They stand behind authentication, so that it is known whose word on what is recorded
//! counts, and around everything that comes after it.
//!
//! Upstream: `apiserver/pkg/endpoints/filters/traces.go`, `handlers/trace_util.go`.

use component::tracing::{Attributes, Incoming as Came, Span, is_recorded, span};
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderName, Response, Version};
use hyper::body::{Body as _, Incoming};
use resources::request::RequestInfo;

use super::{Exchange, Route, recorded};
use crate::body::Body;

/// Whose word on what is recorded counts (upstream's `notSystemPrivilegedGroup`).
const TRUSTED: [&str; 2] = ["system:masters", "system:monitoring"];

/// Answers a request, within its trace if it is of one.
pub(super) async fn traced(
    x: &mut Exchange,
    route: Route<'_>,
    incoming: Incoming,
) -> Response<Body> {
    let came = Came {
        method: &x.method,
        uri: &x.uri,
        version: x.version,
        headers: &x.headers,
        connection: &x.connection,
        body: incoming.size_hint().exact(),
        received: x.received,
        audit_id: &x.audit_id,
        server: None,
    };
    let is_trusted = |group: &String| TRUSTED.contains(&group.as_str());
    let trusted = || x.user.groups.iter().any(is_trusted);
    let name = || name(x.method.as_str(), &x.info);
    let Some(serving) = x.server.tracer.incoming(&came, trusted, name) else {
        return recorded(x, route, incoming).await;
    };
    let response = Box::pin(serving.within(recorded(x, route, incoming))).await;
    serving.answered(response)
}

/// What dashboards group requests by: the method, and the path without the names in it.
fn name(method: &str, info: &RequestInfo) -> String {
    if !info.is_resource {
        return method.to_owned();
    }
    let mut name = format!("{method} /{}", info.prefix);
    let mut step = |text: &str| {
        if !text.is_empty() {
            name.push('/');
            name.push_str(text);
        }
    };
    step(&info.group);
    step(&info.version);
    if !info.namespace.is_empty() {
        step("namespaces/{:namespace}");
    }
    step(&info.resource);
    if !info.name.is_empty() {
        step("{:name}");
    }
    step(&info.subresource);
    name
}

/// Impersonation, and what comes after it.
pub(super) fn impersonating(x: &Exchange) -> Option<Span> {
    is_recorded().then(|| {
        let constrained = x.server.config.features.enabled("ConstrainedImpersonation");
        let name = match constrained {
            true => "constrainedimpersonation",
            false => "impersonation",
        };
        span(name, |_| {})
    })
}

/// The work of a handler.
pub(crate) fn handler(x: &Exchange) -> Span {
    span(verb(x), |a| describe(x, a))
}

fn verb(x: &Exchange) -> &'static str {
    match x.info.verb.as_str() {
        "list" => "List",
        "watch" if x.query.get("sendInitialEvents") == Some("true") => "WatchList",
        "watch" => "cacher.Watch",
        "create" => "Create",
        "update" => "Update",
        "patch" => "Patch",
        "delete" | "deletecollection" => "Delete",
        _ => "Get",
    }
}

fn describe(x: &Exchange, a: &mut Attributes<'_>) {
    let header = |name: HeaderName| x.headers.get(name).and_then(|value| value.to_str().ok());
    let info = &x.info;
    a.text("accept", header(ACCEPT).unwrap_or_default());
    a.audit_id();
    a.text("client", x.connection.peer.ip().to_canonical().to_string());
    a.text("api-group", &info.group);
    a.text("api-version", &info.version);
    a.text("name", &info.name);
    a.text("subresource", &info.subresource);
    a.text("namespace", &info.namespace);
    a.text("protocol", protocol(x));
    a.text("resource", &info.resource);
    a.text("scope", crate::metrics::scope(x));
    a.text("url", x.uri.path());
    a.text("user-agent", header(USER_AGENT).unwrap_or("unknown"));
    a.text("verb", crate::metrics::verb(x));
}

/// As Go calls it.
fn protocol(x: &Exchange) -> &'static str {
    match x.version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// The making of an answer's body.
pub(crate) fn serializing(x: &Exchange, media_type: &str) -> Span {
    span("SerializeObject", |a| {
        a.audit_id();
        a.text("method", x.method.as_str());
        a.text("url", x.uri.path());
        a.text("protocol", protocol(x));
        a.text("mediaType", media_type);
    })
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use resources::request::Query;

    use super::*;

    #[test]
    fn a_request_is_named_without_the_names_in_it() {
        for (method, path, expected) in [
            (Method::GET, "/healthz", "GET"),
            (Method::GET, "/apis/apps/v1", "GET"),
            (Method::POST, "/api/v1/nodes", "POST /api/v1/nodes"),
            (Method::GET, "/api/v1/nodes/a", "GET /api/v1/nodes/{:name}"),
            (
                Method::PUT,
                "/apis/apps/v1/namespaces/default/deployments/web/scale",
                "PUT /apis/apps/v1/namespaces/{:namespace}/deployments/{:name}/scale",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/default/pods?watch=true",
                "GET /api/v1/namespaces/{:namespace}/pods",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/default",
                "GET /api/v1/namespaces/{:namespace}/namespaces/{:name}",
            ),
        ] {
            let uri: Uri = path.parse().unwrap();
            let query = Query::parse(&uri);
            let info = RequestInfo::read(&method, &uri, &query).unwrap();
            assert_eq!(name(method.as_str(), &info), expected, "{path}");
        }
    }
}
