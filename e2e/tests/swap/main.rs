//! Ours and upstream's daemons in each other's places, in running clusters and on one etcd.
//!
//! `hack/test swap` runs them; upstream's daemons have to be built for it, which takes minutes.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod api;
mod both;
mod daemons;
#[allow(dead_code, reason = "each program of tests has a use for a part")]
#[path = "../cluster/fixture.rs"]
mod fixture;
mod golden;
mod known;
mod kubelet;
#[allow(dead_code, reason = "each program of tests has a use for a part")]
#[path = "../cluster/load.rs"]
mod load;
mod several;
mod storage;
