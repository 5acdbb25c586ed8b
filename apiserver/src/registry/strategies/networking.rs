//! Addresses of services. Upstream: `pkg/registry/networking/ipaddress`, `pkg/apis/networking/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::{Value, meta};

use crate::registry::rules;
use crate::registry::strategy::Strategy;

pub static IP_ADDRESS: Strategy = Strategy {
    name: |name, _| ip_problems(name),
    validate: |_, object, e| ip_address(object, e),
    validate_update: |_, new, old, e| {
        let path = [n::SPEC, n::PARENT_REF];
        if !rules::same(new.at(&path), old.at(&path)) {
            let at = Spot::node(new.get(n::SPEC).unwrap_or(new)).field(n::PARENT_REF);
            e.invalid(at, "", "field is immutable");
        }
    },
    cells: Some(|object, _| vec![meta::name(object).into(), parent(object).into()]),
    ..Strategy::DEFAULT
};

/// `resource.group/namespace/name`, as far as there is any.
fn parent(address: &Value) -> String {
    let Some(parent) = address.at(&[n::SPEC, n::PARENT_REF]) else {
        return "<none>".to_owned();
    };
    let part = |field| {
        parent
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut shown = part(n::RESOURCE).to_lowercase();
    for (before, text) in [('.', part(n::GROUP)), ('/', part(n::NAMESPACE))] {
        if !text.is_empty() {
            shown.push(before);
            shown.push_str(text);
        }
    }
    format!("{shown}/{}", part(n::NAME))
}

/// An address names itself, in its canonical form: there is one object per address.
fn ip_problems(name: &str) -> Vec<String> {
    let must = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    match name.parse::<std::net::IpAddr>() {
        Err(_) => vec![must.to_owned()],
        Ok(ip) if ip.to_string() != name => {
            vec![format!("must be in canonical form ({:?})", ip.to_string())]
        }
        Ok(_) => Vec::new(),
    }
}

fn ip_address(object: &Value, e: &mut Errors<'_>) {
    let spec = object.get(n::SPEC).unwrap_or(object);
    let at = Spot::node(spec).field(n::PARENT_REF);
    let Some(parent) = spec.get(n::PARENT_REF) else {
        e.required(at, "");
        return;
    };
    let at = Spot::node(parent);
    let part = |field| {
        parent
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let group = part(n::GROUP);
    if !group.is_empty() {
        e.invalid_each(
            at.field(n::GROUP),
            group,
            names::dns_subdomain_problems(group),
        );
    }
    for field in [n::RESOURCE, n::NAME] {
        if part(field).is_empty() {
            e.required(at.field(field), "");
        }
    }
    for field in [n::RESOURCE, n::NAME, n::NAMESPACE] {
        if !part(field).is_empty() {
            e.invalid_each(
                at.field(field),
                part(field),
                names::path_segment_problems(part(field)),
            );
        }
    }
}
