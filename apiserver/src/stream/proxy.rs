//! The proxy subresources: HTTP of any kind to a pod, a service or a node.
//!
//! The path behind `/proxy` and the query go on as they came; `Location` headers come back with the
//! server's own path in front.

use http::header::{CONNECTION, HOST, HeaderValue, LOCATION};
use http::{Extensions, Method, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::view::core_v1::{Pod, Service};
use proto::view::discovery_v1::EndpointSlice;
use proto::view::{Node, View};
use rand::seq::SliceRandom;

use super::{forward, kubelet, not_allowed};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::kubelet::{Target, Trust};
use crate::registry::Endpoint;
use crate::status::Failure;

/// The label of an endpoint slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `proxy` of pods, services and nodes.
pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    mut extensions: Extensions,
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
    let target = target(x, endpoint).await?;
    let (prefix, rest) = split(x.uri.path(), x.info.parts.len());
    let query = x.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let upgrade = forward::upgrade(&x.headers, &mut extensions);
    if rest.is_empty() && upgrade.is_none() && matches!(x.method, Method::GET | Method::HEAD) {
        return redirect(&format!("{prefix}/{query}"));
    }
    let path = if rest.is_empty() { "/" } else { rest };
    let mut request = forward::head(x, &target, &format!("{path}{query}"))?;
    if let Some(client) = upgrade {
        return forward::upgraded(&x.server.kubelets, &target, request, client).await;
    }
    let host = request.headers().get(HOST).cloned();
    let headers = request.headers_mut();
    headers.insert("x-forwarded-uri", forward::value(prefix)?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(host) = &host {
        headers.insert("x-forwarded-host", host.clone());
    }
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
    let mut answer = Response::new(incoming.map_err(Into::into).boxed_unsync());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = forward::end_to_end(&head.headers);
    answer.headers_mut().remove(CONNECTION);
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    if let Some(location) = location {
        let host = host
            .as_ref()
            .and_then(|h| h.to_str().ok())
            .unwrap_or_default();
        let own = located(&location, prefix, &[&target.authority(), host]);
        answer.headers_mut().insert(LOCATION, forward::value(&own)?);
    }
    Ok(answer)
}

/// A proxied path without a slash would make all relative links wrong.
fn redirect(to: &str) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(body::full(Vec::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, forward::value(to)?);
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

/// A `Location` of the backend as the client must see it; those of other hosts stay.
fn located(location: &str, prefix: &str, own: &[&str]) -> String {
    let rest = if location.starts_with('/') && !location.starts_with("//") {
        location.to_owned()
    } else {
        match location.parse::<Uri>().ok().map(Uri::into_parts) {
            Some(parts)
                if parts.scheme.is_some()
                    && parts
                        .authority
                        .as_ref()
                        .is_some_and(|a| own.contains(&a.as_str())) =>
            {
                parts
                    .path_and_query
                    .map_or_else(|| "/".to_owned(), |p| p.to_string())
            }
            _ => return location.to_owned(),
        }
    };
    if rest
        .strip_prefix(prefix)
        .is_some_and(|r| r.is_empty() || r.starts_with('/'))
    {
        return rest;
    }
    format!("{prefix}{rest}")
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
    fn redirects_lead_back_through_the_proxy() {
        let at = |l: &str| located(l, "/p/proxy", &["10.0.0.1:80", "api:6443"]);
        assert_eq!(at("/x?y=1"), "/p/proxy/x?y=1");
        assert_eq!(at("/p/proxy/x"), "/p/proxy/x");
        assert_eq!(at("http://10.0.0.1:80/x"), "/p/proxy/x");
        assert_eq!(at("https://example.com/x"), "https://example.com/x");
        assert_eq!(at("//example.com/x"), "//example.com/x");
        assert_eq!(at("x"), "x");
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
