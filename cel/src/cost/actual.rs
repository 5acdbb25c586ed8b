//! What a call has cost.

use super::size::{by, down};
use super::{CHECK, LIST, REGEX, STRUCT, TRAVERSAL, is_constant};
use crate::value::{Opaque, Value};

/// The cost of a call by its function, the overload where one is known, its arguments and its result;
/// those that failed are none.
pub(crate) fn call_cost(
    function: &str,
    overload: &str,
    args: &[Option<&Value<'_>>],
    result: Option<&Value<'_>>,
) -> u64 {
    let call = Call {
        function,
        overload,
        args,
        result,
    };
    call.of_lists()
        .or_else(|| call.of_kubernetes())
        .unwrap_or_else(|| call.of_standard())
}

struct Call<'c, 'a> {
    function: &'c str,
    overload: &'c str,
    args: &'c [Option<&'c Value<'a>>],
    result: Option<&'c Value<'a>>,
}

/// Of what has no size: 1.
fn size(value: Option<&Value<'_>>) -> u64 {
    value.and_then(Value::size).unwrap_or(1)
}

impl<'c> Call<'c, '_> {
    fn arg(&self, index: usize) -> Option<&'c Value<'_>> {
        self.args.get(index).copied().flatten()
    }

    fn size(&self, index: usize) -> u64 {
        size(self.arg(index))
    }

    /// cel-go's `ext/lists.go` and `ext/sets.go`: by overload.
    fn of_lists(&self) -> Option<u64> {
        let allocating = |factor: f64, size: u64| down(size, factor).saturating_add(1 + LIST);
        let compared = |value: Option<&Value<'_>>| {
            let Some(Value::List(list)) = value else {
                return allocating(2.0, 0);
            };
            let factor = match list.get(0) {
                Some(Ok(Value::String(_) | Value::Bytes(_))) => 2.0 + TRAVERSAL,
                _ => 2.0,
            };
            let size = list.len() as u64;
            allocating(factor, size.saturating_mul(size))
        };
        Some(match self.overload {
            "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, size(self.result)),
            "list_flatten" => allocating(1.0, self.size(0)),
            "list_flatten_int" => match self.arg(1) {
                #[allow(clippy::cast_precision_loss, reason = "upstream counts in doubles")]
                Some(Value::Int(depth)) if *depth >= 0 => allocating(*depth as f64, self.size(0)),
                _ => allocating(1.0, self.size(0)),
            },
            "list_distinct" => compared(self.arg(0)),
            "list_sets_contains_list" | "list_sets_intersects_list" => {
                self.size(0).saturating_mul(self.size(1)).saturating_add(1)
            }
            "list_sets_equivalent_list" => {
                down(self.size(0).saturating_mul(self.size(1)), 2.0).saturating_add(1)
            }
            overload if overload.starts_with("list_") && overload.ends_with("_sort") => {
                compared(self.arg(0))
            }
            overload if overload.ends_with("_sortByAssociatedKeys") => compared(self.arg(1)),
            _ => return None,
        })
    }

    /// Kubernetes' libraries: by function.
    fn of_kubernetes(&self) -> Option<u64> {
        Some(match self.function {
            "check" => CHECK,
            function if is_constant(function) => 1,
            "fieldSelector" | "labelSelector" if self.args.len() >= 2 => {
                selector(super::CostEstimate::fixed(self.size(1))).max
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
                self.arg(0).map_or(0, traversal)
            }
            "ip" if self.overload == "cidr_ip" => 1,
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
            | "isSemver"
                if !self.args.is_empty() =>
            {
                by(self.size(0), TRAVERSAL)
            }
            "replace" | "split" | "ip.isCanonical" if !self.args.is_empty() => {
                by(self.size(0), 2.0 * TRAVERSAL)
            }
            "join" if !self.args.is_empty() => by(size(self.result), 2.0 * TRAVERSAL),
            "find" | "findAll" if self.args.len() >= 2 => {
                by(self.size(0) + 1, TRAVERSAL) * by(self.size(1), REGEX)
            }
            "containsIP" if self.args.len() >= 2 => {
                by(2 * self.size(0), TRAVERSAL) + self.parsed("cidr_contains_ip_string")
            }
            "containsCIDR" if self.args.len() >= 2 => {
                let network = self.size(0);
                by(2 * network, TRAVERSAL)
                    + by(network, TRAVERSAL)
                    + 1
                    + self.parsed("cidr_contains_cidr_string")
            }
            "validate" if self.args.len() >= 2 => match self.arg(0) {
                Some(Value::Opaque(format)) => match &**format {
                    Opaque::Format(format) => {
                        by(self.size(1) + 1, TRAVERSAL) * by(format.regex_size.into(), REGEX)
                    }
                    _ => return None,
                },
                _ => return None,
            },
            "_==_" if matches!(self.arg(0), Some(Value::Opaque(_))) => 1,
            _ => return None,
        })
    }

    /// What reading the second argument adds, if the overload does.
    fn parsed(&self, overload: &str) -> u64 {
        if self.overload == overload {
            by(self.size(1), TRAVERSAL)
        } else {
            0
        }
    }

    /// cel-go's own: by overload.
    fn of_standard(&self) -> u64 {
        match self.overload {
            "starts_with_string" | "ends_with_string" => by(self.size(1), TRAVERSAL),
            "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => {
                by(self.size(0), TRAVERSAL)
            }
            "in_list" => self.size(1),
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals" => by(self.size(0).min(self.size(1)), TRAVERSAL),
            "add_string" | "add_bytes" => by(self.size(0) + self.size(1), TRAVERSAL),
            "matches" | "matches_string" => {
                by(self.size(0) + 1, TRAVERSAL) * by(self.size(1), REGEX)
            }
            "contains_string" => by(self.size(0), TRAVERSAL) * by(self.size(1), TRAVERSAL),
            _ => 1,
        }
    }
}

/// Reading a selector: by what as many characters can say.
pub(super) fn selector(length: super::CostEstimate) -> super::CostEstimate {
    let requirements = length.by(0.5).by(count(LIST + STRUCT));
    super::CostEstimate::fixed(LIST)
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
