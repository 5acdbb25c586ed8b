//! Ingresses, network policies, and the ranges and addresses of services.
//!
//! Upstream: `pkg/registry/networking`, `pkg/apis/networking/{v1/defaults.go,validation}`.

use proto::catalogue::{gate, names as n};
use proto::path::Spot;
use proto::selector::LabelSelector;
use proto::view::networking_v1::{Ingress, IngressClass, NetworkPolicy, ServiceCIDR};
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::strategy::{Generation, Part, Strategy, clear_status, keep_status};
use crate::table::{balancers, row};
use crate::warnings::Warnings;

mod class;
mod ingress;
mod policy;
mod ranges;

#[cfg(test)]
mod tests;

pub static INGRESS: Strategy = Strategy {
    validate: |_, object, e| ingress::create(object, e),
    validate_update: |_, new, old, e| ingress::update(new, old, e),
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, old| {
        use ingress::CLASS;
        let spec = Ingress::of(Node::new(object)).spec();
        let mut w = Warnings::new(object);
        if old.is_none()
            && meta::annotation(object, CLASS).is_some()
            && spec.ingress_class_name().is_none()
        {
            w.push(format!(
                "annotation \"{CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
        w.into_vec()
    },
    cells: Some(|object, now| {
        let view = Ingress::of(Node::new(object));
        let spec = view.spec();
        let at = view.status().load_balancer().ingress();
        let at = balancers(at.iter().map(|i| (i.ip(), i.hostname())));
        let ports = if spec.tls().is_empty() {
            "80"
        } else {
            "80, 443"
        };
        row(
            object,
            now,
            [
                spec.ingress_class_name().unwrap_or("<none>").into(),
                hosts(spec.rules().iter().map(|r| r.host())).into(),
                at.join(",").into(),
                ports.into(),
            ],
        )
    }),
    status: Some(Part {
        validate_update: |_, new, old, e| ingress::status(new, old, e),
        warnings: |object| {
            let mut w = Warnings::new(object);
            let status = Ingress::of(Node::new(object)).status();
            for ingress in status.load_balancer().ingress() {
                w.balancer(Spot::of(ingress), ingress.ip());
            }
            w.into_vec()
        },
        ..Part::STATUS_AND_METADATA
    }),
    ..Strategy::WITH_STATUS
};

/// The hosts of an ingress, the first three of its rules.
fn hosts<'a>(rules: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let (count, mut shown, mut more) = (rules.len(), Vec::new(), false);
    for host in rules {
        more = shown.len() == SHOWN;
        // A rule for all hosts takes no place.
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.join(","), more) {
        (none, _) if none.is_empty() => "*".into(),
        (shown, false) => shown,
        (shown, true) => format!("{shown} + {} more...", count - SHOWN),
    }
}

/// Without a status; changes are counted all the same.
pub static INGRESS_CLASS: Strategy = Strategy {
    default: |_, object| {
        let parameters = object.at_mut(&[n::SPEC, n::PARAMETERS]);
        if let Some(parameters) = parameters.and_then(Value::as_map_mut)
            && parameters.get(n::SCOPE).is_none_or(Value::is_null)
        {
            parameters.insert(n::SCOPE, "Cluster");
        }
    },
    validate: |_, object, e| class::class(object, e),
    validate_update: |_, new, old, e| class::update(new, old, e),
    declarative: Some(NO_OPTIONS),
    generation: Generation::Counted,
    cells: Some(|object, now| {
        let spec = IngressClass::of(Node::new(object)).spec();
        let parameters = spec.parameters().map(|p| {
            let group = p.api_group().map_or(String::new(), |g| format!(".{g}"));
            format!("{}{group}/{}", p.kind(), p.name())
        });
        let parameters = parameters.unwrap_or_else(|| "<none>".into());
        let mut cells = row(object, now, [spec.controller().into(), parameters.into()]);
        if meta::annotation(object, DEFAULT_CLASS) == Some("true") {
            cells[0] = format!("{} (default)", meta::name(object)).into();
        }
        cells
    }),
    ..Strategy::DEFAULT
};

/// On the class of ingresses that name none.
pub const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// Without a status; changes are counted all the same.
pub static NETWORK_POLICY: Strategy = Strategy {
    validate: |_, object, e| policy::policy(object, None, e),
    validate_update: |_, new, old, e| policy::policy(new, Some(old), e),
    declarative: Some(NO_OPTIONS),
    warnings: |_, object, _| {
        let mut w = Warnings::new(object);
        let spec = NetworkPolicy::of(Node::new(object)).spec();
        let from = spec.ingress().iter().flat_map(|rule| rule.from());
        let to = spec.egress().iter().flat_map(|rule| rule.to());
        for block in from.chain(to).filter_map(|peer| peer.ip_block()) {
            w.cidr(Spot::of(block).field(n::CIDR), block.cidr());
            w.cidrs(block.except());
        }
        w.into_vec()
    },
    default: |_, object| {
        let spec = object.ensure(&[n::SPEC]).make_map();
        let some = |field| {
            let list = spec.get(field).and_then(Value::as_list);
            list.is_some_and(|list| !list.is_empty())
        };
        if some(n::POLICY_TYPES) {
            return;
        }
        // What it says nothing of, it does not rule; but it always rules what comes in.
        let mut types = vec![Value::from("Ingress")];
        if some(n::EGRESS) {
            types.push("Egress".into());
        }
        spec.insert(n::POLICY_TYPES, types);
    },
    generation: Generation::CountedExactly,
    cells: Some(|object, now| {
        let selector = object.at(&[n::SPEC, n::POD_SELECTOR]);
        let shown = match selector.map(LabelSelector::from_object) {
            Some(Ok(selector)) if !selector.is_everything() => selector.to_string(),
            Some(Err(_)) => "<error>".into(),
            _ => "<none>".into(),
        };
        row(object, now, [shown.into()])
    }),
    ..Strategy::DEFAULT
};

pub static SERVICE_CIDR: Strategy = Strategy {
    validate: |_, object, e| ranges::service_cidr(object, e),
    validate_update: |_, new, old, e| ranges::service_cidr_update(new, old, e),
    declarative: Some(NO_OPTIONS),
    // While the gate is off, whoever writes a range writes its status too.
    prepare_create: |cx, new| {
        if cx.gates.has(gate::SERVICE_CIDR_STATUS_FIELD_WIPING) {
            clear_status(new);
        }
    },
    prepare_update: |cx, new, old| {
        if cx.gates.has(gate::SERVICE_CIDR_STATUS_FIELD_WIPING) {
            keep_status(new, old);
        }
    },
    status: Some(Part::STATUS_ALONE),
    generation: Generation::Ignored,
    cells: Some(|object, now| {
        let cidrs = ServiceCIDR::of(Node::new(object)).spec().cidrs();
        let cidrs: Vec<&str> = cidrs.iter().filter_map(Value::as_str).collect();
        row(object, now, [cidrs.join(",").into()])
    }),
    ..Strategy::WITH_STATUS
};

pub static IP_ADDRESS: Strategy = Strategy {
    // An address names itself, in its canonical form: there is one object per address.
    name: |name, _| meta::address::ip_problems(name),
    draws_names: false,
    validate: |_, object, e| ranges::ip_address(object, e),
    validate_update: |_, new, _, e| ranges::ip_address(new, e),
    declarative: Some(NO_OPTIONS),
    cells: Some(|object, now| row(object, now, [parent(object).into()])),
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
