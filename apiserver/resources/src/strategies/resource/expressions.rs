//! Expressions about devices: `validateCELExpression` and `validateDeviceDerivedAttribute*` in
//! `pkg/apis/resource/validation`.

use std::collections::{HashMap, HashSet};

use cel::device::{self, Features, MAX_COST, MAX_COST_DERIVED, Use};
use proto::catalogue::{Gates, gate, names as n};
use proto::path::{Errors, Spot};
use proto::view::resource_v1::{CELDeviceSelector, DeviceClaim, DeviceDerivedAttribute};
use proto::view::{Node, View};

use crate::rules::uncompiled;

/// In bytes (`CELSelectorExpressionMaxLength` of `k8s.io/api/resource/v1`).
const LONGEST: usize = 10 << 10;
const TOO_COSTLY: &str = "too complex, exceeds cost limit";

/// The expressions of one claim or class, all of them new.
pub(super) struct Expressions<'a> {
    features: Features,
    /// What constraints are about, by the request that they name; of all requests under no name.
    constrained: HashMap<&'a str, HashSet<&'a str>>,
    /// Of all derived attributes.
    cost: u64,
}

impl<'a> Expressions<'a> {
    pub(super) fn of_class(gates: Gates) -> Self {
        let features = Features {
            consumable_capacity: gates.has(gate::DRA_CONSUMABLE_CAPACITY),
            list_attributes: gates.has(gate::DRA_LIST_TYPE_ATTRIBUTES),
        };
        Self {
            features,
            constrained: HashMap::new(),
            cost: 0,
        }
    }

    pub(super) fn of_claim(gates: Gates, claim: DeviceClaim<'a>) -> Self {
        let mut of = Self::of_class(gates);
        for constraint in claim.constraints() {
            let attribute = constraint
                .match_attribute()
                .or_else(|| constraint.distinct_attribute());
            let Some(attribute) = attribute else {
                continue;
            };
            let requests = constraint.node().items(n::REQUESTS);
            let named = requests.iter().filter_map(|name| name.as_str());
            let all = requests.is_empty().then_some("");
            for request in named.chain(all) {
                of.constrained.entry(request).or_default().insert(attribute);
            }
        }
        of
    }

    pub(super) fn selector(&self, e: &mut Errors<'_>, cel: CELDeviceSelector<'_>) {
        let at = Spot::of(cel).field(n::EXPRESSION);
        self.compile(e, at, cel.expression(), Use::Selector);
    }

    /// The attributes that a request derives; `request` is what constraints call it.
    pub(super) fn derived(&mut self, e: &mut Errors<'_>, holder: Node<'_>, request: &str) {
        let attributes = holder.list::<DeviceDerivedAttribute<'_>>(n::DERIVED_ATTRIBUTES);
        for of in attributes {
            let (at, name) = (Spot::of(of), of.name());
            if !name.is_empty() && !self.is_constrained(name, request) {
                let detail = "must be referenced by at least one matchAttribute or distinctAttribute constraint targeting this request";
                e.invalid(at.field(n::NAME), name, detail);
            }
            // That there is none, declarative validation finds.
            if !of.expression().is_empty() {
                let at = at.field(n::EXPRESSION);
                let cost = self.compile(e, at, of.expression(), Use::Derived);
                self.cost = self.cost.saturating_add(cost);
            }
        }
        let mut seen = HashSet::new();
        for of in attributes {
            if !seen.insert(of.name()) {
                e.duplicate(Spot::of(of), of.name());
            }
        }
    }

    /// After all that a claim has.
    pub(super) fn finish(&self, e: &mut Errors<'_>, claim: Spot<'_>) {
        if self.cost > MAX_COST_DERIVED {
            let detail = "too complex, total cost of derived attribute CEL expressions in the claim exceeds cost limit";
            e.forbidden(claim, detail);
        }
    }

    /// Whether a constraint about all requests is about the attribute, or one about this request, or
    /// about the one that this is an alternative of.
    fn is_constrained(&self, attribute: &str, request: &str) -> bool {
        let whole = request.split_once('/').map(|(whole, _)| whole);
        ["", request].into_iter().chain(whole).any(|name| {
            let attributes = self.constrained.get(name);
            attributes.is_some_and(|known| known.contains(attribute))
        })
    }

    /// Compiles an expression; what it costs at most, if it is one.
    fn compile(&self, e: &mut Errors<'_>, at: Spot<'_>, expression: &str, of: Use) -> u64 {
        if expression.len() > LONGEST {
            e.too_long(at, LONGEST);
            return 0;
        }
        match device::compile(expression, of, self.features) {
            Ok(program) => {
                let cost = program.estimate().max;
                if cost > MAX_COST {
                    e.forbidden(at, TOO_COSTLY);
                }
                cost
            }
            Err(invalid) => {
                uncompiled(e, at, expression, invalid);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests;
