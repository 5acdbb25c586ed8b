//! image
pub mod import;
pub mod layer;
pub mod manifest;
pub mod reference;
pub mod store;
mod tar;
