//! cni
#[derive(thiserror::Error, Debug)]
pub enum Error {}
