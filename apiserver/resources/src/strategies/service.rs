//! Services: types, addresses, ports.
//!
//! Invariant: `spec.clusterIPs[0] == spec.clusterIP`. Allocation is the API server's.
//! Upstream: `pkg/registry/core/service`, `ValidateService*` in `pkg/apis/core/validation`,
//! `SetDefaults_Service`.

use std::collections::{HashMap, HashSet};

use proto::catalogue::{Gates, names as n};
use proto::meta::names;
use proto::path::Spot;
use proto::view::core_v1::{Service, ServicePort, ServiceSpec};
use proto::view::{Node, View};
use proto::{Map, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::rules;
use crate::strategy::{Cx, Part, Strategy, clear_status, keep_status};
use crate::table::{age, balancers, labels};
use crate::warnings::Warnings;

mod update;
pub mod validation;

pub static SERVICE: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    name: names::label_name,
    default,
    prepare_create: |_, new| clear_status(new),
    prepare_update,
    validate: |_, object, e| validation::service(object, None, e),
    validate_update: |_, new, old, e| update::update(new, old, e),
    warnings: |_, object, _| warnings(object),
    status: Some(Part {
        warnings: |object| {
            let mut w = Warnings::new(object);
            let status = Service::of(Node::new(object)).status();
            for ingress in status.load_balancer().ingress() {
                w.balancer(Spot::of(ingress), ingress.ip());
            }
            w.into_vec()
        },
        validate_update: |_, new, old, e| update::status(new, old, e),
        ..Part::STATUS_AND_METADATA
    }),
    on_read: Some(on_read),
    cells: Some(cells),
    ..Strategy::DEFAULT
};

/// `GetWarningsForService`.
fn warnings(object: &Value) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    let spec = Service::of(Node::new(object)).spec();
    let headless = spec.r#type() == "ClusterIP" && spec.cluster_ip() == "None";
    let external_name = spec.r#type() == "ExternalName";
    let mut w = Warnings::new(object);
    if meta::annotation(object, HINTS).is_some() {
        w.push(format!(
            "annotation {HINTS} is deprecated, please use {MODE} instead"
        ));
    }
    if !matches!(spec.cluster_ip(), "" | "None") {
        w.ips(spec.cluster_ips());
    }
    if headless {
        for (set, field) in [
            (!spec.load_balancer_ip().is_empty(), "loadBalancerIP"),
            (!spec.external_ips().is_empty(), "externalIPs"),
            (spec.session_affinity() != "None", "SessionAffinity"),
        ] {
            if set {
                w.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    w.ips(spec.external_ips());
    if !spec.external_ips().is_empty() && !headless && !external_name {
        w.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters");
    }
    if !spec.load_balancer_ip().is_empty() {
        let at = Spot::of(spec).field(n::LOAD_BALANCER_IP);
        w.ip(at, spec.load_balancer_ip());
    }
    w.cidrs(spec.load_balancer_source_ranges());
    if external_name && !spec.external_ips().is_empty() {
        w.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    }
    if !external_name && !spec.external_name().is_empty() {
        w.push("spec.externalName is ignored when spec.type is not \"ExternalName\"");
    }
    if spec.traffic_distribution() == Some("PreferClose") {
        w.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
    }
    w.into_vec()
}

/// How long a client sticks to an endpoint, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;

fn text(map: &Map, name: proto::NameId) -> &str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn spec(object: &Value) -> ServiceSpec<'_> {
    Service::of(Node::new(object)).spec()
}

fn is_headless(spec: ServiceSpec<'_>) -> bool {
    matches!(spec.cluster_ips(), [only] if only.as_str() == Some("None"))
}

/// Reached from outside the cluster by addresses of nodes, of balancers or of its own.
fn is_externally_accessible(spec: ServiceSpec<'_>) -> bool {
    match spec.r#type() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.external_ips().is_empty(),
        _ => false,
    }
}

/// A load balancer that sends traffic only to local endpoints asks nodes whether they have any.
fn needs_health_port(spec: ServiceSpec<'_>) -> bool {
    spec.r#type() == "LoadBalancer" && spec.external_traffic_policy() == "Local"
}

/// `SetDefaults_Service`, beyond constants.
fn default(_: Gates, object: &mut Value) {
    let external = {
        object.ensure(&[n::SPEC]).make_map();
        is_externally_accessible(spec(object))
    };
    let spec = object.ensure(&[n::SPEC]).make_map();
    match text(spec, n::SESSION_AFFINITY) {
        "ClientIP" => {
            let config = spec.entry(n::SESSION_AFFINITY_CONFIG);
            if config.at(&[n::CLIENT_IP, n::TIMEOUT_SECONDS]).is_none() {
                *config = Value::object();
                config.set(&[n::CLIENT_IP, n::TIMEOUT_SECONDS], AFFINITY_SECONDS);
            }
        }
        "None" => drop(spec.remove(n::SESSION_AFFINITY_CONFIG)),
        _ => {}
    }
    for port in ports_mut(spec) {
        let unset = match port.get(n::TARGET_PORT) {
            None | Some(Value::Null | Value::Int(0)) => true,
            Some(value) => value.as_str() == Some(""),
        };
        if unset && let Some(number) = port.get(n::PORT).cloned() {
            port.set(&[n::TARGET_PORT], number);
        }
    }
    if external && text(spec, n::EXTERNAL_TRAFFIC_POLICY).is_empty() {
        spec.insert(n::EXTERNAL_TRAFFIC_POLICY, "Cluster");
    }
    let kind = text(spec, n::TYPE).to_owned();
    let absent = |spec: &Map, field| spec.get(field).is_none_or(Value::is_null);
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP")
        && absent(spec, n::INTERNAL_TRAFFIC_POLICY)
    {
        spec.insert(n::INTERNAL_TRAFFIC_POLICY, "Cluster");
    }
    if kind != "LoadBalancer" {
        return;
    }
    if absent(spec, n::ALLOCATE_LOAD_BALANCER_NODE_PORTS) {
        spec.insert(n::ALLOCATE_LOAD_BALANCER_NODE_PORTS, true);
    }
    let entries = object.at_mut(&[n::STATUS, n::LOAD_BALANCER, n::INGRESS]);
    for entry in entries.and_then(Value::as_list_mut).into_iter().flatten() {
        let entry = entry.make_map();
        if !text(entry, n::IP).is_empty() && absent(entry, n::IP_MODE) {
            entry.insert(n::IP_MODE, "VIP");
        }
    }
}

fn ports_mut(spec: &mut Map) -> impl Iterator<Item = &mut Value> {
    let ports = spec.get_mut(n::PORTS).and_then(Value::as_list_mut);
    ports.into_iter().flatten()
}

/// `dropTypeDependentFields`: what a change of type makes meaningless goes, unless the client changed
/// it with the type: that is for validation to refuse.
fn prepare_update(_: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_status(new, old);
    let was = spec(old);
    let facts = |spec: ServiceSpec<'_>| {
        (
            spec.r#type() == "ExternalName",
            matches!(spec.r#type(), "NodePort" | "LoadBalancer"),
            spec.r#type() == "LoadBalancer",
            needs_health_port(spec),
            is_externally_accessible(spec),
        )
    };
    let ((named, noded, balanced, asked, reached), before) = (facts(spec(new)), facts(was));
    let now = spec(new);
    let unchanged = |field| rules::same(now.node().get(field), was.node().get(field));
    let same_ports = {
        let had: Vec<i64> = was.ports().iter().map(|p| p.node_port()).collect();
        let mut has = now.ports().iter().map(|p| p.node_port());
        has.all(|port| port == 0 || had.contains(&port))
    };
    let addresses = [n::CLUSTER_IP, n::CLUSTER_IPS];
    let mut gone = Vec::new();
    if named && !before.0 {
        if addresses.into_iter().all(unchanged) {
            gone.extend(addresses);
        }
        gone.extend(
            [n::IP_FAMILIES, n::IP_FAMILY_POLICY]
                .into_iter()
                .filter(|f| unchanged(*f)),
        );
    }
    for (field, needed, needs) in [
        (n::HEALTH_CHECK_NODE_PORT, before.3, asked),
        (n::ALLOCATE_LOAD_BALANCER_NODE_PORTS, before.2, balanced),
        (n::LOAD_BALANCER_CLASS, before.2, balanced),
        (n::EXTERNAL_TRAFFIC_POLICY, before.4, reached),
    ] {
        if needed && !needs && unchanged(field) {
            gone.push(field);
        }
    }
    let Some(spec) = new.get_mut(n::SPEC).and_then(Value::as_map_mut) else {
        return;
    };
    gone.into_iter().for_each(|field| drop(spec.remove(field)));
    if before.1 && !noded && same_ports {
        ports_mut(spec).for_each(|port| drop(port.remove(&[n::NODE_PORT])));
    }
    if !balanced {
        new.remove(&[n::STATUS, n::LOAD_BALANCER]);
    }
}

/// `defaultOnReadService`: services of old servers have one spelling of the address, and those that became
/// names still have a policy that names do not have.
fn on_read(object: &mut Value) {
    if spec(object).r#type() == "ExternalName" {
        object.remove(&[n::SPEC, n::INTERNAL_TRAFFIC_POLICY]);
    }
    link(object, None);
    name_families(object);
}

/// `defaultOnReadIPFamilies`: services of before there were two families have those of their addresses.
fn name_families(object: &mut Value) {
    let now = spec(object);
    let addressed = now.r#type() != "ExternalName" && now.cluster_ip() != "None";
    if !addressed || !now.ip_families().is_empty() {
        return;
    }
    let family = |ip: &Value| match ip.as_str() {
        Some(ip) if meta::address::is_ipv6(ip) => Value::from("IPv6"),
        _ => Value::from("IPv4"),
    };
    let families: Vec<Value> = now.cluster_ips().iter().map(family).collect();
    let policy = match families.len() {
        0 => return,
        1 => "SingleStack",
        _ => "RequireDualStack",
    };
    object.set(&[n::SPEC, n::IP_FAMILIES], families);
    object.set(&[n::SPEC, n::IP_FAMILY_POLICY], policy);
}

/// `patchAllocatedValues`, `normalizeClusterIPs`: what the client left out of a write did not change,
/// and either spelling of the address stands for both. The allocator does this before it looks.
pub fn link(new: &mut Value, old: Option<&Value>) {
    let Some(old) = old else {
        let ip = spec(new).cluster_ip().to_owned();
        if !ip.is_empty() && spec(new).cluster_ips().is_empty() {
            new.set(&[n::SPEC, n::CLUSTER_IPS], vec![ip]);
        }
        return;
    };
    let was = spec(old);
    keep_allocated(new, was);
    let now = spec(new);
    let (one, had) = (now.cluster_ip().to_owned(), was.cluster_ip());
    if was.cluster_ips() == now.cluster_ips() && one != had {
        if one.is_empty() {
            new.remove(&[n::SPEC, n::CLUSTER_IPS]);
        } else {
            new.set(&[n::SPEC, n::CLUSTER_IPS], vec![one]);
        }
    } else if one == had && now.cluster_ips().is_empty() && !was.cluster_ips().is_empty() {
        new.set(&[n::SPEC, n::CLUSTER_IPS], was.cluster_ips().to_vec());
    }
}

/// `patchAllocatedValues`.
fn keep_allocated(new: &mut Value, was: ServiceSpec<'_>) {
    let is_name = |spec: ServiceSpec<'_>| spec.r#type() == "ExternalName";
    let takes_ports = |spec: ServiceSpec<'_>| {
        spec.r#type() == "NodePort"
            || spec.r#type() == "LoadBalancer"
                && spec.allocate_load_balancer_node_ports() != Some(false)
    };
    let now = spec(new);
    let (no_ip, no_ips) = (now.cluster_ip().is_empty(), now.cluster_ips().is_empty());
    let addressed = !is_name(now) && !is_name(was);
    let ported = takes_ports(now) && takes_ports(was);
    let asked = needs_health_port(now) && needs_health_port(was);
    let asked = asked && now.health_check_node_port() == 0;
    let given: HashSet<i64> = now.ports().iter().map(|p| p.node_port()).collect();
    let spec = new.ensure(&[n::SPEC]).make_map();
    if addressed && no_ip && !was.cluster_ip().is_empty() {
        spec.insert(n::CLUSTER_IP, was.cluster_ip());
    }
    if addressed && no_ips && !was.cluster_ips().is_empty() {
        spec.insert(n::CLUSTER_IPS, was.cluster_ips().to_vec());
    }
    if ported {
        // By name; of several of a name the last.
        let known: HashMap<&str, i64> = was
            .ports()
            .iter()
            .map(|p| (p.name(), p.node_port()))
            .collect();
        for port in ports_mut(spec) {
            let view = ServicePort::of(Node::new(port));
            let had = known.get(view.name()).copied().unwrap_or(0);
            if view.node_port() == 0 && had != 0 && !given.contains(&had) {
                port.set(&[n::NODE_PORT], had);
            }
        }
    }
    if asked && was.health_check_node_port() != 0 {
        spec.insert(n::HEALTH_CHECK_NODE_PORT, was.health_check_node_port());
    }
}

fn cells(object: &Value, now: i64) -> Vec<Value> {
    let spec = Service::of(Node::new(object)).spec();
    let or_none = |text: String| -> Value {
        if text.is_empty() {
            "<none>".into()
        } else {
            text.into()
        }
    };
    let ip = spec
        .cluster_ips()
        .first()
        .and_then(Value::as_str)
        .unwrap_or(spec.cluster_ip())
        .to_owned();
    let ports: Vec<String> = spec
        .ports()
        .iter()
        .map(|p| match p.node_port() {
            0 => format!("{}/{}", p.port(), p.protocol()),
            node => format!("{}:{node}/{}", p.port(), p.protocol()),
        })
        .collect();
    vec![
        meta::name(object).into(),
        spec.r#type().into(),
        or_none(ip),
        or_none(external(object)),
        or_none(ports.join(",")),
        age(meta::creation_timestamp(object), now).into(),
        labels(spec.selector()).into(),
    ]
}

/// `getServiceExternalIP`.
fn external(object: &Value) -> String {
    let service = Service::of(Node::new(object));
    let spec = service.spec();
    let given: Vec<&str> = spec
        .external_ips()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match spec.r#type() {
        "ExternalName" => spec.external_name().to_owned(),
        "LoadBalancer" => {
            let ingress = service.status().load_balancer().ingress();
            let mut all = balancers(ingress.iter().map(|i| (i.ip(), i.hostname())));
            all.extend(given);
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        _ => given.join(","),
    }
}

#[cfg(test)]
mod tests;
