//! Label and field selectors: what they match, and how they are written.
//!
//! Upstream's `apimachinery/pkg/labels`, `pkg/fields` and the object `meta/v1.LabelSelector`. Matching
//! allocates nothing; the caller brings a function that looks a label or a field up.

mod field;
mod label;
mod object;
mod parse;

pub use field::{FieldParseError, FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};
pub use object::{ObjectError, SelectorRules, validate_label_selector};
pub use parse::{InvalidRequirement, ParseError};

#[cfg(test)]
mod tests;
