//! Where a service is, as the caches have it.

use std::net::IpAddr;
use std::sync::Arc;

use component::client::Dial;
use proto::Value;
use proto::path::quote;
use proto::view::core_v1::Service;
use proto::view::discovery_v1::EndpointSlice;
use proto::view::{Node, View};
use rand::Rng;
use rand::seq::SliceRandom;
use resources::object::{self, Type};
use store::Collection;
use tokio::net::TcpStream;

use super::text;
use crate::server::Server;

/// The label of an endpoint slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port of a service. Where it is may be asked again and again.
pub(super) struct Place {
    namespace: String,
    name: String,
    port: u16,
    /// Where it is if it is this server's own.
    own: Option<String>,
    services: Option<Kept>,
    slices: Option<Kept>,
    /// One of its endpoints is meant, not what leads to all of them.
    endpoint: bool,
}

/// Objects of one kind.
struct Kept {
    collection: Arc<Collection>,
    hub: Type,
}

impl Kept {
    fn of(server: &Server, group: &str, resource: &str) -> Option<Self> {
        let endpoint = server.registry.any_version(group, resource)?;
        Some(Self {
            collection: Arc::clone(&endpoint.collection),
            hub: endpoint.hub,
        })
    }
}

impl Place {
    pub(super) fn new(server: &Server, namespace: &str, name: &str, port: u16) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
            own: server.loopback.resolve(namespace, name, port),
            services: Kept::of(server, "", "services"),
            slices: Kept::of(server, "discovery.k8s.io", "endpointslices"),
            endpoint: server.config.endpoint_routing,
        }
    }

    /// `host:port`, as it is now.
    ///
    /// # Errors
    /// The text of why there is no way there.
    pub(super) fn resolve(&self) -> Result<String, String> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        let absent = || format!("service {} not found", quote(&self.name));
        let kept = self.services.as_ref().ok_or_else(absent)?;
        let key = format!("{}/{}", self.namespace, self.name);
        let entry = kept.collection.peek(&key).ok_or_else(absent)?;
        let object = object::from_body(&entry.body, &kept.hub);
        let object = object.map_err(|e| e.message().to_owned())?;
        let service = Service::of(Node::new(&object));
        if self.endpoint {
            return self.endpoint(service);
        }
        of_cluster(service, self.port)
    }

    /// Connects to where it is whenever a connection is made.
    pub(super) fn dial(self) -> Dial {
        let place = Arc::new(self);
        Dial(Arc::new(move || {
            let place = Arc::clone(&place);
            Box::pin(async move {
                let address = place.resolve().map_err(std::io::Error::other)?;
                let connected = TcpStream::connect(&address).await;
                connected.map_err(|e| std::io::Error::other(text::unconnected(&e, &address)))
            })
        }))
    }

    /// One of the ready endpoints, by chance, of the service's first family if there is one.
    fn endpoint(&self, service: Service<'_>) -> Result<String, String> {
        let kind = service.spec().r#type();
        if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
            return Err(format!("unsupported service type {}", quote(kind)));
        }
        let wanted = port_name(service, self.port)?;
        let mut slices = self.slices();
        slices.shuffle(&mut rand::rng());
        let family = service.spec().ip_families().first().and_then(Value::as_str);
        let family = family.unwrap_or_default();
        // Stable: by chance within a family.
        slices.sort_by_key(|slice| of(slice).address_type() != family);
        let found = slices.iter().find_map(|slice| pick(of(slice), wanted));
        found.ok_or_else(|| format!("no endpoints available for service {}", quote(&self.name)))
    }

    fn slices(&self) -> Vec<Value> {
        let Some(kept) = &self.slices else {
            return Vec::new();
        };
        let Ok((entries, _)) = kept.collection.snapshot() else {
            return Vec::new();
        };
        let prefix = format!("{}/", self.namespace);
        // What a slice belongs to is told by its labels, which need no decoding.
        let own = entries
            .prefix(&prefix)
            .filter(|e| e.labels.get(SERVICE_NAME) == Some(&*self.name));
        own.filter_map(|e| object::from_body(&e.body, &kept.hub).ok())
            .collect()
    }
}

fn of_cluster(service: Service<'_>, port: u16) -> Result<String, String> {
    let spec = service.spec();
    match spec.r#type() {
        "ExternalName" => Ok(joined(spec.external_name(), port.into())),
        "ClusterIP" if spec.cluster_ip() == "None" => {
            Err("cannot route to service with ClusterIP \"None\"".to_owned())
        }
        "ClusterIP" | "NodePort" | "LoadBalancer" => {
            port_name(service, port)?;
            Ok(joined(spec.cluster_ip(), port.into()))
        }
        other => Err(format!("unsupported service type {}", quote(other))),
    }
}

/// The name of the port with a number.
fn port_name<'a>(service: Service<'a>, number: u16) -> Result<&'a str, String> {
    let mut ports = service.spec().ports().into_iter();
    let found = ports.find(|p| p.port() == i64::from(number));
    found.map(|p| p.name()).ok_or_else(|| {
        let name = quote(service.metadata().name());
        format!("no service port {number} found for service {name}")
    })
}

fn of(slice: &Value) -> EndpointSlice<'_> {
    EndpointSlice::of(Node::new(slice))
}

fn pick(slice: EndpointSlice<'_>, wanted: &str) -> Option<String> {
    let mut ports = slice.ports().into_iter();
    let port = ports
        .find(|p| p.name() == Some(wanted) && p.port().is_some())?
        .port()?;
    let endpoints = slice.endpoints();
    let ready: Vec<_> = endpoints
        .into_iter()
        .filter(|e| e.conditions().ready().unwrap_or(true))
        .filter_map(|e| e.addresses().first().and_then(Value::as_str))
        .collect();
    if ready.is_empty() {
        return None;
    }
    let one = rand::rng().random_range(0..ready.len());
    Some(joined(ready[one], port))
}

/// Host and port, an IPv6 address in brackets.
fn joined(host: &str, port: i64) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use proto::MsgId;
    use proto::catalogue::messages::{core_v1, discovery_v1};
    use proto::codec::json::{Strictness, decode};

    use super::*;

    fn object(text: &str, message: MsgId) -> Value {
        decode(text.as_bytes(), message, Strictness::Strict)
            .unwrap()
            .value
    }

    fn cluster(spec: &str, port: u16) -> Result<String, String> {
        let text = format!(r#"{{"metadata":{{"name":"s","namespace":"n"}},"spec":{spec}}}"#);
        let service = object(&text, core_v1::SERVICE);
        of_cluster(Service::of(Node::new(&service)), port)
    }

    #[test]
    fn a_service_is_at_its_cluster_address() {
        let ports = r#""ports":[{"port":443,"name":"a"}]"#;
        let of = |more: &str, port| cluster(&format!("{{{more},{ports}}}"), port);
        let ip = r#""type":"ClusterIP","clusterIP":"10.0.0.1""#;
        assert_eq!(of(ip, 443), Ok("10.0.0.1:443".to_owned()));
        let said = "no service port 8 found for service \"s\"".to_owned();
        assert_eq!(of(ip, 8), Err(said));
        let six = r#""type":"NodePort","clusterIP":"fd00::1""#;
        assert_eq!(of(six, 443), Ok("[fd00::1]:443".to_owned()));
        let none = r#""type":"ClusterIP","clusterIP":"None""#;
        assert!(of(none, 443).is_err());
        let name = r#""type":"ExternalName","externalName":"example.com""#;
        assert_eq!(of(name, 8), Ok("example.com:8".to_owned()));
        assert!(of(r#""type":"Other""#, 443).is_err());
    }

    #[test]
    fn only_ready_endpoints_of_the_port_are_picked() {
        let slice = |endpoints: &str| {
            let text = format!(
                r#"{{"addressType":"IPv4","ports":[{{"name":"x"}},{{"name":"a","port":8443}}],"endpoints":{endpoints}}}"#
            );
            object(&text, discovery_v1::ENDPOINT_SLICE)
        };
        let some = slice(
            r#"[{"addresses":["10.0.0.1"],"conditions":{"ready":false}},{"addresses":["10.0.0.2"],"conditions":{"ready":true}}]"#,
        );
        assert_eq!(pick(of(&some), "a").as_deref(), Some("10.0.0.2:8443"));
        assert_eq!(pick(of(&some), "x"), None, "it has no number");
        assert_eq!(pick(of(&some), "b"), None);
        assert_eq!(pick(of(&slice("[]")), "a"), None);
        let unsaid = slice(r#"[{"addresses":["10.0.0.3"],"conditions":{}}]"#);
        assert!(pick(of(&unsaid), "a").is_some());
    }
}
