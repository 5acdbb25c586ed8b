//! What a cluster has beyond its daemons: cluster DNS.

use std::path::Path;

use super::number::DNS_SERVICE;
use super::{Cluster, Error};
use crate::chart;

const NAMESPACE: &str = "kube-system";
/// Nobody is there to ask for names outside of the cluster.
const NO_FORWARD: &str = "# no other names";

impl Cluster {
    /// Installs cluster DNS from the charts of `root`.
    pub(super) fn install_dns(&self, root: &Path) -> Result<(), Error> {
        let values = [
            ("clusterIP", DNS_SERVICE.to_string()),
            ("forward", NO_FORWARD.to_owned()),
        ];
        let manifests = chart::render(&root.join("charts/coredns"), NAMESPACE, &values)?;
        self.kubectl_with_input(&["apply", "-f", "-"], &manifests)?;
        Ok(())
    }

    pub(super) fn wait_for_dns(&self) -> Result<(), Error> {
        self.kubectl(&[
            "rollout",
            "status",
            "deployment/coredns",
            "--namespace",
            NAMESPACE,
            // A node imports its images first, which takes minutes where they are many and the daemons unoptimised.
            "--timeout=5m",
        ])?;
        Ok(())
    }
}
