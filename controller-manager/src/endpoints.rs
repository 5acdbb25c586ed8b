//! The Endpoints objects of services that select pods (`endpoints-controller`).

pub mod plan;
pub mod repack;
