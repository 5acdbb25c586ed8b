//! image
pub mod layer;
pub mod manifest;
pub mod reference;
mod tar;
