//! What the API server does with objects of each resource, purely: no IO, no async. The time is the caller's, but for
//! one default of upstream's that reads the clock.
//!
//! From what a client sends to what is stored: its options and encodings ([`options`], [`negotiate`]), the
//! tree in the version of the request ([`object`]), defaults, preparation and validation ([`before`],
//! [`declarative`], and one [`Strategy`] a resource in [`strategies`]). From what is stored to what is
//! served: [`decoder`]. [`rehearsal`] is the way of a write without a store. Every refusal is a
//! [`status::Failure`].

pub mod negotiate;
pub mod options;
pub mod request;
pub mod status;

pub mod object;
pub mod table;

pub mod before;
pub mod clock;
pub mod declarative;
pub mod decoder;
pub mod defaults;
pub mod equal;
pub mod gated;
pub mod metadata;
pub mod reading;
pub mod rehearsal;
pub mod resource_names;
pub mod rules;
pub mod shown;
pub mod strategies;
pub mod strategy;
pub mod structural;
pub mod warnings;
pub mod webhook;

pub use strategy::{Cx, Strategy};
