//! What every daemon is built from: upstream's component-base and client-go.
//!
//! Reading order: [`daemon`] is a daemon's `main`, out of [`args`], [`config`], [`features`] and
//! [`logging`], and of [`files`], which are read again when they change; [`supervisor`] runs its tasks
//! and decides what their ends mean; [`serving`] is how it is reached, [`streaming`] what exec
//! and port forwarding travel on, [`client`] how it reaches the API server, [`mod@tracing`] how it tells what a request took; [`informer`], [`queue`] and
//! [`controller`] are what controllers stand on; [`leader`] and [`events`] are the two things most of them say about
//! themselves; [`metrics`] counts all of it. [`volumes`] is what more than one of them has to know of
//! storage.
//!
//! Nothing here is a process global: tasks, clients, metrics and shutdown tokens are arguments.

pub mod daemon;

pub mod args;
pub mod clock;
pub mod compatibility;
pub mod config;
pub mod features;
pub mod files;
pub mod logging;
pub mod version;

pub mod metrics;
pub mod supervisor;

pub mod serving;
pub mod streaming;
pub mod tracing;

pub mod client;

pub mod informer;

pub mod controller;
pub mod queue;

pub mod events;
pub mod leader;

pub mod volumes;

#[doc(hidden)]
pub mod parsers;

mod backoff;
pub mod bucket;
pub mod recent;
pub mod testing;

pub use daemon::Daemon;
pub use store::trust;
pub use supervisor::{Supervisor, Task};
