//! Values, the API catalogue, codecs, selectors and patches of Kubernetes.
//!
//! Pure: no IO, no async, no clock. Everything that reads bytes from outside returns errors and
//! never panics.
//!
//! Reading order: [`name`] and [`value`] are the object tree; [`catalogue`] says what each message
//! and resource of Kubernetes 1.37 looks like; [`codec`] turns bytes into trees and back, directed by
//! it; [`view`] is how rules read a tree without spelling field names; the rest are the small
//! languages of the API (selectors, quantities, patches).

pub mod name;
pub mod value;

pub mod catalogue;
pub mod codec;
pub mod view;

pub mod path;

pub mod meta;
pub mod typed;

pub mod intstr;
pub mod quantity;
pub mod selector;
pub mod time;

pub mod apply;
pub mod convert;
pub mod cron;
pub mod patch;

pub use catalogue::MsgId;
pub use name::{Name, NameId};
pub use value::{Map, Value};
