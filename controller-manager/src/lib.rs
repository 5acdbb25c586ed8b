//! kube-controller-manager: brings what is closer to what is wanted.
//!
//! Reading order: [`controllers`] is the table of all controllers, [`context`] what each of them is given. The shared
//! pieces are [`watch`] (which keys an event wakes), [`owners`] (whose an object is), [`writes`] (own writes that the
//! caches have not shown yet), [`pods`], [`status`] and [`batch`]. Then one file or folder per controller. [`config`]
//! and [`daemon`] are the outside.
//!
//! Every controller is `reconcile(key)`: read caches, compute a plan with a pure function, apply it.

pub mod names;

pub mod context;
pub mod controllers;
pub mod error;

pub mod batch;
pub mod owners;
pub mod pods;
pub mod selector;
pub mod status;
pub mod watch;
pub mod writes;

pub mod replicas;

pub mod config;
pub mod daemon;

pub use context::Context;
pub use error::Error;
