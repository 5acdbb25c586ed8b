//! What expressions cost: estimated before they run, counted while they do. Numbers are upstream's to
//! the unit (cel-go `checker/cost.go`, `interpreter/runtimecost.go`, `ext`, and
//! `apiserver/pkg/cel/library/cost.go`).

mod actual;
mod calls;
mod estimate;
mod path;
mod size;

pub(crate) use actual::{Rule, Spent, rule};
pub(crate) use estimate::estimate;
pub use size::CostEstimate;

/// Reading a variable or a field.
pub(crate) const SELECT: u64 = 1;
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Per character that is looked at.
const TRAVERSAL: f64 = 0.1;
/// Per character of a regular expression.
const REGEX: f64 = 0.25;
/// Asking an authorizer.
const CHECK: u64 = 350_000;
/// The longest regular expression behind a format (`MaxNameFormatRegexSize`).
const FORMAT_REGEX: f64 = 128.0;

/// Kubernetes' functions that cost one, whatever they are called on.
fn is_constant(function: &str) -> bool {
    matches!(
        function,
        "serviceAccount"
            | "path"
            | "group"
            | "resource"
            | "subresource"
            | "namespace"
            | "name"
            | "allowed"
            | "reason"
            | "error"
            | "errored"
            | "format.named"
            | "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery"
    )
}
