//! What may become of a service: `ValidateServiceUpdate`, `ValidateLoadBalancerStatus`.

use proto::catalogue::names as n;
use proto::meta::{address, names};
use proto::path::{Errors, Named, Spot};
use proto::view::core_v1::{Service, ServiceSpec};
use proto::view::{Node, View};
use proto::{NameId, Value};

use super::validation::{class, service, spec};
use super::{is_headless, needs_health_port};
use crate::rules;

const ONCE: &str = "may not change once set";

/// `ValidateServiceUpdate`: first addresses and families stay, second ones come and go as the policy
/// says.
pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (spec(new), spec(old));
    if now.r#type() != "ExternalName" && was.r#type() != "ExternalName" {
        let headless = (is_headless(was), is_headless(now));
        if headless != (true, true) {
            kept(now, was, n::CLUSTER_IPS, &CLUSTER_IPS, e);
        }
        if headless == (false, false) {
            kept(now, was, n::IP_FAMILIES, &IP_FAMILIES, e);
        }
    }
    if now.r#type() == "LoadBalancer"
        && was.r#type() == "LoadBalancer"
        && now.load_balancer_class() != was.load_balancer_class()
    {
        let shown = rules::json(now.node().get(n::LOAD_BALANCER_CLASS));
        e.invalid(Spot::of(now).field(n::LOAD_BALANCER_CLASS), shown, ONCE);
    }
    class(now, e);
    if needs_health_port(was)
        && needs_health_port(now)
        && now.health_check_node_port() != was.health_check_node_port()
    {
        let at = Spot::of(now).field(n::HEALTH_CHECK_NODE_PORT);
        e.forbidden(at, "field is immutable");
    }
    service(new, Some(old), e);
}

/// How upstream speaks of one of the two lists that grow and shrink.
struct Linked {
    one: &'static str,
    second: &'static str,
    /// Changes are told at the place of the element, or at the first.
    by_element: bool,
}

const CLUSTER_IPS: Linked = Linked {
    one: "primary clusterIP can not be unset",
    second: "must be set to 'SingleStack' when releasing the secondary clusterIP",
    by_element: true,
};
const IP_FAMILIES: Linked = Linked {
    one: "primary ipFamily can not be unset",
    second: "must be set to 'SingleStack' when releasing the secondary ipFamily",
    by_element: false,
};

/// `validateUpgradeDowngradeClusterIPs`, `validateUpgradeDowngradeIPFamilies`.
fn kept(
    now: ServiceSpec<'_>,
    was: ServiceSpec<'_>,
    field: NameId,
    texts: &Linked,
    e: &mut Errors<'_>,
) {
    let list = |spec: ServiceSpec<'_>| -> Vec<String> {
        let texts = rules::texts(spec.node().items(field));
        texts.map(str::to_owned).collect()
    };
    let (new, old) = (list(now), list(was));
    let at = |i| Spot::of(now).field(field).index(i);
    let shown = |field| rules::json(now.node().get(field));
    if new.len() == old.len() {
        for (i, _) in new
            .iter()
            .zip(&old)
            .enumerate()
            .filter(|(_, (n, o))| n != o)
        {
            let i = if texts.by_element { i } else { 0 };
            e.invalid(at(i), shown(field), ONCE);
        }
        return;
    }
    // Of the families, upstream asks the addresses here, and shows them below.
    if new.len() < old.len() && now.cluster_ips().is_empty() {
        e.invalid(at(0), shown(field), texts.one);
    }
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && new != old
    {
        e.invalid(at(0), shown(n::CLUSTER_IPS), ONCE);
    }
    if new.len() < old.len() && new.len() == 1 && now.ip_family_policy() != Some("SingleStack") {
        let shown = shown(n::IP_FAMILY_POLICY);
        e.invalid(
            Spot::of(now).field(n::IP_FAMILY_POLICY),
            shown,
            texts.second,
        );
    }
}

/// `ValidateLoadBalancerStatus`, of a service.
pub(super) fn status(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (Service::of(Node::new(new)), Service::of(Node::new(old)));
    let balancer = now.status().load_balancer();
    let entries = balancer.ingress();
    if now.spec().r#type() != "LoadBalancer" {
        if !entries.is_empty() {
            let detail = "may only be used when `spec.type` is 'LoadBalancer'";
            e.forbidden(Spot::of(balancer).field(n::INGRESS), detail);
        }
        return;
    }
    let had: Vec<&str> = was
        .status()
        .load_balancer()
        .ingress()
        .iter()
        .map(|entry| entry.ip())
        .filter(|ip| !ip.is_empty())
        .collect();
    for entry in entries {
        const MODES: [&str; 2] = ["Proxy", "VIP"];
        let at = |field| Spot::of(entry).field(field);
        let ip = entry.ip();
        if !ip.is_empty() {
            rules::legacy_ip(e, at(n::IP), ip, &had);
        }
        match entry.ip_mode() {
            None if !ip.is_empty() => {
                e.required(at(n::IP_MODE), "must be specified when `ip` is set");
            }
            Some(_) if ip.is_empty() => {
                e.forbidden(at(n::IP_MODE), "may not be specified when `ip` is not set");
            }
            Some(mode) if !MODES.contains(&mode) => {
                e.not_supported(at(n::IP_MODE), Named(mode), &MODES);
            }
            _ => {}
        }
        let host = entry.hostname();
        if !host.is_empty() {
            e.invalid_each(at(n::HOSTNAME), host, names::dns_subdomain_problems(host));
            if address::parse(host).is_some() {
                let detail = "must be a DNS name, not an IP address";
                e.invalid(at(n::HOSTNAME), host, detail);
            }
        }
    }
}
