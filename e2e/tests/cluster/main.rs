//! Black-box tests on local clusters, with kubectl and plain HTTP as clients.
//!
//! `NAVARCH_UPSTREAM=kubelet,... cargo test --test cluster` runs them with upstream's daemons in the place of ours: a test
//! that fails there is presumed wrong.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod batch;
mod containers;
mod fixture;
mod harness;
mod kills;
mod load;
mod serving;
mod workloads;
