//! The node authorizer.

use component::Supervisor;

use super::{Attributes, Authorizer, Decision};
use crate::registry::Registry;

pub struct Node {}

impl Node {
    pub fn new(_registry: &Registry, _tasks: &Supervisor) -> anyhow::Result<Self> {
        Ok(Self {})
    }
}

impl Authorizer for Node {
    fn authorize(&self, _asked: &Attributes<'_>) -> Decision {
        Decision::NoOpinion(String::new())
    }
}
