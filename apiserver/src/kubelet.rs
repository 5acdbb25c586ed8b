//! Connections to kubelets.

use crate::config::Kubelet;

pub struct Kubelets {}

impl Kubelets {
    pub fn new(_config: &Kubelet) -> anyhow::Result<Self> {
        Ok(Self {})
    }
}
