//! kube-controller-manager: brings what is closer to what is wanted.
//!
//! Reading order: [`controllers`] is the table of all controllers, [`context`] what each of them is given. The shared
//! pieces are [`watch`] (which keys an event wakes), [`owners`] (whose an object is), [`writes`] (own writes that the
//! caches have not shown yet), [`pods`], [`update`] and [`batch`]. Then one file or folder per controller. [`config`]
//! and [`daemon`] are the outside.
//!
//! Every controller is `reconcile(key)`: read caches, compute a plan with a pure function, apply it.

pub mod names;

pub mod context;
pub mod controllers;
pub mod error;

pub mod batch;
pub mod conditions;
pub mod discovery;
pub mod finalizer;
pub mod hash;
pub mod history;
pub mod owners;
pub mod pods;
pub mod selector;
pub mod status;
pub mod template;
pub mod watch;
pub mod writes;

pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod job;
pub mod pod_autoscaler;
pub mod replicas;
pub mod stateful_set;

pub mod gc;
pub mod namespace;
pub mod pod_gc;
pub mod policy_status;
pub mod resource_quota;
pub mod storage_version_migrator;

pub mod config;
pub mod daemon;

pub mod der;
pub mod indexes;
pub mod keys;
pub mod update;

pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod members;
pub mod service_cidr;

pub mod node_ipam;
pub mod node_lifecycle;
pub mod taint_eviction;
pub mod taints;
pub mod ttl;

pub mod bootstrap;
pub mod certificates;
pub mod legacy_token_cleaner;
pub mod role_aggregation;
pub mod root_ca;
pub mod service_account_tokens;
pub mod service_accounts;

pub mod attach_detach;
pub mod disruption;
pub mod ephemeral_volume;
pub mod expand;
pub mod protection;
pub mod resource_claim;
pub mod ttl_after_finished;
pub mod volume_attributes_class;
pub mod volume_binder;

pub use context::Context;
pub use error::Error;
