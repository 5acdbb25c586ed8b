//! kube-proxy: Services as packet rules of the kernel.
//!
//! Reading order: [`service`] reads Services and EndpointSlices into compact values; [`plan`] turns them into
//! elements of nftables sets, [`elements`] keeps who wants which and what changes; [`ruleset`] is the rules,
//! which do not depend on Services; [`kernel`] is the narrow way into the kernel, over [`nft`] and
//! [`netlink`]; [`proxier`] brings them together for a family of addresses.
//!
//! Invariant: what a change does to the kernel is computed from values alone; what it costs depends on what
//! changed, not on how many Services there are.

pub mod args;
pub mod config;
pub mod daemon;

#[doc(hidden)]
pub mod parsers;

mod service;

mod elements;
mod plan;
mod ruleset;

mod kernel;
mod netlink;
mod nft;

mod conntrack;
mod engine;
mod health;
mod metrics;
mod node;
mod proxier;
mod routes;
mod service_health;
mod sysctl;
