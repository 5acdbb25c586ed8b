//! What calls can cost.

use super::actual::selector;
use super::estimate::{Coster, Operand};
use super::path::To;
use super::size::{CostEstimate, Size, by};
use super::{CHECK, FORMAT_REGEX, LIST, REGEX, TRAVERSAL, is_constant};
use crate::ast::Literal;
use crate::types::Type;

pub(super) struct Call<'c, 't> {
    pub(super) function: &'c str,
    pub(super) overload: &'c str,
    pub(super) target: Option<&'c Operand<'t>>,
    pub(super) args: &'c [Operand<'t>],
    /// Of the arguments.
    pub(super) costs: &'c [CostEstimate],
}

/// The cost without that of the arguments, and the size of the result. No cost: not all arguments
/// are evaluated.
type Estimate = (Option<CostEstimate>, Option<Size>);

pub(super) fn estimate(coster: &Coster<'_, '_>, call: &Call<'_, '_>) -> Estimate {
    let estimator = Estimator { coster, call };
    if let Some((cost, size)) = estimator.of_lists().or_else(|| estimator.of_kubernetes()) {
        return (Some(cost), size);
    }
    estimator.of_standard()
}

struct Estimator<'e, 'c, 't, 's> {
    coster: &'e Coster<'c, 's>,
    call: &'e Call<'e, 't>,
}

type Known = (CostEstimate, Option<Size>);

const ONE: CostEstimate = CostEstimate::fixed(1);

impl<'t> Estimator<'_, '_, 't, '_> {
    fn size_of(&self, operand: &Operand<'t>) -> Size {
        operand
            .size
            .or_else(|| self.coster.size_at(&operand.path))
            .unwrap_or(Size::UNKNOWN)
    }

    fn target(&self) -> Option<Size> {
        self.call.target.map(|target| self.size_of(target))
    }

    fn arg(&self, index: usize) -> Option<Size> {
        self.call.args.get(index).map(|arg| self.size_of(arg))
    }

    /// The only arguments there are.
    fn args<const N: usize>(&self) -> Option<[Size; N]> {
        let sizes: Vec<Size> = self.call.args.iter().map(|arg| self.size_of(arg)).collect();
        sizes.try_into().ok()
    }

    /// The value of a literal integer; 0 if it is negative.
    fn literal(&self, index: usize) -> Option<u64> {
        match self.call.args.get(index)?.literal? {
            Literal::Int(i) => Some(u64::try_from(*i).unwrap_or(0)),
            _ => None,
        }
    }

    /// cel-go's `ext/lists.go` and `ext/sets.go`: by overload.
    fn of_lists(&self) -> Option<Known> {
        let allocating = |factor: f64, size: Size| {
            let cost = size.by(factor).plus(CostEstimate::fixed(1 + LIST));
            Some((cost, Some(size)))
        };
        let sorted = |size: Size, name: &str| {
            let factor = match name {
                "string" | "bytes" => 2.0 + TRAVERSAL,
                _ => 2.0,
            };
            allocating(factor, size.times(size))
        };
        match self.call.overload {
            "list_slice" => {
                let start = self.literal(0).unwrap_or(0);
                let end = self.literal(1).unwrap_or(self.target()?.max);
                allocating(1.0, Size::fixed(end.wrapping_sub(start)))
            }
            "lists_range" => {
                let count = self.literal(0).unwrap_or(u64::MAX);
                allocating(1.0, Size::fixed(count))
            }
            "list_reverse" => allocating(1.0, self.target()?),
            "list_flatten" => allocating(1.0, self.target()?),
            "list_flatten_int" => {
                let depth = self.literal(0).unwrap_or(u64::MAX);
                #[allow(clippy::cast_precision_loss, reason = "upstream counts in doubles")]
                let depth = depth as f64;
                allocating(depth, self.target()?)
            }
            "list_distinct" => {
                let size = self.target()?;
                allocating(2.0, size.times(size))
            }
            "list_sets_contains_list" | "list_sets_intersects_list" => {
                let [a, b] = self.args()?;
                Some((a.times(b).by(1.0).plus(ONE), None))
            }
            "list_sets_equivalent_list" => {
                let [a, b] = self.args()?;
                Some((a.times(b).by(2.0).plus(ONE), None))
            }
            overload => {
                let rest = overload.strip_prefix("list_")?;
                if let Some(name) = rest.strip_suffix("_sort") {
                    return sorted(self.target()?, name);
                }
                let name = rest.strip_suffix("_sortByAssociatedKeys")?;
                sorted(self.arg(0)?, name)
            }
        }
    }

    /// Kubernetes' libraries: by function.
    fn of_kubernetes(&self) -> Option<Known> {
        let read = |size: Size| Some((size.by(TRAVERSAL), None));
        match self.call.function {
            "check" => Some((CostEstimate::fixed(CHECK), None)),
            function if is_constant(function) => Some((ONE, None)),
            "fieldSelector" | "labelSelector" => {
                let [length] = self.args()?;
                Some((selector(length), None))
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
                self.elements()
            }
            "url" | "jsonpatch.escapeKey" => {
                let [size] = self.args()?;
                Some((size.by(TRAVERSAL), Some(size)))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.target()?;
                Some((size.by(TRAVERSAL), Some(size)))
            }
            "replace" => self.replace(),
            "split" => {
                let size = self.target()?;
                let max = match self.call.args.get(1).and_then(|arg| arg.literal) {
                    Some(Literal::Int(limit)) => limit.cast_unsigned(),
                    _ => size.max,
                };
                Some((size.by(2.0 * TRAVERSAL), Some(Size { min: 0, max })))
            }
            "join" => self.join(),
            "find" | "findAll" => {
                let (size, pattern) = (self.target()?, self.arg(0)?);
                let cost = size.plus(Size::fixed(1)).by(TRAVERSAL);
                let result = Size { min: 0, ..size };
                Some((cost.times(pattern.by(REGEX)), Some(result)))
            }
            "ip" if self.call.overload == "cidr_ip" => Some((ONE, None)),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver"
            | "isSemver" => read(self.arg(0)?),
            "ip.isCanonical" => Some((self.arg(0)?.by(2.0 * TRAVERSAL), None)),
            "containsIP" => {
                let address = Size { min: 4, max: 16 };
                let compared = address.plus(address).by(TRAVERSAL);
                let parsed = self.parsed("cidr_contains_ip_string")?;
                Some((compared.plus(parsed), None))
            }
            "containsCIDR" => {
                let address = Size { min: 4, max: 16 };
                let compared = address.plus(address).by(TRAVERSAL);
                let compared = compared.plus(address.by(TRAVERSAL)).plus(ONE);
                let parsed = self.parsed("cidr_contains_cidr_string")?;
                Some((compared.plus(parsed), None))
            }
            "validate" => {
                let read = self.arg(0)?.by(TRAVERSAL);
                Some((read.by(FORMAT_REGEX * REGEX), None))
            }
            "_==_" => self.equality(),
            _ => None,
        }
    }

    /// What reading the argument adds, if the overload does.
    fn parsed(&self, overload: &str) -> Option<CostEstimate> {
        let size = self.arg(0)?;
        Some(if self.call.overload == overload {
            size.by(TRAVERSAL)
        } else {
            CostEstimate::default()
        })
    }

    /// The type and size of the elements of a list.
    fn element(&self, list: &Operand<'t>) -> Option<(&'t Type, Size)> {
        let element = match list.ty {
            Type::List(of) => &**of,
            Type::Map(of) => &of.0,
            Type::Opaque(_, params) => params.first()?,
            _ => return None,
        };
        let size = if list.path.is_empty() {
            None
        } else {
            self.coster.size_at(&list.path.apart(To::Element))
        };
        Some((element, size.unwrap_or(Size::UNKNOWN)))
    }

    /// Looking at all elements, or all characters.
    fn elements(&self) -> Option<Known> {
        let target = self.call.target?;
        let size = self.size_of(target);
        let cost = match self.element(target) {
            Some((Type::String | Type::Bytes, element)) => {
                size.times(ONE.plus(element.by(TRAVERSAL)))
            }
            Some(_) => size.times(ONE),
            None if self.call.function == "includes" => size.times(ONE),
            None => size.by(TRAVERSAL),
        };
        Some((cost, None))
    }

    fn replace(&self) -> Option<Known> {
        let size = self.target()?;
        let (old, new) = (self.arg(0)?, self.arg(1)?);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "upstream counts in doubles"
        )]
        let times = |size: u64, old: u64| (size as f64 / old as f64).ceil() as u64;
        let (mut count, mut kept) = (Size::default(), Size::default());
        if old.min == 0 {
            // Nothing is replaced before each character and at the end.
            count.max = size.max.saturating_add(1);
            kept.max = size.max;
        } else if new.max <= old.min {
            kept.max = size.max;
        } else {
            count.max = times(size.max, old.min);
        }
        if old.max == 0 {
            count.min = size.min.saturating_add(1);
            kept.min = size.min;
        } else if old.max <= new.min {
            kept.min = size.min;
        } else {
            count.min = times(size.min, old.max);
        }
        let result = count.times(new).plus(kept);
        Some((size.by(2.0 * TRAVERSAL), Some(result)))
    }

    fn join(&self) -> Option<Known> {
        let target = self.call.target?;
        let count = self.size_of(target);
        let mut size = match self.element(target) {
            Some((_, element)) => count.times(element),
            None => Size::default(),
        };
        if let Some(separator) = self.arg(0) {
            let between = Size {
                min: count.min.saturating_sub(1),
                max: count.max.saturating_sub(1),
            };
            size = size.plus(separator.times(between));
        }
        Some((size.by(TRAVERSAL), Some(size)))
    }

    fn equality(&self) -> Option<Known> {
        let [left, right] = self.call.args else {
            return None;
        };
        if left.ty.name() != right.ty.name() {
            return None;
        }
        let cost = match (left.ty, left.ty.name()) {
            (Type::Opaque(..), "net.IP" | "net.CIDR") => ONE,
            (
                Type::Struct(_),
                "kubernetes.Quantity"
                | "kubernetes.Semver"
                | "kubernetes.authorization.Authorizer"
                | "kubernetes.authorization.PathCheck"
                | "kubernetes.authorization.GroupCheck"
                | "kubernetes.authorization.ResourceCheck"
                | "kubernetes.authorization.Decision",
            ) => ONE,
            (Type::Struct(_), "kubernetes.NamedFormat") => {
                CostEstimate { min: 1, max: 64 }.by(TRAVERSAL)
            }
            (Type::Struct(_), "kubernetes.URL") => CostEstimate {
                min: 1,
                max: right.size.map_or(1, |size| size.max),
            }
            .by(TRAVERSAL),
            _ => return None,
        };
        Some((cost, None))
    }

    /// cel-go's own: by overload.
    fn of_standard(&self) -> Estimate {
        let known = |cost: CostEstimate, size| (Some(cost), size);
        let one = known(ONE, None);
        let (Some(first), second) = (self.arg(0), self.arg(1)) else {
            return match (self.call.overload, self.target()) {
                ("string_format", Some(size)) => known(size.by(TRAVERSAL), None),
                _ => one,
            };
        };
        match (self.call.overload, self.target(), second) {
            ("string_format", Some(size), _) => known(size.by(TRAVERSAL), None),
            ("string_to_bytes", ..) => {
                let size = Size {
                    max: first.max.wrapping_mul(4),
                    ..first
                };
                known(first.by(TRAVERSAL), Some(size))
            }
            ("bytes_to_string", ..) => {
                let size = Size {
                    min: first.min / 4,
                    ..first
                };
                known(first.by(TRAVERSAL), Some(size))
            }
            ("strings_quote", ..) => {
                let size = Size {
                    min: first.min.wrapping_add(2),
                    max: first.max.wrapping_mul(2).wrapping_add(2),
                };
                known(first.by(TRAVERSAL), Some(size))
            }
            ("starts_with_string" | "ends_with_string", ..) => known(first.by(TRAVERSAL), None),
            ("in_list", _, Some(list)) => known(list.by(1.0), None),
            ("matches_string", Some(text), _) => known(matched(text, first), None),
            ("matches", None, Some(pattern)) => known(matched(first, pattern), None),
            ("contains_string", Some(text), _) => {
                known(text.by(TRAVERSAL).times(first.by(TRAVERSAL)), None)
            }
            ("logical_or" | "logical_and" | "conditional", ..) => (None, None),
            ("add_string" | "add_bytes", _, Some(right)) => {
                known(first.plus(right).by(TRAVERSAL), None)
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                Some(right),
            ) => {
                let max = first.max.min(right.max);
                let size = Size {
                    min: u64::from(max > 0),
                    max,
                };
                known(
                    CostEstimate {
                        min: by(size.min, TRAVERSAL),
                        max: by(size.max, TRAVERSAL),
                    },
                    None,
                )
            }
            _ => one,
        }
    }
}

fn matched(text: Size, pattern: Size) -> CostEstimate {
    let read = text.plus(Size::fixed(1)).by(TRAVERSAL);
    read.times(pattern.by(REGEX))
}
