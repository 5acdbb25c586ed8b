//! Managed fields and server-side apply: who owns which field, and what an applied configuration does
//! to an object. Upstream's `structured-merge-diff` and `apimachinery/pkg/util/managedfields`.
//!
//! - [`Set`] is a set of fields; [`Set::parse`] and [`Set::print`] are its `FieldsV1` form, byte for
//!   byte as upstream stores it.
//! - [`Managed`] is `metadata.managedFields`, decoded.
//! - [`update`] records a create, an update or a patch; [`apply`] merges an applied configuration into
//!   an object and records it; [`overlay`] merges a part into an object and records nobody; [`scale`] carries ownership between an object and its scale.
//!
//! Two forms of trees are worked on. Writes that come with a whole object compare *conformed* trees
//! (see [`crate::value`]): what is absent there but always shown by Go is taken for shown, so nothing
//! is copied. Apply works on *explicit* trees, the object's JSON as upstream shows it, because an
//! applied configuration may leave out what Go cannot.
//!
//! Cost is linear in objects and sets, times a logarithm: lists are matched by sorting their keys.

mod check;
mod compare;
mod element;
mod engine;
mod extract;
mod filter;
mod last_applied;
mod managed;
mod merge;
mod overlay;
mod remove;
pub mod scale;
mod schema;
mod set;
mod text;
mod track;

pub use compare::{Comparison, Trees, compare};
pub use element::Element;
pub use engine::{Applied, Configuration, Error, apply, conformed};
pub use filter::Filter;
pub use managed::{Conflict, Conflicts, Entry, Malformed, Managed, Operation};
pub use overlay::overlay;
pub use set::Set;
pub use track::{Subject, Version, is_reset, update};

#[cfg(test)]
use track::explicit as explicit_form;

#[cfg(test)]
mod tests;
