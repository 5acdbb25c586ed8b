//! What an endpoint slice must be, beyond what is declared: `pkg/apis/discovery/validation`.

use proto::catalogue::names as n;
use proto::meta::{address, names};
use proto::path::{Errors, Named, Spot};
use proto::view::discovery_v1::{Endpoint, EndpointHints, EndpointSlice};
use proto::view::{Node, View};
use proto::{NameId, Value};

use super::PROTOCOLS;
use crate::equal::same_at;
use crate::rules;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;
const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const ZONE: &str = "topology.kubernetes.io/zone";

/// Of an update, endpoints that did not change are not looked at: older servers took more.
pub(super) fn slice(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let view = EndpointSlice::of(Node::new(object));
    let unchanged = old.is_some_and(|old| same_at(object, old, &[n::ENDPOINTS]));
    e.covered(|e| {
        rules::required_named_one_of(e, view, n::ADDRESS_TYPE, &TYPES);
    });
    ports(view, e);
    if !unchanged {
        let all = view.endpoints();
        if all.len() > MAX_ENDPOINTS {
            let at = Spot::of(view).field(n::ENDPOINTS);
            e.too_many(at, all.len(), MAX_ENDPOINTS);
        } else {
            all.iter()
                .for_each(|one| endpoint(one, view.address_type(), e));
        }
    }
}

fn endpoint(endpoint: Endpoint<'_>, kind: &str, e: &mut Errors<'_>) {
    let at = |field| Spot::of(endpoint).field(field);
    let count = endpoint.addresses().len();
    e.covered(|e| match count {
        0 => e.required(at(n::ADDRESSES), "must contain at least 1 address"),
        1..=MAX_ADDRESSES => {}
        _ => e.too_many(at(n::ADDRESSES), count, MAX_ADDRESSES),
    });
    for (i, text) in rules::texts(endpoint.addresses()).enumerate() {
        one_address(at(n::ADDRESSES), i, text, kind, e);
    }
    if let Some(name) = endpoint.node_name() {
        let problems = names::subdomain_name(name, false);
        rules::each(e, endpoint, n::NODE_NAME, problems);
    }
    let topology = endpoint.deprecated_topology();
    let place = at(n::DEPRECATED_TOPOLOGY);
    if topology.len() > MAX_TOPOLOGY {
        e.too_many(place, topology.len(), MAX_TOPOLOGY);
    }
    rules::labels(e, topology, place);
    if topology.contains(ZONE) {
        e.internal(
            place.key(ZONE),
            "reserved key was not removed in conversion",
        );
    }
    if let Some(name) = endpoint.hostname() {
        rules::each(e, endpoint, n::HOSTNAME, names::dns_label_problems(name));
    }
    if let Some(given) = endpoint.hints() {
        hints(given, e);
    }
}

fn one_address(list: Spot<'_>, i: usize, text: &str, kind: &str, e: &mut Errors<'_>) {
    let at = list.index(i);
    let problems = match kind {
        "IPv4" => address::legacy_ip_problems(text, e.lax_addresses),
        "IPv6" => address::ip_problems(text),
        "FQDN" => return domain(at, text, e),
        _ => return,
    };
    if problems.is_empty() {
        if (kind == "IPv6") != address::is_ipv6(text) {
            // Upstream tells it of the list.
            e.invalid(list, text, format!("must be an {kind} address"));
        }
        e.invalid_each(at, text, address::endpoint_ip_problems(text));
    } else {
        e.invalid_each(at, text, problems);
    }
}

/// `IsFullyQualifiedDomainName`: the first problem of a name of at least two labels.
fn domain(at: Spot<'_>, text: &str, e: &mut Errors<'_>) {
    if text.is_empty() {
        return e.required(at, "");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let problems = names::dns_subdomain_problems(name);
    if !problems.is_empty() {
        return e.invalid(at, name, problems.join(","));
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return e.invalid(at, name, detail);
    }
    let mut labels = name.split('.').map(|l| (l, names::dns_label_problems(l)));
    if let Some((label, problems)) = labels.find(|(_, problems)| !problems.is_empty()) {
        e.invalid(at, label, problems.join(","));
    }
}

fn hints(hints: EndpointHints<'_>, e: &mut Errors<'_>) {
    let label = |name: &str| names::label_value_problems(name);
    let node = |name: &str| names::subdomain_name(name, false);
    let zones = hints.for_zones();
    if zones.len() > MAX_HINTS {
        let at = Spot::of(hints).field(n::FOR_ZONES);
        return e.too_many(at, zones.len(), MAX_HINTS);
    }
    named(
        zones.iter().map(|zone| (Spot::of(zone), zone.name())),
        label,
        e,
    );
    let nodes = hints.for_nodes();
    if nodes.len() > MAX_HINTS {
        let at = Spot::of(hints).field(n::FOR_NODES);
        return e.too_many(at, nodes.len(), MAX_HINTS);
    }
    named(nodes.iter().map(|one| (Spot::of(one), one.name())), node, e);
}

/// Names of a list: each once, and valid.
fn named<'a>(
    all: impl Iterator<Item = (Spot<'a>, &'a str)>,
    problems: impl Fn(&str) -> Vec<String>,
    e: &mut Errors<'_>,
) {
    const NAME: NameId = n::NAME;
    let mut seen = Vec::new();
    for (at, name) in all {
        if seen.contains(&name) {
            e.duplicate(at.field(NAME), name);
        }
        seen.push(name);
        e.invalid_each(at.field(NAME), name, problems(name));
    }
}

fn ports(view: EndpointSlice<'_>, e: &mut Errors<'_>) {
    let all = view.ports();
    if all.len() > MAX_PORTS {
        return e.too_many(Spot::of(view).field(n::PORTS), all.len(), MAX_PORTS);
    }
    let mut seen = std::collections::HashSet::new();
    for port in all {
        let at = |field| Spot::of(port).field(field);
        let name = port.name().unwrap_or_default();
        if !name.is_empty() {
            rules::each(e, port, n::NAME, names::dns_label_problems(name));
        }
        if !seen.insert(name) {
            e.duplicate(at(n::NAME), Named(name));
        }
        match port.protocol() {
            None => e.required(at(n::PROTOCOL), ""),
            Some(one) if !PROTOCOLS.contains(&one) => {
                e.not_supported(at(n::PROTOCOL), Named(one), &PROTOCOLS);
            }
            Some(_) => {}
        }
        if let Some(protocol) = port.app_protocol() {
            let problems = names::label_key_problems(protocol);
            rules::each(e, port, n::APP_PROTOCOL, problems);
        }
    }
}
