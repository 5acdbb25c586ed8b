//! What a service must be: `validateService` and below in `pkg/apis/core/validation`.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::{address, names};
use proto::path::{Errors, FieldError, Named, Spot};
use proto::view::core_v1::{Service, ServicePort, ServiceSpec};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::{is_externally_accessible, is_headless, needs_health_port};
use crate::rules;
use crate::shown::Internal;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
/// A day: the longest that a client sticks to an endpoint.
const MAX_AFFINITY_SECONDS: i64 = 86_400;
const BALANCERS_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
/// What was `spec.loadBalancerSourceRanges` before there was a field.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub(super) fn spec(object: &Value) -> ServiceSpec<'_> {
    Service::of(Node::new(object)).spec()
}

/// `validateService`. Addresses and ranges that the old service had may stay as they are.
pub(super) fn service(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    annotations(object, e);
    let (now, was) = (spec(object), old.map(spec));
    let at = Spot::of(now);
    if now.ports().is_empty() && !is_headless(now) && now.r#type() != "ExternalName" {
        e.required(at.field(n::PORTS), "");
    }
    of_type(now, e);
    let mut seen = HashSet::new();
    for each in now.ports() {
        port(each, now.ports().len() > 1, &mut seen, e);
    }
    rules::labels(e, now.selector(), at.field(n::SELECTOR));
    affinity(now, e);
    cluster_ips(now, was, e);
    external_ips(now, was, e);
    rules::required_named_one_of(e, now, n::TYPE, &TYPES);
    unique_ports(now, e);
    source_ranges(object, old, e);
    balancer(now, e);
    traffic(now, e);
}

fn annotations(object: &Value, e: &mut Errors<'_>) {
    if let (Some(mode), Some(hints)) = (
        meta::annotation(object, MODE),
        meta::annotation(object, HINTS),
    ) && mode != hints
    {
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        e.invalid(rules::annotation(object, MODE), mode, detail);
    }
}

/// What a type forbids.
fn of_type(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(spec);
    match spec.r#type() {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            e.invalid(at.field(n::CLUSTER_IPS).index(0), "None", detail);
        }
        "ExternalName" => {
            for (given, field) in [
                (!spec.cluster_ips().is_empty(), n::CLUSTER_IPS),
                (!spec.ip_families().is_empty(), n::IP_FAMILIES),
                (spec.ip_family_policy().is_some(), n::IP_FAMILY_POLICY),
            ] {
                if given {
                    e.forbidden(at.field(field), "may not be set for ExternalName services");
                }
            }
            // A dot at the end says that the name is fully qualified.
            let name = spec.external_name();
            let name = name.strip_suffix('.').unwrap_or(name);
            let at = at.field(n::EXTERNAL_NAME);
            if name.is_empty() {
                e.required(at, "");
            } else {
                e.invalid_each(at, name, names::dns_subdomain_problems(name));
            }
        }
        _ => {}
    }
}

fn port<'a>(
    port: ServicePort<'a>,
    needs_name: bool,
    seen: &mut HashSet<&'a str>,
    e: &mut Errors<'_>,
) {
    let at = Spot::of(port);
    if !port.name().is_empty() {
        rules::each(e, port, n::NAME, names::dns_label_problems(port.name()));
        if !seen.insert(port.name()) {
            e.duplicate(at.field(n::NAME), port.name());
        }
    } else if needs_name {
        e.required(at.field(n::NAME), "");
    }
    rules::port(e, port, n::PORT);
    rules::required_named_one_of(e, port, n::PROTOCOL, &PROTOCOLS);
    rules::port_or_name(e, port, n::TARGET_PORT);
    if let Some(protocol) = port.app_protocol() {
        let problems = names::label_key_problems(protocol);
        rules::each(e, port, n::APP_PROTOCOL, problems);
    }
}

fn affinity(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    rules::required_named_one_of(e, spec, n::SESSION_AFFINITY, &["ClientIP", "None"]);
    let config = spec.session_affinity_config();
    let at = Spot::of(spec).field(n::SESSION_AFFINITY_CONFIG);
    match spec.session_affinity() {
        "None" if config.is_some() => {
            e.forbidden(at, "must not be set when session affinity is None");
        }
        "ClientIP" => {
            let must = "when session affinity type is ClientIP";
            let Some(config) = config else {
                return e.required(at, must);
            };
            let at = at.field(n::CLIENT_IP);
            let Some(client) = config.client_ip() else {
                return e.required(at, must);
            };
            let at = at.field(n::TIMEOUT_SECONDS);
            match client.timeout_seconds() {
                None => e.required(at, must),
                Some(1..=MAX_AFFINITY_SECONDS) => {}
                Some(other) => {
                    let detail =
                        format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    e.invalid(at, other, detail);
                }
            }
        }
        _ => {}
    }
}

/// `ValidateServiceClusterIPsRelatedFields`: addresses, families and the policy about both. The
/// allocator asks for it before it works with them.
pub fn cluster_ips(spec: ServiceSpec<'_>, was: Option<ServiceSpec<'_>>, e: &mut Errors<'_>) {
    if spec.r#type() == "ExternalName" {
        return;
    }
    let at = Spot::of(spec).field(n::CLUSTER_IPS);
    let shown = || rules::json(spec.node().get(n::CLUSTER_IPS));
    let ips: Vec<&str> = rules::texts(spec.cluster_ips()).collect();
    match (spec.cluster_ip(), ips.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            let detail = "must be empty when `clusterIP` is not specified";
            e.invalid(at, shown(), detail);
        }
        (_, None) => e.required(at, ""),
        (one, Some(first)) if one != *first => {
            e.invalid(at, shown(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(spec, e);
    let old: Vec<&str> = was.map_or(Vec::new(), |s| rules::texts(s.cluster_ips()).collect());
    let mut valid = true;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                valid = false;
                e.invalid(at, shown(), "'None' must be the first and only value");
            }
            continue;
        }
        valid &= rules::legacy_ip(e, at.index(i), ip, &old);
    }
    if ips.len() > 2 {
        e.invalid(at, shown(), "may only hold up to 2 values");
    }
    if !valid {
        return;
    }
    let unread = ips.iter().position(|ip| address::parse(ip).is_none());
    if let Some(i) = unread.filter(|_| ips.len() > 1) {
        // An old one that stays.
        let ip = ips[i];
        let detail = format!("failed to check for dual stack with error:invalid IP[{i}]: {ip}");
        e.internal(at, detail);
    }
    if ips.len() > 1 && (unread.is_some() || !address::is_dual_stack(ips.iter().copied())) {
        let detail = "may specify no more than one IP for each IP family";
        e.invalid(at, shown(), detail);
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(rules::texts(spec.ip_families())).enumerate() {
        let wrong = match family {
            "IPv4" => address::is_ipv6(ip),
            "IPv6" => !address::is_ipv6(ip),
            _ => false,
        };
        if wrong {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            e.invalid(at.index(i), *ip, detail);
        }
    }
}

fn families(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    let at = Spot::of(spec).field(n::IP_FAMILIES);
    let all: Vec<&str> = rules::texts(spec.ip_families()).collect();
    for (i, family) in all.iter().enumerate() {
        if !FAMILIES.contains(family) {
            e.not_supported(at.index(i), Named(family), &FAMILIES);
        }
        if all[..i].contains(family) {
            e.duplicate(at.index(i), Named(family));
        }
    }
    if let Some(policy) = spec.ip_family_policy()
        && !FAMILY_POLICIES.contains(&policy)
    {
        let at = Spot::of(spec).field(n::IP_FAMILY_POLICY);
        e.not_supported(at, Named(policy), &FAMILY_POLICIES);
    }
}

fn external_ips(spec: ServiceSpec<'_>, was: Option<ServiceSpec<'_>>, e: &mut Errors<'_>) {
    let old: Vec<&str> = was.map_or(Vec::new(), |s| rules::texts(s.external_ips()).collect());
    for (i, ip) in rules::texts(spec.external_ips()).enumerate() {
        let at = Spot::of(spec).field(n::EXTERNAL_IPS).index(i);
        if rules::legacy_ip(e, at, ip, &old) {
            e.invalid_each(at, ip, address::endpoint_ip_problems(ip));
        }
    }
}

/// Ports, and node ports, are different in number or protocol.
fn unique_ports(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    let ports = spec.ports();
    if spec.r#type() == "ClusterIP" {
        for port in ports.iter().filter(|p| p.node_port() != 0) {
            let at = Spot::of(port).field(n::NODE_PORT);
            e.forbidden(at, "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = HashSet::new();
    for port in ports.iter().filter(|p| p.node_port() != 0) {
        if !seen.insert((port.protocol(), port.node_port())) {
            e.duplicate(Spot::of(port).field(n::NODE_PORT), port.node_port());
        }
    }
    seen.clear();
    for port in ports {
        if !seen.insert((port.protocol(), port.port())) {
            let mut key = Value::object();
            key.set(&[n::PROTOCOL], port.protocol());
            key.set(&[n::PORT], port.port());
            let key = Internal(Some(&key), ServicePort::MESSAGE);
            e.duplicate(Spot::of(port), key);
        }
    }
}

/// Ranges are taken from the field or, where that is empty, from the annotation; spaces around them are
/// part of the API.
fn source_ranges(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    // The case is upstream's.
    const FIELD: &str = "spec.LoadBalancerSourceRanges";
    let now = spec(object);
    let is_balancer = now.r#type() == "LoadBalancer";
    if !now.load_balancer_source_ranges().is_empty() {
        if !is_balancer {
            e.push(FieldError::forbidden(FIELD, BALANCERS_ONLY));
        }
        let old: Vec<&str> = old.map(spec).map_or(Vec::new(), |was| {
            let ranges = rules::texts(was.load_balancer_source_ranges());
            ranges.map(str::trim).collect()
        });
        let ranges = rules::texts(now.load_balancer_source_ranges()).map(str::trim);
        for (i, range) in ranges.enumerate().filter(|(_, r)| !old.contains(r)) {
            for problem in address::legacy_cidr_problems(range, e.lax_addresses) {
                e.push(FieldError::invalid(format!("{FIELD}[{i}]"), range, problem));
            }
        }
        return;
    }
    let Some(ranges) = meta::annotation(object, SOURCE_RANGES) else {
        return;
    };
    let at = rules::annotation(object, SOURCE_RANGES);
    if !is_balancer {
        e.forbidden(at, BALANCERS_ONLY);
    }
    // Without the annotation an old service reads as one that has it empty.
    let had = old.map(|old| meta::annotation(old, SOURCE_RANGES).unwrap_or_default());
    let ranges = ranges.trim_matches(char::is_whitespace);
    if had != meta::annotation(object, SOURCE_RANGES) && !ranges.is_empty() {
        for range in ranges.split(',').map(str::trim) {
            let problems = address::legacy_cidr_problems(range, e.lax_addresses);
            e.invalid_each(at, range, problems);
        }
    }
}

fn balancer(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    let is_balancer = spec.r#type() == "LoadBalancer";
    let allocates = spec.allocate_load_balancer_node_ports();
    if allocates.is_some() && !is_balancer {
        let at = Spot::of(spec).field(n::ALLOCATE_LOAD_BALANCER_NODE_PORTS);
        e.forbidden(at, BALANCERS_ONLY);
    }
    if allocates.is_none() && is_balancer {
        // The path is upstream's.
        let field = "allocateLoadBalancerNodePorts";
        e.push(FieldError::required(field, ""));
    }
    class(spec, e);
}

pub(super) fn class(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    let Some(class) = spec.load_balancer_class() else {
        return;
    };
    let at = Spot::of(spec).field(n::LOAD_BALANCER_CLASS);
    if spec.r#type() == "LoadBalancer" {
        e.invalid_each(at, class, names::label_key_problems(class));
    } else {
        e.forbidden(at, BALANCERS_ONLY);
    }
}

/// Policies of external and internal traffic, the port that nodes are asked on, and distribution.
fn traffic(spec: ServiceSpec<'_>, e: &mut Errors<'_>) {
    let at = |field| Spot::of(spec).field(field);
    let policy = spec.external_traffic_policy();
    if is_externally_accessible(spec) {
        rules::required_named_one_of(e, spec, n::EXTERNAL_TRAFFIC_POLICY, &POLICIES);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        e.invalid(at(n::EXTERNAL_TRAFFIC_POLICY), Named(policy), detail);
    }
    let health = spec.health_check_node_port();
    match (needs_health_port(spec), health) {
        (false, 0) => {}
        (false, _) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            e.invalid(at(n::HEALTH_CHECK_NODE_PORT), health, detail);
        }
        (true, 0) => e.required(at(n::HEALTH_CHECK_NODE_PORT), ""),
        (true, _) => rules::port(e, spec, n::HEALTH_CHECK_NODE_PORT),
    }
    match spec.internal_traffic_policy() {
        None if matches!(spec.r#type(), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            e.required(at(n::INTERNAL_TRAFFIC_POLICY), "");
        }
        Some(other) if !POLICIES.contains(&other) => {
            e.not_supported(at(n::INTERNAL_TRAFFIC_POLICY), Named(other), &POLICIES);
        }
        _ => {}
    }
    if let Some(way) = spec.traffic_distribution()
        && !DISTRIBUTIONS.contains(&way)
    {
        e.not_supported(at(n::TRAFFIC_DISTRIBUTION), way, &DISTRIBUTIONS);
    }
}
