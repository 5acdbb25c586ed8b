//! Variables that lead to services: upstream's `pkg/kubelet/envvars`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

/// The service by which every pod finds the API server.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// The variables of a pod in this namespace: of the API server, and, with `links`, of the namespace's
/// services.
pub(super) fn variables(
    services: &[Arc<Service>],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut made = BTreeMap::new();
    let key = |service: &Service| {
        let meta = &service.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        (text(&meta.namespace), text(&meta.name))
    };
    let (mut master, mut own) = (None, BTreeMap::new());
    for service in services {
        let (of, name) = key(service);
        if (of.as_str(), name.as_str()) == MASTER {
            master = Some(service);
        } else if links && of == namespace {
            own.insert(name, service);
        }
    }
    // A service of the same name in the pod's own namespace goes first.
    if let Some(master) = master {
        own.entry(MASTER.1.to_owned()).or_insert(master);
    }
    for (name, service) in own {
        add(&mut made, &name, service);
    }
    made
}

fn add(made: &mut BTreeMap<String, String>, name: &str, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let ip = match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => return,
        Some(ip) => ip,
    };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable(name);
    let url = |protocol: &str, port: i32| match ip.contains(':') {
        true => format!("{protocol}://[{ip}]:{port}"),
        false => format!("{protocol}://{ip}:{port}"),
    };
    let mut set = |name: String, value: String| drop(made.insert(name, value));
    set(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        let number = port.port;
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let name = variable(name);
            set(format!("{prefix}_SERVICE_PORT_{name}"), number.to_string());
        }
        let upper = port.protocol.as_deref().filter(|p| !p.is_empty());
        let upper = upper.unwrap_or("TCP").to_ascii_uppercase();
        let lower = upper.to_ascii_lowercase();
        let of_port = format!("{prefix}_PORT_{number}_{upper}");
        set(of_port.clone(), url(&lower, number));
        set(format!("{of_port}_PROTO"), lower);
        set(format!("{of_port}_PORT"), number.to_string());
        set(format!("{of_port}_ADDR"), ip.to_owned());
    }
    let protocol = first.protocol.as_deref().filter(|p| !p.is_empty());
    let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
    set(format!("{prefix}_PORT"), url(&protocol, first.port));
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(namespace: &str, name: &str, ip: &str, ports: Value) -> Arc<Service> {
        let service = json!({
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "clusterIP": ip, "ports": ports },
        });
        Arc::new(proto::typed::from_json_value(service).unwrap())
    }

    #[test]
    fn a_service_is_written_as_upstream_and_docker_before_it_wrote_it() {
        let ports = json!([
            { "port": 8083, "protocol": "TCP" },
            { "name": "u-d-p", "port": 8084, "protocol": "UDP" },
            { "name": "t-c-p", "port": 8086 },
        ]);
        let made = variables(&[service("ns", "foo-bar", "1.2.3.4", ports)], "ns", true);
        let expected = BTreeMap::from(
            [
                ("FOO_BAR_SERVICE_HOST", "1.2.3.4"),
                ("FOO_BAR_SERVICE_PORT", "8083"),
                ("FOO_BAR_SERVICE_PORT_U_D_P", "8084"),
                ("FOO_BAR_SERVICE_PORT_T_C_P", "8086"),
                ("FOO_BAR_PORT", "tcp://1.2.3.4:8083"),
                ("FOO_BAR_PORT_8083_TCP", "tcp://1.2.3.4:8083"),
                ("FOO_BAR_PORT_8083_TCP_PROTO", "tcp"),
                ("FOO_BAR_PORT_8083_TCP_PORT", "8083"),
                ("FOO_BAR_PORT_8083_TCP_ADDR", "1.2.3.4"),
                ("FOO_BAR_PORT_8084_UDP", "udp://1.2.3.4:8084"),
                ("FOO_BAR_PORT_8084_UDP_PROTO", "udp"),
                ("FOO_BAR_PORT_8084_UDP_PORT", "8084"),
                ("FOO_BAR_PORT_8084_UDP_ADDR", "1.2.3.4"),
                ("FOO_BAR_PORT_8086_TCP", "tcp://1.2.3.4:8086"),
                ("FOO_BAR_PORT_8086_TCP_PROTO", "tcp"),
                ("FOO_BAR_PORT_8086_TCP_PORT", "8086"),
                ("FOO_BAR_PORT_8086_TCP_ADDR", "1.2.3.4"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        assert_eq!(made, expected);
    }

    #[test]
    fn the_api_server_is_always_there_and_the_rest_by_namespace() {
        let port = || json!([{ "port": 443 }]);
        let services = [
            service("default", "kubernetes", "10.0.0.1", port()),
            service("default", "other", "10.0.0.2", port()),
            service("ns", "mine", "fd00::3", port()),
            service("ns", "headless", "None", port()),
            service("ns", "external", "", json!([])),
        ];
        let hosts = |namespace, links| -> Vec<String> {
            let made = variables(&services, namespace, links);
            let mut hosts: Vec<String> =
                made.into_keys().filter(|k| k.ends_with("_HOST")).collect();
            hosts.sort();
            hosts
        };
        assert_eq!(hosts("ns", false), ["KUBERNETES_SERVICE_HOST"]);
        assert_eq!(
            hosts("ns", true),
            ["KUBERNETES_SERVICE_HOST", "MINE_SERVICE_HOST"]
        );
        assert_eq!(
            hosts("default", true),
            ["KUBERNETES_SERVICE_HOST", "OTHER_SERVICE_HOST"]
        );
        let made = variables(&services, "ns", true);
        assert_eq!(made["MINE_PORT"], "tcp://[fd00::3]:443");
    }

    #[test]
    fn a_namesake_of_the_api_server_hides_it() {
        let port = || json!([{ "port": 443 }]);
        let services = [
            service("ns", "kubernetes", "10.9.9.9", port()),
            service("default", "kubernetes", "10.0.0.1", port()),
        ];
        let host = |links| variables(&services, "ns", links)["KUBERNETES_SERVICE_HOST"].clone();
        assert_eq!(host(true), "10.9.9.9");
        assert_eq!(host(false), "10.0.0.1");
    }
}
