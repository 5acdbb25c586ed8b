//! Our daemons and upstream's under the same load on the same machine in one run.
//!
//! Rates and latencies depend on the machine and on what else it does; what counts is the ratio. The
//! steadiest figure is the server's CPU time per request, because load and server share the cores. What `api` measures it
//! measures of both by turns ([`turns`]).

pub mod api;
pub(crate) mod client;
pub mod load;
pub mod nodes;
mod objects;
mod process;
pub mod report;
pub mod store;
pub mod turns;
mod watch;

pub use client::Error;

use crate::cluster::{self, Cluster, Daemon};

impl load::Target {
    /// The API server of a cluster.
    ///
    /// # Errors
    /// If it does not run.
    pub fn of(cluster: &Cluster) -> Result<Self, cluster::Error> {
        Ok(Self {
            address: cluster.api_server(),
            tls: cluster.tls(),
            server: cluster.pid(None, Daemon::KubeApiserver)?,
            etcd: cluster.pid(None, Daemon::Etcd)?,
            samples: None,
            place: None,
        })
    }
}
