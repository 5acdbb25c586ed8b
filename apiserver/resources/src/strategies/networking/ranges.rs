//! What the ranges and addresses of services must be: `ValidateServiceCIDR*`, `ValidateIPAddress*` in
//! `pkg/apis/networking/validation`.

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::address::{self, Range};
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::networking_v1::{IPAddress, ServiceCIDR};
use proto::view::{Node, View};

use crate::rules;
use crate::shown::Internal;

pub(super) fn service_cidr(object: &Value, e: &mut Errors<'_>) {
    let spec = ServiceCIDR::of(Node::new(object)).spec();
    let (at, cidrs) = (Spot::of(spec).field(n::CIDRS), spec.cidrs());
    match cidrs.len() {
        0 => return e.required(at, "at least one CIDR required"),
        1 | 2 => {}
        _ => return e.invalid(at, Internal::of(spec), "may only hold up to 2 values"),
    }
    for item in cidrs {
        let text = item.as_str().unwrap_or_default();
        e.invalid_each(Spot::node(item), text, address::cidr_problems(text));
    }
    let mut families = rules::texts(cidrs).map(is_ipv6);
    if let (Some(Some(a)), Some(Some(b))) = (families.next(), families.next())
        && a == b
    {
        let shown = rules::json(spec.node().get(n::CIDRS));
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        e.invalid(at, shown, detail);
    }
}

/// The family of a range, if it is one.
fn is_ipv6(cidr: &str) -> Option<bool> {
    Range::parse(cidr).map(|range| range.address.to_canonical().is_ipv6())
}

/// Ranges stay as they are; a second one may be added.
pub(super) fn service_cidr_update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (
        ServiceCIDR::of(Node::new(new)).spec(),
        ServiceCIDR::of(Node::new(old)).spec(),
    );
    let (cidrs, before) = (now.cidrs(), was.cidrs());
    let grown = (before.len(), cidrs.len()) == (1, 2);
    if before.len() != cidrs.len() && !grown {
        let shown = rules::json(now.node().get(n::CIDRS));
        return e.invalid(Spot::of(now).field(n::CIDRS), shown, rules::IMMUTABLE);
    }
    for (item, old) in cidrs.iter().zip(before) {
        if item != old {
            let text = item.as_str().unwrap_or_default();
            e.invalid(Spot::node(item), text, rules::IMMUTABLE);
        }
    }
    if grown {
        service_cidr(new, e);
    }
}

/// That the parent is the same as before, declarative validation asks for; of one that changed it says no
/// more.
pub(super) fn ip_address(object: &Value, e: &mut Errors<'_>) {
    let spec = IPAddress::of(Node::new(object)).spec();
    let Some(parent) = spec.parent_ref() else {
        return e.covered(|e| e.required(Spot::of(spec).field(n::PARENT_REF), ""));
    };
    if !parent.group().is_empty() {
        let problems = names::dns_subdomain_problems(parent.group());
        rules::each(e, parent, n::GROUP, problems);
    }
    for field in [n::RESOURCE, n::NAME, n::NAMESPACE] {
        if field != n::NAMESPACE {
            e.covered(|e| {
                rules::required(e, parent, field);
            });
        }
        let problems = names::path_segment_problems(parent.node().str(field));
        rules::each(e, parent, field, problems);
    }
}
