//! Endpoints and endpoint slices. Upstream: `pkg/registry/{core/endpoint,discovery/endpointslice}`,
//! `pkg/apis/discovery/validation`, `ValidateEndpoints*` in `pkg/apis/core/validation`.

use proto::catalogue::names as n;
use proto::meta::{address, names};
use proto::path::{Errors, Spot};
use proto::view::core_v1::Endpoints;
use proto::view::discovery_v1::EndpointSlice;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::equal::{self, same_at};
use crate::rules;
use crate::strategy::Strategy;
use crate::table::age;
use crate::warnings::Warnings;

mod slice;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Labels with the name of the controller that keeps an object. Those of Kubernetes give every address
/// its standard form, so nothing of theirs needs to be looked at.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

pub static ENDPOINTS: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, _| {
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
    validate: |_, object, e| endpoints(object, None, e),
    validate_update: |_, new, old, e| endpoints(new, Some(old), e),
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
        if subset.ports().is_empty() {
            count += subset.addresses().len();
            all.extend(subset.addresses().iter().map(|of| of.ip().to_owned()));
        }
        for port in subset.ports() {
            count += subset.addresses().len();
            for address in subset.addresses() {
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

/// `validateEndpointSubsets`. What was there before may stay: older servers took more.
fn endpoints(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    if old.is_some_and(|old| same_at(object, old, &[n::SUBSETS])) {
        return;
    }
    for subset in Endpoints::of(Node::new(object)).subsets() {
        let (ready, not_ready) = (subset.addresses(), subset.not_ready_addresses());
        if ready.is_empty() && not_ready.is_empty() {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            e.required(Spot::of(subset), detail);
        }
        for one in ready.iter().chain(not_ready.iter()) {
            let at = Spot::of(one).field(n::IP);
            e.invalid_each(
                at,
                one.ip(),
                address::legacy_ip_problems(one.ip(), e.lax_addresses),
            );
            if !one.hostname().is_empty() {
                let problems = names::dns_label_problems(one.hostname());
                rules::each(e, one, n::HOSTNAME, problems);
            }
            if let Some(node) = one.node_name() {
                rules::each(e, one, n::NODE_NAME, names::subdomain_name(node, false));
            }
            e.invalid_each(at, one.ip(), address::endpoint_ip_problems(one.ip()));
        }
        let several = subset.ports().len() > 1;
        for port in subset.ports() {
            if !port.name().is_empty() {
                rules::each(e, port, n::NAME, names::dns_label_problems(port.name()));
            } else if several {
                e.required(Spot::of(port).field(n::NAME), "");
            }
            rules::port(e, port, n::PORT);
            rules::required_named_one_of(e, port, n::PROTOCOL, &PROTOCOLS);
            if let Some(protocol) = port.app_protocol() {
                let problems = names::label_key_problems(protocol);
                rules::each(e, port, n::APP_PROTOCOL, problems);
            }
        }
    }
}

pub static ENDPOINT_SLICE: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, old| {
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
    default: |_, object| {
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
    prepare_create: |_, object| {
        object.set(&[n::METADATA, n::GENERATION], 1);
        drop_topology(object, None);
    },
    prepare_update: |_, new, old| {
        const CONTENTS: [NameId; 3] = [n::ADDRESS_TYPE, n::ENDPOINTS, n::PORTS];
        let mut fields = EndpointSlice::MESSAGE.fields();
        let changed = fields.any(|f| CONTENTS.contains(&f.name) && !equal::alike_in(new, old, f));
        if changed || !same_at(new, old, &[n::METADATA, n::LABELS]) {
            let generation = meta::generation(old).unwrap_or(0) + 1;
            new.set(&[n::METADATA, n::GENERATION], generation);
        }
        drop_topology(new, Some(old));
    },
    validate: |_, object, e| slice::slice(object, None, e),
    validate_update: |_, new, old, e| {
        slice::slice(new, Some(old), e);
        rules::immutable_fields(e, new, old, &[n::ADDRESS_TYPE]);
    },
    cells: Some(slice_cells),
    ..Strategy::DEFAULT
};

/// `dropTopologyOnV1`: the field is of version 1beta1. Where it named the node of an endpoint, and still
/// does, the node's own field takes that over.
fn drop_topology(new: &mut Value, old: Option<&Value>) {
    const HOSTNAME: &str = "kubernetes.io/hostname";
    if old.is_some_and(|old| same_at(new, old, &[n::ENDPOINTS])) {
        return;
    }
    let named = |endpoint: &Value| -> Option<String> {
        let name = endpoint.get(n::DEPRECATED_TOPOLOGY)?.get(HOSTNAME)?;
        name.as_str().map(str::to_owned)
    };
    let endpoints = |slice: &Value| -> Vec<Value> {
        let list = slice.get(n::ENDPOINTS).and_then(Value::as_list);
        list.unwrap_or_default().to_vec()
    };
    let before: Vec<String> = old.map_or(Vec::new(), |old| {
        endpoints(old).iter().filter_map(named).collect()
    });
    let list = new.get_mut(n::ENDPOINTS).and_then(Value::as_list_mut);
    for endpoint in list.into_iter().flatten() {
        let node = named(endpoint)
            .filter(|name| before.contains(name) && names::subdomain_name(name, false).is_empty());
        if let Some(node) = node
            && endpoint.get(n::NODE_NAME).is_none_or(Value::is_null)
        {
            endpoint.set(&[n::NODE_NAME], node);
        }
        endpoint.remove(&[n::DEPRECATED_TOPOLOGY]);
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

#[cfg(test)]
mod tests;
