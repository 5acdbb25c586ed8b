//! What priority levels must be: `ValidatePriorityLevelConfiguration*` in
//! `pkg/apis/flowcontrol/validation`.

use proto::catalogue::names as n;
use proto::path::{Errors, Named, Spot};
use proto::view::flowcontrol_v1::{
    LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration,
    PriorityLevelConfigurationSpec, QueuingConfiguration,
};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::bootstrap::mandatory_level;
use crate::equal::same_at;
use crate::rules;
use crate::shown::Internal;

const EXEMPT: &str = "exempt";
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const NOT_NEGATIVE: &str = "must be a non-negative integer";
const PERCENT: &str = "must be between 0 and 100, inclusive";
const POSITIVE: &str = "must be positive";

pub(super) fn level(object: &Value, e: &mut Errors<'_>) {
    let spec = PriorityLevelConfiguration::of(Node::new(object)).spec();
    let name = meta::name(object);
    if meta::annotation(object, PRESERVE_ZERO).is_some()
        && let Some(metadata) = object.get(n::METADATA)
    {
        let detail = format!("annotation '{PRESERVE_ZERO}' is forbidden");
        e.forbidden(Spot::node(metadata).field(n::ANNOTATIONS), detail);
    }
    parts(e, name, spec);
    mandatory(e, name, object, spec);
    super::conditions(object, e);
}

fn parts(e: &mut Errors<'_>, name: &str, spec: PriorityLevelConfigurationSpec<'_>) {
    let part = |field| Spot::of(spec).field(field);
    let (at, kind) = (part(n::TYPE), spec.r#type());
    if (name == EXEMPT) != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        e.invalid(at, Named(kind), detail);
    }
    match kind {
        "Exempt" => {
            if spec.limited().is_some() {
                let detail = "must be nil if the type is not Limited";
                e.covered(|e| e.forbidden(part(n::LIMITED), detail));
            }
            if let Some(exempt) = spec.exempt() {
                shares(e, exempt.node());
                percent(e, exempt.node());
            }
        }
        "Limited" => {
            if spec.exempt().is_some() {
                let detail = "must be nil if the type is Limited";
                e.covered(|e| e.forbidden(part(n::EXEMPT), detail));
            }
            match spec.limited() {
                Some(of) => limited(e, of),
                None => {
                    let detail = "must not be empty when type is Limited";
                    e.covered(|e| e.required(part(n::LIMITED), detail));
                }
            }
        }
        "" => e.covered(|e| e.required(at, "")),
        _ => rules::known(e, at, kind, &["Exempt", "Limited"]),
    }
}

fn shares(e: &mut Errors<'_>, of: Node<'_>) {
    let shares = of.int(n::NOMINAL_CONCURRENCY_SHARES);
    if shares < 0 {
        let at = Spot::node(of.value()).field(n::NOMINAL_CONCURRENCY_SHARES);
        e.invalid(at, shares, NOT_NEGATIVE);
    }
}

fn percent(e: &mut Errors<'_>, of: Node<'_>) {
    let percent = of.int(n::LENDABLE_PERCENT);
    if !(0..=100).contains(&percent) {
        let at = Spot::node(of.value()).field(n::LENDABLE_PERCENT);
        e.invalid(at, percent, PERCENT);
    }
}

fn limited(e: &mut Errors<'_>, limited: LimitedPriorityLevelConfiguration<'_>) {
    shares(e, limited.node());
    response(e, limited.limit_response());
    percent(e, limited.node());
    if let Some(percent) = limited.borrowing_limit_percent()
        && percent < 0
    {
        let at = Spot::of(limited).field(n::BORROWING_LIMIT_PERCENT);
        e.invalid(at, percent, format!("if specified, {NOT_NEGATIVE}"));
    }
}

fn response(e: &mut Errors<'_>, response: LimitResponse<'_>) {
    let part = |field| Spot::of(response).field(field);
    match (response.r#type(), response.queuing()) {
        ("Queue", Some(of)) => queuing(e, of),
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            e.covered(|e| e.required(part(n::QUEUING), detail));
        }
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            e.covered(|e| e.forbidden(part(n::QUEUING), detail));
        }
        ("Reject", None) => {}
        ("", _) => e.covered(|e| e.required(part(n::TYPE), "")),
        (other, _) => rules::known(e, part(n::TYPE), other, &["Queue", "Reject"]),
    }
}

fn queuing(e: &mut Errors<'_>, queuing: QueuingConfiguration<'_>) {
    const MOST_QUEUES: i64 = 10_000_000;
    /// Bits of the hash that hands are dealt with.
    const MOST_BITS: u32 = 60;
    let at = Spot::of(queuing);
    if queuing.queue_length_limit() <= 0 {
        let length = queuing.queue_length_limit();
        e.invalid(at.field(n::QUEUE_LENGTH_LIMIT), length, POSITIVE);
    }
    let (queues, hand) = (queuing.queues(), queuing.hand_size());
    if queues <= 0 {
        e.invalid(at.field(n::QUEUES), queues, POSITIVE);
    } else if queues > MOST_QUEUES {
        let detail = format!("must not be greater than {MOST_QUEUES}");
        e.invalid(at.field(n::QUEUES), queues, detail);
    }
    let at = at.field(n::HAND_SIZE);
    if hand <= 0 {
        e.invalid(at, hand, POSITIVE);
    } else if hand > queues {
        e.invalid(
            at,
            hand,
            format!("should not be greater than queues ({queues})"),
        );
    } else if entropy(queues, hand) > f64::from(MOST_BITS) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MOST_BITS}"
        );
        e.invalid(at, hand, detail);
    }
}

/// `RequiredEntropyBits`: what it takes to deal a hand of so many queues.
#[allow(clippy::cast_precision_loss, reason = "both are 32 bits wide")]
fn entropy(queues: i64, hand: i64) -> f64 {
    ((queues as f64).log2() * hand as f64).ceil()
}

/// `ValidateIfMandatoryPriorityLevelConfigurationObject`: of the exempt level, its shares may change.
fn mandatory(
    e: &mut Errors<'_>,
    name: &str,
    object: &Value,
    spec: PriorityLevelConfigurationSpec<'_>,
) {
    let Some(mut wanted) = mandatory_level(name) else {
        return;
    };
    let mut detail = format!("spec of '{name}' must equal the fixed value");
    if name == EXEMPT {
        let way = [n::SPEC, n::EXEMPT];
        match object.at(&way) {
            Some(exempt) => wanted.set(&way, exempt.clone()),
            None => drop(wanted.remove(&way)),
        }
        detail =
            format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
    }
    if !same_at(object, &wanted, &[n::SPEC]) {
        e.invalid(Spot::of(spec), Internal::of(spec), detail);
    }
}
