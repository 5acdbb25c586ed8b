//! CNI if the node has it, else the built-in bridge, decided for each pod when it is set up.
//!
//! A network that is installed on a running cluster takes over for new pods; those that have an
//! address from the bridge keep it until they end.

use std::collections::BTreeSet;

use futures::FutureExt;
use ipnet::IpNet;

use super::bridge::Bridge;
use super::cni::Cni;
use super::{Answer, Attachment, Pod, PodNetwork, Status};

/// Both networks of a node.
pub struct Choice {
    pub cni: Cni,
    pub bridge: Bridge,
}

impl Choice {
    fn current(&self) -> &dyn PodNetwork {
        if self.cni.is_configured() {
            &self.cni
        } else {
            &self.bridge
        }
    }

    /// Who set the pod up, or would.
    fn of(&self, uid: &str) -> &dyn PodNetwork {
        match uid {
            _ if self.cni.has(uid) => &self.cni,
            _ if self.bridge.attachment(uid).is_some() => &self.bridge,
            _ => self.current(),
        }
    }
}

impl PodNetwork for Choice {
    fn setup(&self, pod: Pod) -> Answer<'_, Attachment> {
        self.of(&pod.uid).setup(pod)
    }

    fn teardown<'a>(&'a self, uid: &'a str) -> Answer<'a, ()> {
        self.of(uid).teardown(uid)
    }

    fn attachment(&self, uid: &str) -> Option<Attachment> {
        self.of(uid).attachment(uid)
    }

    fn reconcile(&self, live: BTreeSet<String>) -> Answer<'_, ()> {
        async move {
            // First CNI: the bridge then drops namespaces that nobody knows.
            let known = live.iter().cloned().collect();
            self.cni.reconcile(known).await?;
            self.bridge.reconcile(live).await
        }
        .boxed()
    }

    fn set_pod_cidrs(&self, cidrs: Vec<IpNet>) -> Answer<'_, ()> {
        self.bridge.set_pod_cidrs(cidrs)
    }

    fn status(&self) -> Status {
        self.current().status()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::network::{bridge, cni};

    #[test]
    fn a_network_that_is_installed_later_takes_over_for_new_pods() {
        bridge::tests::on_a_node(async |node| {
            let bridge = node.ready(&["10.244.1.0/24"]).await;
            let mut config = cni::Config::new(&node.root);
            config.conf_dir = node.root.join("net.d");
            config.bin_dirs = vec![node.root.clone()];
            let plugin = node.root.join("fixed");
            let script = "#!/bin/sh\ncat > /dev/null\n[ $CNI_COMMAND = DEL ] || \
                          echo '{\"ips\": [{\"address\": \"192.0.2.5/24\"}]}'\n";
            fs::write(&plugin, script).unwrap();
            fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
            let choice = Choice {
                cni: Cni::open(config.clone()).unwrap(),
                bridge,
            };
            let pod = bridge::tests::pod;
            let old = choice.setup(pod("old")).await.unwrap();
            assert_eq!(old.ips[0].to_string(), "10.244.1.2");

            fs::create_dir(&config.conf_dir).unwrap();
            let conf = r#"{"cniVersion": "1.0.0", "name": "n", "type": "fixed"}"#;
            fs::write(config.conf_dir.join("10.conf"), conf).unwrap();
            let choice = Choice {
                cni: Cni::open(config).unwrap(),
                bridge: choice.bridge,
            };
            let new = choice.setup(pod("new")).await.unwrap();
            assert_eq!(new.ips[0].to_string(), "192.0.2.5");
            assert_eq!(choice.setup(pod("old")).await.unwrap(), old);
            choice.reconcile(["new".to_owned()].into()).await.unwrap();
            assert_eq!(choice.attachment("old"), None);
            assert_eq!(choice.attachment("new"), Some(new));
            choice.teardown("new").await.unwrap();
            assert_eq!(choice.attachment("new"), None);
        });
    }
}
