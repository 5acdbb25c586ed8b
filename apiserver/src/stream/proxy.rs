//! The proxy subresources: HTTP of any kind to a pod, a service or a node.
//!
//! The path behind `/proxy` and the query go on as they came; redirects and the links of pages come
//! back with the server's own path in front.

use http::header::{CACHE_CONTROL, CONNECTION, HOST, HeaderMap, HeaderValue, LOCATION};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::view::core_v1::{Pod, Service};
use proto::view::discovery_v1::EndpointSlice;
use proto::view::{Node, View};
use rand::seq::SliceRandom;
use resources::status::Failure;

use self::links::Links;
use super::{forward, kubelet, not_allowed};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::kubelet::{Target, Trust};
use crate::registry::Endpoint;

pub(crate) mod html;
pub(crate) mod links;
mod page;

/// The label of an endpoint slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `proxy` of pods, services and nodes.
pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if !methods.contains(&x.method) {
        return Err(not_allowed(x));
    }
    super::admit(x, endpoint).await?;
    let target = target(x, endpoint).await?;
    let (prefix, rest) = split(x.uri.path(), x.info.parts.len());
    let query = x.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let upgrade = forward::upgrade(&x.headers, &mut x.upgrade);
    if rest.is_empty() && upgrade.is_none() && matches!(x.method, Method::GET | Method::HEAD) {
        return redirect(&format!("{prefix}/{query}"));
    }
    let path = if rest.is_empty() { "/" } else { rest };
    let mut request = forward::head(x, &target, &format!("{path}{query}"))?;
    if let Some(client) = upgrade {
        return forward::upgraded(&x.server.kubelets, &target, request, client, &mut x.counted)
            .await;
    }
    let host = request.headers().get(HOST).and_then(|v| v.to_str().ok());
    let links = Links {
        prefix: prefix.to_owned(),
        backend: target.authority(),
        host: host.unwrap_or_default().to_owned(),
    };
    // Upstream knows neither scheme nor host of its own, so that the backend is told of none.
    let whole = forward::value(&links.forwarded(rest))?;
    request.headers_mut().insert("x-forwarded-uri", whole);
    *request.body_mut() = incoming.map_err(Into::into).boxed_unsync();
    let problem = |e: &dyn std::fmt::Display| {
        Failure::unavailable(format!("error trying to reach service: {e}"))
    };
    let connected = x.server.kubelets.connect(&target).await;
    let mut sender = connected.map_err(|e| match e {
        crate::kubelet::Error::NotAllowed => Failure::bad_request(e.to_string()),
        other => problem(&other),
    })?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| problem(&e))?;
    let (head, incoming) = response.into_parts();
    let mut headers = forward::end_to_end(&head.headers);
    let mut body = incoming.map_err(Into::into).boxed_unsync();
    let bare = x.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
    if !came_back(&links, &mut headers)? && !bare {
        body = page::through(links, &mut headers, body);
    }
    let mut answer = Response::new(body);
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers;
    not_kept(&mut answer);
    Ok(answer)
}

/// What a backend says to browsers about other origins, which is for this server to say.
const CROSS_ORIGIN: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// The headers of an answer as the client may have them; whether it is a redirect.
fn came_back(links: &Links, headers: &mut HeaderMap) -> Result<bool, Failure> {
    headers.remove(CONNECTION);
    for name in CROSS_ORIGIN {
        headers.remove(name);
    }
    let to = headers.get(LOCATION).and_then(|v| v.to_str().ok());
    let Some(to) = to.filter(|to| !to.is_empty()) else {
        return Ok(false);
    };
    if let Some((before, stays)) = links.through(to) {
        let own = forward::value(&(before + stays))?;
        headers.insert(LOCATION, own);
    }
    Ok(true)
}

/// What this server says of all its answers to callers in between, beside what a backend says.
fn not_kept(response: &mut Response<Body>) {
    let rule = HeaderValue::from_static("no-cache, private");
    response.headers_mut().append(CACHE_CONTROL, rule);
}

/// A proxied path without a slash would make all relative links wrong.
fn redirect(to: &str) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(body::full(Vec::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, forward::value(to)?);
    not_kept(&mut response);
    Ok(response)
}

/// A path up to and including `/proxy`, and what is behind it as it came. `parts` is how many segments
/// there are from the resource on: resource, name, `proxy`, and the rest.
fn split(path: &str, parts: usize) -> (&str, &str) {
    let trimmed = path.trim_matches('/');
    let before = trimmed.split('/').count().saturating_sub(parts) + 3;
    let start = path.len() - path.trim_start_matches('/').len();
    let ends = path[start..].match_indices('/').nth(before - 1);
    let at = ends.map_or(path.len(), |(i, _)| start + i);
    path.split_at(at)
}

/// `name`, `name:port` or `scheme:name:port`.
struct Id<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return None;
        }
        Some(Self {
            https: scheme == "https",
            name,
            port,
        })
    }

    fn to(&self, host: &str, port: u16) -> Target {
        let trust = if self.https {
            Trust::Anyone
        } else {
            Trust::Plain
        };
        Target {
            host: host.to_owned(),
            port,
            trust,
            name: None,
            global_only: true,
        }
    }

    /// The port asked for; `default` if there is none.
    fn port_or(&self, default: u16) -> Result<u16, Failure> {
        if self.port.is_empty() {
            return Ok(default);
        }
        self.port.parse().map_err(|_| {
            let name = proto::path::quote(self.port);
            Failure::unavailable(format!(
                "error trying to reach service: unknown port {name}"
            ))
        })
    }
}

async fn target(x: &Exchange, endpoint: &Endpoint) -> Result<Target, Failure> {
    let resource = endpoint.resource.name;
    let kind = resource.trim_end_matches('s');
    let id = Id::parse(&x.info.name).ok_or_else(|| {
        let id = proto::path::quote(&x.info.name);
        Failure::bad_request(format!("invalid {kind} request {id}"))
    })?;
    match resource {
        "nodes" => node(x, &id).await,
        "services" => service(x, &id).await,
        _ => pod(x, &id).await,
    }
}

async fn node(x: &Exchange, id: &Id<'_>) -> Result<Target, Failure> {
    let kubelet = kubelet(x, id.name).await?;
    let port = id.port_or(kubelet.port)?;
    if port == kubelet.port {
        return Ok(Target {
            global_only: true,
            ..kubelet
        });
    }
    Ok(id.to(&kubelet.host, port))
}

async fn pod(x: &Exchange, id: &Id<'_>) -> Result<Target, Failure> {
    let namespace = &x.info.namespace;
    let object = x
        .server
        .lookup("", "pods", namespace, id.name)
        .await?
        .ok_or_else(|| Failure::not_found("", "pods", id.name))?;
    let pod = Pod::of(Node::new(&object));
    let declared = pod
        .spec()
        .containers()
        .into_iter()
        .find_map(|c| c.ports().into_iter().next().map(|p| p.container_port()))
        .and_then(|p| u16::try_from(p).ok());
    let port = id.port_or(declared.unwrap_or(if id.https { 443 } else { 80 }))?;
    let address = pod
        .status()
        .pod_ips()
        .into_iter()
        .next()
        .map(|ip| ip.ip().to_owned());
    let address = address.filter(|a| global(a));
    let address = address.ok_or_else(|| Failure::bad_request("address not allowed"))?;
    Ok(id.to(&address, port))
}

fn global(address: &str) -> bool {
    address.parse().is_ok_and(crate::kubelet::is_global_unicast)
}

/// A ready endpoint of the service that is a pod of its namespace, by chance.
async fn service(x: &Exchange, id: &Id<'_>) -> Result<Target, Failure> {
    let namespace = x.info.namespace.as_str();
    let wanted = match id.port.parse::<i64>() {
        Ok(number) => port_name(x, id, number).await?,
        Err(_) => id.port.to_owned(),
    };
    let none = || {
        Failure::unavailable(format!(
            "no endpoints available for service {}",
            proto::path::quote(id.name)
        ))
    };
    let mut found: Vec<(String, u16, String)> = Vec::new();
    for object in x.server.objects("discovery.k8s.io", "endpointslices") {
        let slice = EndpointSlice::of(Node::new(&object));
        let of = slice
            .metadata()
            .labels()
            .get(SERVICE_NAME)
            .and_then(proto::Value::as_str);
        if slice.metadata().namespace() != namespace || of != Some(id.name) {
            continue;
        }
        let port = slice
            .ports()
            .into_iter()
            .find(|p| p.name().unwrap_or_default() == wanted)
            .and_then(|p| p.port())
            .and_then(|p| u16::try_from(p).ok());
        let Some(port) = port else { continue };
        for endpoint in slice.endpoints() {
            let ready = endpoint.conditions().ready().unwrap_or(true);
            let address = endpoint.addresses().first().and_then(proto::Value::as_str);
            let pod = endpoint.target_ref().filter(|t| t.namespace() == namespace);
            if let (true, Some(address), Some(pod)) = (ready, address, pod) {
                found.push((address.to_owned(), port, pod.name().to_owned()));
            }
        }
    }
    // Only addresses that are really those of pods: slices are written by users too.
    found.shuffle(&mut rand::rng());
    for (address, port, name) in &found {
        let object = x.server.lookup("", "pods", namespace, name).await?;
        let is_pods = object.as_ref().is_some_and(|object| {
            let pod = Pod::of(Node::new(object));
            pod.status()
                .pod_ips()
                .into_iter()
                .any(|ip| ip.ip() == address)
        });
        if is_pods {
            return Ok(id.to(address, *port));
        }
    }
    Err(none())
}

/// The name of the service's port with that number.
async fn port_name(x: &Exchange, id: &Id<'_>, number: i64) -> Result<String, Failure> {
    let object = x
        .server
        .lookup("", "services", &x.info.namespace, id.name)
        .await?
        .ok_or_else(|| Failure::not_found("", "services", id.name))?;
    let service = Service::of(Node::new(&object));
    let port = service
        .spec()
        .ports()
        .into_iter()
        .find(|p| p.port() == number);
    port.map(|p| p.name().to_owned()).ok_or_else(|| {
        let name = proto::path::quote(id.name);
        Failure::unavailable(format!("no service port {number} found for service {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_proxy_goes_on_as_it_came() {
        let pod = "/api/v1/namespaces/n/pods/p:80/proxy";
        assert_eq!(split(pod, 3), (pod, ""));
        assert_eq!(split(&format!("{pod}/"), 3), (pod, "/"));
        assert_eq!(split(&format!("{pod}/a%2Fb//c/"), 6), (pod, "/a%2Fb//c/"));
        assert_eq!(
            split("/api/v1/nodes/x/proxy/logs", 4),
            ("/api/v1/nodes/x/proxy", "/logs")
        );
    }

    #[test]
    fn schemes_names_and_ports_are_told_apart() {
        let id = Id::parse("https:web:8443").expect("three parts");
        assert!(id.https && id.name == "web" && id.port == "8443");
        assert!(Id::parse("ftp:web:21").is_none());
        assert!(Id::parse(":80").is_none());
        assert!(Id::parse("a:b:c:d").is_none());
    }
}
