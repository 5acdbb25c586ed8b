//! kube-apiserver: the API of Kubernetes, in front of etcd.
//!
//! ```text
//! serve -> chain -> dispatch -> handler (verb) -> registry (generic + strategy) -> store
//! ```
//!
//! One object tree, directed by the catalogue, serves every kind: there is no code per kind but its
//! [`resources::Strategy`]. The server keeps nothing that it must not lose: many replicas, of ours and
//! of upstream's, serve one etcd.

// That what a request holds can be sent to another thread is proven through all that the server holds.
#![recursion_limit = "256"]

pub mod config;
mod daemon;
pub mod expression;
pub mod loopback;
pub mod server;

pub mod body;
pub mod chain;
pub mod compress;
pub mod dispatch;
pub mod flowcontrol;
pub mod metrics;

pub mod audit;
pub mod auth;
pub mod authz;
mod flights;
pub mod plugin;
pub mod reload;
pub mod webhook;

pub mod admission;
pub mod alloc;
pub mod bootstrap;
pub mod encryption;
pub mod managed;
pub mod registry;
pub mod storage;

pub mod handler;
pub mod render;
pub mod select;
pub mod stream;

pub mod discovery;
pub mod health;
pub mod kubelet;
pub mod openapi;
pub mod peer;

#[doc(hidden)]
pub mod parsers;

pub use daemon::ApiServer;
