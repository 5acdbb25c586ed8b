//! kube-scheduler: finds nodes for pods.
//!
//! Reading order: [`decide`] is the decision, a function over the arrays of [`cluster`] and the plugins of
//! a [`profile`]; [`framework`] says what a plugin is, [`plugins`] lists them; [`queue`] holds the pods
//! that wait; [`extender`] asks others; [`engine`] brings informers, queue, decisions and binding together; [`config`] and
//! [`daemon`] are the outside.
//!
//! Invariant: decisions are equal to upstream's for equal inputs, up to the order in which upstream's
//! parallel search happens to find nodes.

pub mod pod;
pub mod resources;
pub mod selector;

pub mod cluster;

pub mod framework;
pub mod plugins;
pub mod profile;

pub mod decide;
pub mod extender;
pub mod queue;

pub mod engine;
pub mod metrics;

pub mod config;
pub mod daemon;

#[cfg(test)]
mod testing;
