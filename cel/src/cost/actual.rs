//! What calls have cost.

use super::size::{CostEstimate, by, down};
use super::{CHECK, LIST, REGEX, STRUCT, TRAVERSAL, is_constant};
use crate::value::{Opaque, Value};

/// What a call of one overload costs: found when an expression is planned, since it goes by names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    cost: fn(&Spent<'_, '_>) -> u64,
    /// It goes by the size of the result. Everything else is known, and can be counted, before a call
    /// is made: some take time that grows faster than their arguments.
    pub(crate) by_result: bool,
}

/// A call with its arguments, and its result if there is one yet.
pub(crate) struct Spent<'c, 'a> {
    pub(crate) args: &'c [Value<'a>],
    /// The argument that could not be evaluated.
    pub(crate) failed: Option<usize>,
    pub(crate) result: Option<&'c Value<'a>>,
}

impl Rule {
    pub(crate) fn cost(self, spent: &Spent<'_, '_>) -> u64 {
        (self.cost)(spent)
    }
}

/// The rule of a function, of the overload where one is known (empty: none is), for so many arguments.
pub(crate) fn rule(function: &str, overload: &str, count: usize) -> Rule {
    if let Some(cost) = of_results(function, overload, count) {
        return Rule {
            cost,
            by_result: true,
        };
    }
    let cost = of_lists(overload)
        .or_else(|| of_kubernetes(function, overload, count))
        .unwrap_or_else(|| of_standard(overload));
    Rule {
        cost,
        by_result: false,
    }
}

type Cost = fn(&Spent<'_, '_>) -> u64;

impl<'a> Spent<'_, 'a> {
    fn arg(&self, index: usize) -> Option<&Value<'a>> {
        self.args.get(index).filter(|_| self.failed != Some(index))
    }

    /// Of what has no size: 1.
    fn size(&self, index: usize) -> u64 {
        self.arg(index).and_then(Value::size).unwrap_or(1)
    }

    /// The same, of an optional what is inside.
    fn inner_size(&self, index: usize) -> u64 {
        let mut value = self.arg(index);
        while let Some(Value::Optional(Some(inner))) = value {
            value = Some(&***inner);
        }
        value.and_then(Value::size).unwrap_or(1)
    }

    fn result_size(&self) -> u64 {
        self.result.and_then(Value::size).unwrap_or(1)
    }

    fn is_opaque(&self) -> bool {
        matches!(self.arg(0), Some(Value::Opaque(_)))
    }

    /// Comparing all elements of a list with each other, and making one as long.
    fn compared(&self, index: usize) -> u64 {
        let Some(Value::List(list)) = self.arg(index) else {
            return allocating(2.0, 0);
        };
        let factor = match list.get(0) {
            Some(Ok(Value::String(_) | Value::Bytes(_))) => 2.0 + TRAVERSAL,
            _ => 2.0,
        };
        let size = list.len() as u64;
        allocating(factor, size.saturating_mul(size))
    }

    /// Comparing from the left as far as the shorter one goes.
    fn shorter(&self) -> u64 {
        by(self.inner_size(0).min(self.inner_size(1)), TRAVERSAL)
    }

    fn matched(&self) -> u64 {
        by(self.size(0) + 1, TRAVERSAL) * by(self.size(1), REGEX)
    }

    fn networks(&self) -> u64 {
        by(2 * self.size(0), TRAVERSAL)
    }
}

fn allocating(factor: f64, size: u64) -> u64 {
    down(size, factor).saturating_add(1 + LIST)
}

fn of_results(function: &str, overload: &str, count: usize) -> Option<Cost> {
    Some(match (overload, function) {
        ("list_slice" | "lists_range" | "list_reverse", _) => |s| allocating(1.0, s.result_size()),
        (_, "join") if count >= 1 => |s| by(s.result_size(), 2.0 * TRAVERSAL),
        _ => return None,
    })
}

/// cel-go's `ext/lists.go` and `ext/sets.go`: by overload.
fn of_lists(overload: &str) -> Option<Cost> {
    Some(match overload {
        "list_flatten" => |s| allocating(1.0, s.size(0)),
        "list_flatten_int" => |s| match s.arg(1) {
            #[allow(clippy::cast_precision_loss, reason = "upstream counts in doubles")]
            Some(Value::Int(depth)) if *depth >= 0 => allocating(*depth as f64, s.size(0)),
            _ => allocating(1.0, s.size(0)),
        },
        "list_distinct" => |s| s.compared(0),
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            |s| s.size(0).saturating_mul(s.size(1)).saturating_add(1)
        }
        "list_sets_equivalent_list" => {
            |s| down(s.size(0).saturating_mul(s.size(1)), 2.0).saturating_add(1)
        }
        overload if overload.starts_with("list_") && overload.ends_with("_sort") => {
            |s| s.compared(0)
        }
        overload if overload.ends_with("_sortByAssociatedKeys") => |s| s.compared(1),
        _ => return None,
    })
}

/// Kubernetes' libraries: by function.
fn of_kubernetes(function: &str, overload: &str, count: usize) -> Option<Cost> {
    Some(match (function, count) {
        ("check", _) => |_| CHECK,
        (function, _) if is_constant(function) => |_| 1,
        ("fieldSelector" | "labelSelector", 2..) => {
            |s| selector(CostEstimate::fixed(s.size(1))).max
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes", _) => {
            |s| s.arg(0).map_or(0, traversal)
        }
        ("ip", _) if overload == "cidr_ip" => |_| 1,
        (
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "jsonpatch.escapeKey"
            | "cidr"
            | "isIP"
            | "isCIDR"
            | "ip"
            | "quantity"
            | "isQuantity"
            | "semver"
            | "isSemver",
            1..,
        ) => |s| by(s.size(0), TRAVERSAL),
        ("replace" | "split" | "ip.isCanonical", 1..) => |s| by(s.size(0), 2.0 * TRAVERSAL),
        ("find" | "findAll", 2..) => |s| s.matched(),
        ("containsIP", 2..) if overload == "cidr_contains_ip_string" => {
            |s| s.networks() + by(s.size(1), TRAVERSAL)
        }
        ("containsIP", 2..) => |s| s.networks(),
        ("containsCIDR", 2..) if overload == "cidr_contains_cidr_string" => {
            |s| s.networks() + by(s.size(0), TRAVERSAL) + 1 + by(s.size(1), TRAVERSAL)
        }
        ("containsCIDR", 2..) => |s| s.networks() + by(s.size(0), TRAVERSAL) + 1,
        ("validate", 2..) => |s| match s.arg(0) {
            Some(Value::Opaque(format)) => match &**format {
                Opaque::Format(format) => {
                    by(s.size(1) + 1, TRAVERSAL) * by(format.regex_size.into(), REGEX)
                }
                _ => 1,
            },
            _ => 1,
        },
        ("_==_", 2) => |s| if s.is_opaque() { 1 } else { s.shorter() },
        _ => return None,
    })
}

/// cel-go's own: by overload.
fn of_standard(overload: &str) -> Cost {
    match overload {
        "starts_with_string" | "ends_with_string" => |s| by(s.inner_size(1), TRAVERSAL),
        "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => {
            |s| by(s.inner_size(0), TRAVERSAL)
        }
        "in_list" => |s| s.inner_size(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => |s| s.shorter(),
        "add_string" | "add_bytes" => |s| by(s.inner_size(0) + s.inner_size(1), TRAVERSAL),
        "matches" | "matches_string" => {
            |s| by(s.inner_size(0) + 1, TRAVERSAL) * by(s.inner_size(1), REGEX)
        }
        "contains_string" => |s| by(s.inner_size(0), TRAVERSAL) * by(s.inner_size(1), TRAVERSAL),
        _ => |_| 1,
    }
}

/// Reading a selector: by what as many characters can say.
pub(super) fn selector(length: CostEstimate) -> CostEstimate {
    let requirements = length.by(0.5).by(count(LIST + STRUCT));
    CostEstimate::fixed(LIST)
        .plus(length.by(TRAVERSAL))
        .plus(requirements)
}

#[allow(clippy::cast_precision_loss, reason = "small constants")]
const fn count(n: u64) -> f64 {
    n as f64
}

/// Looking at everything once; of strings and bytes by their length in bytes, rounded down.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => down(text.len() as u64, TRAVERSAL),
        Value::Bytes(bytes) => down(bytes.len() as u64, TRAVERSAL),
        Value::List(list) => list
            .iter()
            .map(|value| value.map_or(1, |value| traversal(&value)))
            .fold(0, u64::saturating_add),
        Value::Map(map) => map
            .keys()
            .iter()
            .map(|key| {
                let value = map.find(key).ok().flatten();
                traversal(key).saturating_add(value.map_or(1, |value| traversal(&value)))
            })
            .fold(0, u64::saturating_add),
        _ => 1,
    }
}
