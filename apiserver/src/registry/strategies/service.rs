//! Services: types, addresses, ports.
//!
//! Invariant: `spec.clusterIPs[0] == spec.clusterIP`. Allocation is [`crate::alloc`]'s.
//! Upstream: `pkg/registry/core/service`, `ValidateService*` in `pkg/apis/core/validation`,
//! `SetDefaults_Service`.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{Service, ServicePort, ServiceSpec};
use proto::view::{IntOrStr, Node, View};
use proto::{Map, Value, meta};

use crate::registry::rules;
use crate::registry::strategy::{Cx, Part, Strategy, clear_status, keep_status};
use crate::registry::warnings::Warnings;
use crate::table::{age, balancers, labels};

pub static SERVICE: Strategy = Strategy {
    name: names::label_name,
    default,
    prepare_create: |_, new| clear_status(new),
    prepare_update,
    validate: |_, object, e| service(object, e),
    validate_update: |_, new, old, e| update(new, old, e),
    warnings: |object, _| warnings(object),
    status: Some(Part {
        warnings: |object| {
            let mut w = Warnings::new(object);
            let status = Service::of(Node::new(object)).status();
            for ingress in status.load_balancer().ingress() {
                w.balancer(Spot::of(ingress), ingress.ip());
            }
            w.into_vec()
        },
        ..Part::STATUS
    }),
    on_read: None,
    cells: Some(cells),
    hooks: Some(&crate::alloc::SERVICE),
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

fn default(object: &mut Value) {
    let spec = object.ensure(&[n::SPEC]).make_map();
    match text(spec, n::SESSION_AFFINITY) {
        "ClientIP" => {
            let config = spec.entry(n::SESSION_AFFINITY_CONFIG);
            if config.at(&[n::CLIENT_IP, n::TIMEOUT_SECONDS]).is_none() {
                *config = Value::object();
                config.set(&[n::CLIENT_IP, n::TIMEOUT_SECONDS], AFFINITY_SECONDS);
            }
        }
        _ => drop(spec.remove(n::SESSION_AFFINITY_CONFIG)),
    }
    for port in spec
        .get_mut(n::PORTS)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        let unset = match port.get(n::TARGET_PORT) {
            None | Some(Value::Null | Value::Int(0)) => true,
            Some(value) => value.as_str() == Some(""),
        };
        if unset && let Some(number) = port.get(n::PORT).cloned() {
            port.set(&[n::TARGET_PORT], number);
        }
    }
    let kind = text(spec, n::TYPE).to_owned();
    let external_ips = spec
        .get(n::EXTERNAL_IPS)
        .and_then(Value::as_list)
        .is_some_and(|l| !l.is_empty());
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && external_ips);
    if external && text(spec, n::EXTERNAL_TRAFFIC_POLICY).is_empty() {
        spec.insert(n::EXTERNAL_TRAFFIC_POLICY, "Cluster");
    }
    if kind != "ExternalName" && !spec.contains(n::INTERNAL_TRAFFIC_POLICY) {
        spec.insert(n::INTERNAL_TRAFFIC_POLICY, "Cluster");
    }
    if kind == "LoadBalancer" && !spec.contains(n::ALLOCATE_LOAD_BALANCER_NODE_PORTS) {
        spec.insert(n::ALLOCATE_LOAD_BALANCER_NODE_PORTS, true);
    }
    // Either spelling of the address stands for both.
    let single = text(spec, n::CLUSTER_IP).to_owned();
    if !single.is_empty() && !spec.contains(n::CLUSTER_IPS) {
        spec.insert(n::CLUSTER_IPS, vec![single]);
    }
}

/// `PrepareForUpdate`: what the client left out of an update it did not want to change
/// (`patchAllocatedValues`), and what a change of type makes meaningless goes
/// (`dropTypeDependentFields`).
fn prepare_update(_: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_status(new, old);
    let kind = |v: &Value| {
        v.at(&[n::SPEC, n::TYPE])
            .and_then(Value::as_str)
            .unwrap_or("ClusterIP")
            .to_owned()
    };
    let (now, was) = (kind(new), kind(old));
    let (Some(spec), Some(before)) = (
        new.get_mut(n::SPEC).and_then(Value::as_map_mut),
        old.get(n::SPEC).and_then(Value::as_map),
    ) else {
        return;
    };
    let has_ip = |k: &str| k != "ExternalName";
    if has_ip(&now) && has_ip(&was) {
        for field in [n::CLUSTER_IP, n::CLUSTER_IPS] {
            if text(spec, n::CLUSTER_IP).is_empty()
                && !spec.contains(field)
                && let Some(value) = before.get(field)
            {
                spec.insert(field, value.clone());
            }
        }
        if !text(spec, n::CLUSTER_IP).is_empty() && !spec.contains(n::CLUSTER_IPS) {
            let ip = text(spec, n::CLUSTER_IP).to_owned();
            spec.insert(n::CLUSTER_IPS, vec![ip]);
        }
    }
    let has_node_ports = |k: &str| matches!(k, "NodePort" | "LoadBalancer");
    if has_node_ports(&now) && has_node_ports(&was) {
        keep_node_ports(spec, before);
    }
    if !has_node_ports(&now) && has_node_ports(&was) {
        drop_unchanged_node_ports(spec, before);
    }
    if now == "ExternalName" && was != "ExternalName" {
        for field in [
            n::CLUSTER_IP,
            n::CLUSTER_IPS,
            n::IP_FAMILIES,
            n::IP_FAMILY_POLICY,
            n::INTERNAL_TRAFFIC_POLICY,
        ] {
            if spec.get(field) == before.get(field) {
                spec.remove(field);
            }
        }
    }
    if now != "LoadBalancer" && was == "LoadBalancer" {
        for field in [
            n::ALLOCATE_LOAD_BALANCER_NODE_PORTS,
            n::LOAD_BALANCER_CLASS,
            n::HEALTH_CHECK_NODE_PORT,
        ] {
            if spec.get(field) == before.get(field) {
                spec.remove(field);
            }
        }
    }
    if !has_node_ports(&now)
        && has_node_ports(&was)
        && spec.get(n::EXTERNAL_TRAFFIC_POLICY) == before.get(n::EXTERNAL_TRAFFIC_POLICY)
    {
        spec.remove(n::EXTERNAL_TRAFFIC_POLICY);
    }
}

/// Ports that are the same service port keep their node port.
fn keep_node_ports(spec: &mut Map, before: &Map) {
    let known: Vec<(String, i64, i64)> = ports(before)
        .map(|p| (p.protocol().to_owned(), p.port(), p.node_port()))
        .collect();
    for port in spec
        .get_mut(n::PORTS)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        let view = ServicePort::of(Node::new(port));
        if view.node_port() != 0 {
            continue;
        }
        let found = known
            .iter()
            .find(|(protocol, number, _)| protocol == view.protocol() && *number == view.port());
        if let Some((_, _, node_port)) = found.filter(|(_, _, np)| *np != 0) {
            port.set(&[n::NODE_PORT], *node_port);
        }
    }
}

/// Node ports that came with the old type and were not touched go with it.
fn drop_unchanged_node_ports(spec: &mut Map, before: &Map) {
    let had: Vec<i64> = ports(before).map(|p| p.node_port()).collect();
    for port in spec
        .get_mut(n::PORTS)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        let number = port.get(n::NODE_PORT).and_then(Value::as_int).unwrap_or(0);
        if number != 0 && had.contains(&number) {
            port.remove(&[n::NODE_PORT]);
        }
    }
}

fn ports(spec: &Map) -> impl Iterator<Item = ServicePort<'_>> {
    spec.get(n::PORTS)
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .map(|p| ServicePort::of(Node::new(p)))
}

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// `ValidateService`.
fn service(object: &Value, e: &mut Errors<'_>) {
    let spec = Service::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    let kind = spec.r#type();
    let headless = spec.cluster_ip() == "None";
    if spec.ports().is_empty() && !headless && kind != "ExternalName" {
        e.required(at.field(n::PORTS), "");
    }
    match kind {
        "LoadBalancer" => {
            if spec.ports().iter().any(|p| p.port() == 10250) {
                let i = spec
                    .ports()
                    .iter()
                    .position(|p| p.port() == 10250)
                    .unwrap_or_default();
                e.invalid(
                    at.field(n::PORTS).index(i),
                    10_250_i64,
                    "may not expose port 10250 externally since it is used by kubelet",
                );
            }
            if headless {
                e.invalid(
                    at.field(n::CLUSTER_IPS),
                    "None",
                    "may not be set to 'None' for LoadBalancer services",
                );
            }
        }
        "NodePort" if headless => {
            e.invalid(
                at.field(n::CLUSTER_IPS),
                "None",
                "may not be set to 'None' for NodePort services",
            );
        }
        "ExternalName" => external_name(e, spec),
        _ => {}
    }
    all_ports(e, spec, headless);
    rules::labels(e, spec.selector(), at.field(n::SELECTOR));
    rules::required_one_of(e, spec, n::SESSION_AFFINITY, &["ClientIP", "None"]);
    if let Some(seconds) = spec
        .session_affinity_config()
        .and_then(|c| c.client_ip())
        .and_then(|c| c.timeout_seconds())
        && !(1..=86_400).contains(&seconds)
    {
        e.invalid(
            at.field(n::SESSION_AFFINITY_CONFIG),
            seconds,
            "must be greater than 0 and less than 86400",
        );
    }
    for (i, ip) in spec
        .external_ips()
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        if ip.parse::<std::net::IpAddr>().is_err() {
            e.invalid(
                at.field(n::EXTERNAL_IPS).index(i),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
    if rules::required(e, spec, n::TYPE) {
        rules::one_of(e, spec, n::TYPE, &TYPES);
    }
    traffic(e, spec);
}

fn external_name(e: &mut Errors<'_>, spec: ServiceSpec<'_>) {
    let at = Spot::of(spec);
    if !spec.cluster_ip().is_empty() {
        e.forbidden(
            at.field(n::CLUSTER_IP),
            "may not be set when `type` is 'ExternalName'",
        );
    }
    let name = spec.external_name();
    if name.is_empty() {
        e.required(at.field(n::EXTERNAL_NAME), "");
    } else {
        let bare = name.strip_suffix('.').unwrap_or(name);
        e.invalid_each(
            at.field(n::EXTERNAL_NAME),
            name,
            names::dns_subdomain_problems(bare),
        );
    }
}

fn all_ports(e: &mut Errors<'_>, spec: ServiceSpec<'_>, headless: bool) {
    let mut seen_names = HashSet::new();
    let mut seen: HashSet<(&str, i64)> = HashSet::new();
    let mut seen_nodes: HashSet<(&str, i64)> = HashSet::new();
    let several = spec.ports().len() > 1;
    for port in spec.ports() {
        let at = Spot::of(port);
        if port.name().is_empty() {
            if several {
                e.required(at.field(n::NAME), "");
            }
        } else {
            rules::each(e, port, n::NAME, names::dns_label_problems(port.name()));
            if !seen_names.insert(port.name()) {
                e.duplicate(at.field(n::NAME), port.name());
            }
        }
        rules::port(e, port, n::PORT);
        rules::required_one_of(e, port, n::PROTOCOL, &["SCTP", "TCP", "UDP"]);
        rules::port_or_name(e, port, n::TARGET_PORT);
        if let Some(protocol) = port.app_protocol() {
            rules::each(
                e,
                port,
                n::APP_PROTOCOL,
                names::label_key_problems(protocol),
            );
        }
        // A headless service answers with addresses only: another target port cannot be told.
        if headless
            && let Some(IntOrStr::Int(target)) = port.target_port()
            && target != port.port()
            && target == 0
        {
            e.invalid(
                at.field(n::TARGET_PORT),
                target,
                "must be equal to the value of 'port' when clusterIP = None",
            );
        }
        if !seen.insert((port.protocol(), port.port())) {
            e.duplicate(at, port.node().value());
        }
        if port.node_port() != 0 {
            if matches!(spec.r#type(), "ClusterIP" | "ExternalName") {
                e.forbidden(
                    at.field(n::NODE_PORT),
                    format!("may not be used when `type` is '{}'", spec.r#type()),
                );
            }
            if !seen_nodes.insert((port.protocol(), port.node_port())) {
                e.duplicate(at.field(n::NODE_PORT), port.node_port());
            }
        }
    }
}

fn traffic(e: &mut Errors<'_>, spec: ServiceSpec<'_>) {
    let at = Spot::of(spec);
    let kind = spec.r#type();
    let external = matches!(kind, "NodePort" | "LoadBalancer") || !spec.external_ips().is_empty();
    let policy = spec.external_traffic_policy();
    if external {
        rules::required_one_of(e, spec, n::EXTERNAL_TRAFFIC_POLICY, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        e.invalid(
            at.field(n::EXTERNAL_TRAFFIC_POLICY),
            policy,
            "may only be set for externally-accessible services",
        );
    }
    if let Some(internal) = spec.internal_traffic_policy()
        && !["Cluster", "Local"].contains(&internal)
    {
        e.not_supported(
            at.field(n::INTERNAL_TRAFFIC_POLICY),
            internal,
            &["Cluster", "Local"],
        );
    }
    if kind != "LoadBalancer" {
        if spec.allocate_load_balancer_node_ports().is_some() {
            e.forbidden(
                at.field(n::ALLOCATE_LOAD_BALANCER_NODE_PORTS),
                "may only be used when `type` is 'LoadBalancer'",
            );
        }
        if spec.load_balancer_class().is_some() {
            e.forbidden(
                at.field(n::LOAD_BALANCER_CLASS),
                "may only be used when `type` is 'LoadBalancer'",
            );
        }
        if !spec.load_balancer_source_ranges().is_empty() {
            e.forbidden(
                at.field(n::LOAD_BALANCER_SOURCE_RANGES),
                "may only be used when `type` is 'LoadBalancer'",
            );
        }
    }
    if spec.health_check_node_port() != 0 && !(kind == "LoadBalancer" && policy == "Local") {
        let text =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        e.invalid(
            at.field(n::HEALTH_CHECK_NODE_PORT),
            spec.health_check_node_port(),
            text,
        );
    }
}

/// `ValidateServiceUpdate`: an allocated address stays.
fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (
        Service::of(Node::new(new)).spec(),
        Service::of(Node::new(old)).spec(),
    );
    if now.r#type() != "ExternalName"
        && was.r#type() != "ExternalName"
        && !was.cluster_ip().is_empty()
        && now.cluster_ip() != was.cluster_ip()
    {
        let list = Value::List(now.cluster_ips().to_vec());
        e.invalid(
            Spot::of(now).field(n::CLUSTER_IPS).index(0),
            &list,
            "may not change once set",
        );
    }
    if was.load_balancer_class().is_some()
        && now.r#type() == "LoadBalancer"
        && was.r#type() == "LoadBalancer"
        && now.load_balancer_class() != was.load_balancer_class()
    {
        let class = now.load_balancer_class().unwrap_or_default();
        e.invalid(
            Spot::of(now).field(n::LOAD_BALANCER_CLASS),
            class,
            "may not change once set",
        );
    }
    service(new, e);
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
