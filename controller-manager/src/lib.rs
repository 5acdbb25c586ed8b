//! controller-manager

pub mod endpoints;
pub mod endpointslice;
pub mod members;
pub mod merge;
