//! Endpoints and endpoint slices. Upstream: `pkg/registry/{core/endpoint,discovery/endpointslice}`,
//! `pkg/apis/discovery/validation`, `ValidateEndpoints*` in `pkg/apis/core/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::Endpoints;
use proto::view::discovery_v1::EndpointSlice;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::registry::before::changed_outside_metadata_and_status;
use crate::registry::rules;
use crate::registry::strategy::Strategy;
use crate::registry::warnings::Warnings;
use crate::table::age;

/// Labels with the name of the controller that keeps an object. Those of Kubernetes give every address
/// its standard form, so nothing of theirs needs to be looked at.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

pub static ENDPOINTS: Strategy = Strategy {
    warnings: |object, _| {
        let mut w = Warnings::new(object);
        if meta::label(object, MANAGED_BY) != Some("endpoint-controller") {
            for subset in Endpoints::of(Node::new(object)).subsets() {
                let not_ready = subset.not_ready_addresses();
                for address in subset.addresses().iter().chain(not_ready) {
                    w.ip(Spot::of(address).field(n::IP), address.ip());
                }
            }
        }
        w.into_vec()
    },
    validate: |_, object, e| endpoints(object, e),
    validate_update: |_, new, _, e| endpoints(new, e),
    cells: Some(|object, now| {
        let view = Endpoints::of(Node::new(object));
        vec![
            meta::name(object).into(),
            shown(view).into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

/// `formatEndpoints`: three, and how many more.
fn shown(view: Endpoints<'_>) -> String {
    const SHOWN: usize = 3;
    let mut all = Vec::new();
    let mut count = 0;
    for subset in view.subsets() {
        for address in subset.addresses() {
            if subset.ports().is_empty() {
                count += 1;
                all.push(address.ip().to_owned());
            }
            for port in subset.ports() {
                count += 1;
                if all.len() < SHOWN {
                    all.push(format!("{}:{}", address.ip(), port.port()));
                }
            }
        }
    }
    all.truncate(SHOWN);
    match count {
        0 => "<none>".into(),
        n if n > SHOWN => format!("{} + {} more...", all.join(","), n - SHOWN),
        _ => all.join(","),
    }
}

/// An address that endpoints can have.
fn address(e: &mut Errors<'_>, at: Spot<'_>, ip: &str) {
    let Ok(address) = ip.parse::<std::net::IpAddr>() else {
        e.invalid(
            at,
            ip,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
        return;
    };
    if address.is_unspecified() {
        e.invalid(at, ip, format!("may not be unspecified ({ip})"));
    }
    if address.is_loopback() {
        e.invalid(
            at,
            ip,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    let link_local = match address {
        std::net::IpAddr::V4(a) => a.is_link_local(),
        std::net::IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    if link_local {
        e.invalid(
            at,
            ip,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
}

fn endpoints(object: &Value, e: &mut Errors<'_>) {
    for subset in Endpoints::of(Node::new(object)).subsets() {
        if subset.addresses().is_empty() && subset.not_ready_addresses().is_empty() {
            e.required(
                Spot::of(subset),
                "must specify `addresses` or `notReadyAddresses`",
            );
        }
        for one in subset
            .addresses()
            .iter()
            .chain(subset.not_ready_addresses().iter())
        {
            address(e, Spot::of(one).field(n::IP), one.ip());
        }
        let several = subset.ports().len() > 1;
        for port in subset.ports() {
            if several && port.name().is_empty() {
                e.required(Spot::of(port).field(n::NAME), "");
            } else if !port.name().is_empty() {
                rules::each(e, port, n::NAME, names::dns_label_problems(port.name()));
            }
            rules::port(e, port, n::PORT);
            rules::required_one_of(e, port, n::PROTOCOL, &["SCTP", "TCP", "UDP"]);
        }
    }
}

pub static ENDPOINT_SLICE: Strategy = Strategy {
    warnings: |object, old| {
        let slice = EndpointSlice::of(Node::new(object));
        let mut w = Warnings::new(object);
        if old.is_none() && slice.address_type() == "FQDN" {
            // The path is upstream's.
            w.push("spec.addressType: FQDN endpoints are deprecated");
        }
        let by = meta::label(object, SLICE_MANAGED_BY);
        if !matches!(
            by,
            Some("endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io")
        ) {
            for endpoint in slice.endpoints() {
                w.ips(endpoint.addresses());
            }
        }
        w.into_vec()
    },
    // Upstream defaults a port without a name to the empty one.
    default: |object| {
        for port in object
            .get_mut(n::PORTS)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten()
        {
            let map = port.make_map();
            if !map.contains(n::NAME) {
                map.insert(n::NAME, "");
            }
            if !map.contains(n::PROTOCOL) {
                map.insert(n::PROTOCOL, "TCP");
            }
        }
    },
    prepare_create: |_, object| object.set(&[n::METADATA, n::GENERATION], 1),
    prepare_update: |_, new, old| {
        let labels = meta::labels(new) != meta::labels(old);
        if labels || changed_outside_metadata_and_status(new, old) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            new.set(&[n::METADATA, n::GENERATION], generation);
        }
    },
    validate: |_, object, e| slice(object, e),
    validate_update: |_, new, old, e| {
        rules::immutable(
            e,
            EndpointSlice::of(Node::new(new)),
            EndpointSlice::of(Node::new(old)),
            n::ADDRESS_TYPE,
        );
        slice(new, e);
    },
    cells: Some(slice_cells),
    ..Strategy::DEFAULT
};

/// Upstream's `maxEndpoints`, `maxAddresses`, `maxPorts`.
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

fn slice(object: &Value, e: &mut Errors<'_>) {
    let view = EndpointSlice::of(Node::new(object));
    rules::required_one_of(e, view, n::ADDRESS_TYPE, &["FQDN", "IPv4", "IPv6"]);
    let at = Spot::of(view);
    if view.endpoints().len() > MAX_ENDPOINTS {
        e.too_many(
            at.field(n::ENDPOINTS),
            view.endpoints().len(),
            MAX_ENDPOINTS,
        );
    }
    for endpoint in view.endpoints() {
        let addresses: Vec<&str> = endpoint
            .addresses()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let list = Spot::of(endpoint).field(n::ADDRESSES);
        if addresses.is_empty() {
            e.required(list, "must contain at least 1 address");
        } else if addresses.len() > MAX_ADDRESSES {
            e.too_many(list, addresses.len(), MAX_ADDRESSES);
        }
        for (i, ip) in addresses.iter().enumerate() {
            match view.address_type() {
                "IPv4" if ip.parse::<std::net::Ipv4Addr>().is_err() => {
                    e.invalid(list.index(i), *ip, "must be an IPv4 address");
                }
                "IPv6" if ip.parse::<std::net::Ipv6Addr>().is_err() => {
                    e.invalid(list.index(i), *ip, "must be an IPv6 address");
                }
                "IPv4" | "IPv6" => address(e, list.index(i), ip),
                "FQDN" => e.invalid_each(list.index(i), *ip, names::dns_subdomain_problems(ip)),
                _ => {}
            }
        }
        if let Some(name) = endpoint.node_name() {
            rules::each(
                e,
                endpoint,
                n::NODE_NAME,
                names::subdomain_name(name, false),
            );
        }
        if let Some(name) = endpoint.hostname() {
            rules::each(e, endpoint, n::HOSTNAME, names::dns_label_problems(name));
        }
    }
    if view.ports().len() > MAX_PORTS {
        e.too_many(at.field(n::PORTS), view.ports().len(), MAX_PORTS);
    }
    let mut seen = Vec::new();
    for port in view.ports() {
        let name = port.name().unwrap_or_default();
        if !name.is_empty() {
            rules::each(e, port, n::NAME, names::dns_label_problems(name));
        }
        if seen.contains(&name) {
            e.duplicate(Spot::of(port).field(n::NAME), name);
        }
        seen.push(name);
        if let Some(protocol) = port.protocol() {
            let known = ["SCTP", "TCP", "UDP"];
            if !known.contains(&protocol) {
                e.not_supported(Spot::of(port).field(n::PROTOCOL), protocol, &known);
            }
        } else {
            e.required(Spot::of(port).field(n::PROTOCOL), "");
        }
    }
}

fn slice_cells(object: &Value, now: i64) -> Vec<Value> {
    let view = EndpointSlice::of(Node::new(object));
    let some = |list: Vec<String>, none: &str| -> Value {
        const SHOWN: usize = 3;
        match list.len() {
            0 => none.into(),
            n if n > SHOWN => format!("{} + {} more...", list[..SHOWN].join(","), n - SHOWN).into(),
            _ => list.join(",").into(),
        }
    };
    let ports: Vec<String> = view
        .ports()
        .iter()
        .map(|p| p.port().map_or("*".into(), |n| n.to_string()))
        .collect();
    let addresses: Vec<String> = view
        .endpoints()
        .iter()
        .flat_map(|e| e.addresses().iter())
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    vec![
        meta::name(object).into(),
        view.address_type().into(),
        some(ports, "<unset>"),
        some(addresses, "<unset>"),
        age(meta::creation_timestamp(object), now).into(),
    ]
}
