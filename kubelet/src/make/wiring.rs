//! What of a pod is about the network and the kernel's switches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use proto::quantity::Quantity;

use super::{Error, annotation, containers, spec, uid};
use crate::network::{self, HostPort, Protocol};
use crate::runtime::sandbox::UserNamespace;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Bits per second that a pod can be limited to.
const BANDWIDTH: std::ops::RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;

/// What the pod network is asked for.
///
/// # Errors
/// If a port or an annotation cannot be.
pub fn network(pod: &Pod, user: Option<&UserNamespace>) -> Result<network::Pod, Error> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut host_ports = Vec::new();
    for container in containers(pod) {
        let mut names = BTreeSet::new();
        for port in container.ports.iter().flatten() {
            if port.host_port.unwrap_or_default() != 0 && names.insert(port_name(port)) {
                host_ports.push(host_port(port)?);
            }
        }
    }
    Ok(network::Pod {
        uid: uid(pod).to_owned(),
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        host_ports,
        ingress_bandwidth: bandwidth(pod, INGRESS)?,
        egress_bandwidth: bandwidth(pod, EGRESS)?,
        users: user.map(UserNamespace::ids).unwrap_or_default(),
    })
}

/// What tells the ports of a container apart: upstream takes the first of each.
fn port_name(port: &ContainerPort) -> String {
    match port.name.as_deref() {
        None | Some("") => {
            let ip = port.host_ip.as_deref().unwrap_or_default();
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let (inside, outside) = (port.container_port, port.host_port);
            format!("{protocol}-{ip}:{inside}:{}", outside.unwrap_or_default())
        }
        Some(name) => name.to_owned(),
    }
}

fn host_port(port: &ContainerPort) -> Result<HostPort, Error> {
    let number = |port: i32| u16::try_from(port).map_err(|_| Error::Port(port));
    let ip = port.host_ip.as_deref().unwrap_or_default();
    Ok(HostPort {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
        host_port: number(port.host_port.unwrap_or_default())?,
        container_port: number(port.container_port)?,
        host_ip: ip.parse::<IpAddr>().ok(),
    })
}

fn bandwidth(pod: &Pod, name: &'static str) -> Result<Option<u64>, Error> {
    let Some(text) = annotation(pod, name) else {
        return Ok(None);
    };
    let bits = text.parse::<Quantity>().ok().map(Quantity::value);
    match bits.filter(|bits| BANDWIDTH.contains(bits)) {
        Some(bits) => Ok(u64::try_from(bits).ok()),
        None => Err(Error::Bandwidth {
            annotation: name,
            value: text.to_owned(),
        }),
    }
}

/// The pod's sysctls, with dots between the parts of their names.
pub(super) fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let context = spec(pod).security_context.as_ref();
    let all = context.and_then(|context| context.sysctls.as_ref());
    all.into_iter()
        .flatten()
        .map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone()))
        .collect()
}

/// A name whose first separator is a slash has dots and slashes the other way round.
fn dotted(name: &str) -> String {
    if name
        .find(['.', '/'])
        .is_none_or(|at| name[at..].starts_with('.'))
    {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}
