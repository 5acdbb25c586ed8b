//! What a network policy must be: `ValidateNetworkPolicy*` in `pkg/apis/networking/validation`.

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::address::Range;
use proto::meta::{address, names};
use proto::path::{Errors, Named, Spot};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::networking_v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use proto::view::{IntOrStr, Node, View};

use crate::rules;

/// What a stored policy had wrong already and a new one may have, too.
#[derive(Default)]
struct Lenient<'a> {
    selectors: SelectorRules,
    ranges: Vec<&'a str>,
}

pub(super) fn policy(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let lenient = old.map(lenient).unwrap_or_default();
    let spec = NetworkPolicy::of(Node::new(object)).spec();
    if let Some(selector) = spec.node().get(n::POD_SELECTOR) {
        validate_label_selector(selector, lenient.selectors, e);
    }
    for rule in spec.ingress() {
        rule.ports().iter().for_each(|of| port(e, of));
        rule.from().iter().for_each(|of| peer(e, of, &lenient));
    }
    for rule in spec.egress() {
        rule.ports().iter().for_each(|of| port(e, of));
        rule.to().iter().for_each(|of| peer(e, of, &lenient));
    }
    const TYPES: [&str; 2] = ["Ingress", "Egress"];
    if spec.policy_types().len() > TYPES.len() {
        let (at, types) = (Spot::of(spec).field(n::POLICY_TYPES), n::POLICY_TYPES);
        let detail = "may not specify more than two policyTypes";
        return e.invalid(at, rules::json(spec.node().get(types)), detail);
    }
    for of in spec.policy_types() {
        rules::known(e, Spot::node(of), of.as_str().unwrap_or_default(), &TYPES);
    }
}

fn lenient(old: &Value) -> Lenient<'_> {
    let selector = old.at(&[n::SPEC, n::POD_SELECTOR]);
    let spec = NetworkPolicy::of(Node::new(old)).spec();
    let from = spec.ingress().iter().flat_map(|rule| rule.from());
    let to = spec.egress().iter().flat_map(|rule| rule.to());
    let blocks = from.chain(to).filter_map(|peer| peer.ip_block());
    Lenient {
        selectors: SelectorRules {
            allow_invalid_values: selector.is_some_and(|selector| {
                rules::breaks(|e| validate_label_selector(selector, SelectorRules::default(), e))
            }),
            ..SelectorRules::default()
        },
        ranges: blocks
            .flat_map(|block| std::iter::once(block.cidr()).chain(rules::texts(block.except())))
            .collect(),
    }
}

fn port(e: &mut Errors<'_>, port: NetworkPolicyPort<'_>) {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    if let Some(protocol) = port.protocol()
        && !PROTOCOLS.contains(&protocol)
    {
        e.not_supported(
            Spot::of(port).field(n::PROTOCOL),
            Named(protocol),
            &PROTOCOLS,
        );
    }
    let (at, last) = (Spot::of(port).field(n::END_PORT), port.end_port());
    match (port.port(), last) {
        (Some(IntOrStr::Int(first)), last) => {
            rules::port(e, port, n::PORT);
            let Some(last) = last else { return };
            if last < first {
                e.invalid(at, last, "must be greater than or equal to `port`");
            }
            rules::port(e, port, n::END_PORT);
        }
        (Some(IntOrStr::Str(name)), last) => {
            if let Some(last) = last {
                e.invalid(at, last, "may not be specified when `port` is non-numeric");
            }
            rules::each(e, port, n::PORT, names::port_name_problems(name));
        }
        (None, Some(last)) => {
            e.invalid(
                at,
                last,
                "may not be specified when `port` is not specified",
            );
        }
        (None, None) => {}
    }
}

fn peer(e: &mut Errors<'_>, peer: NetworkPolicyPeer<'_>, lenient: &Lenient<'_>) {
    let node = peer.node();
    let selectors = [n::POD_SELECTOR, n::NAMESPACE_SELECTOR].map(|field| node.get(field));
    for selector in selectors.into_iter().flatten() {
        validate_label_selector(selector, lenient.selectors, e);
    }
    if let Some(of) = peer.ip_block() {
        block(e, of, lenient);
    }
    let selects = selectors.iter().any(Option::is_some);
    match (selects, peer.ip_block().is_some()) {
        (false, false) => e.required(Spot::of(peer), "must specify a peer"),
        (true, true) => {
            let detail = "may not specify both ipBlock and another peer";
            e.forbidden(Spot::of(peer), detail);
        }
        _ => {}
    }
}

/// `ValidateIPBlock`.
fn block(e: &mut Errors<'_>, block: IPBlock<'_>, lenient: &Lenient<'_>) {
    let at = Spot::of(block).field(n::CIDR);
    if block.cidr().is_empty() {
        return e.covered(|e| e.required(at, ""));
    }
    let Some(whole) = range(e, at, block.cidr(), lenient) else {
        return;
    };
    for item in block.except() {
        let (at, text) = (Spot::node(item), item.as_str().unwrap_or_default());
        if let Some(part) = range(e, at, text, lenient)
            && !contains(whole, part)
        {
            e.invalid(at, text, "must be a strict subset of `cidr`");
        }
    }
}

/// A range that the old policy had anywhere may stay as it is.
fn range(e: &mut Errors<'_>, at: Spot<'_>, text: &str, lenient: &Lenient<'_>) -> Option<Range> {
    if !lenient.ranges.contains(&text) {
        let problems = address::legacy_cidr_problems(text, e.lax_addresses);
        e.invalid_each(at, text, problems);
    }
    Range::parse(text)
}

/// Whether a range is a part of another and not all of it.
fn contains(whole: Range, part: Range) -> bool {
    let of = Range {
        address: part.network().to_canonical(),
        length: whole.length,
    };
    let whole_network = whole.network().to_canonical();
    whole.length < part.length
        && whole_network.is_ipv4() == of.address.is_ipv4()
        && of.network() == whole_network
}
