//! The images of this node.
//!
//! Owns: what images are called ([`reference`]) and described by ([`manifest`]); how they get here,
//! from registries ([`registry`], [`pull`]) and archives ([`import`]); where they are and what
//! containers see of them ([`store`], [`layer`]); who may use them ([`auth`], [`access`]) and which
//! go ([`gc`]).
//!
//! [`ensure`] is what a pod worker calls: policy, back-off, events, reasons. Everything that comes
//! from outside is checked against a digest before it is used, and bounded before it is held.

pub mod access;
pub mod auth;
pub mod ensure;
pub mod gc;
pub mod import;
pub mod layer;
pub mod manifest;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod store;
pub(crate) mod tar;
