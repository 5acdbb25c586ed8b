//! image
pub mod auth;
pub mod gc;
pub mod import;
pub mod layer;
pub mod manifest;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod store;
mod tar;
