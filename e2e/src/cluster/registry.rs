//! The cluster's image registry ([`crate::registry`]): where nodes pull from what they do not have.
//!
//! Nodes reach it for every name, by the mirror configuration that containerd defined and our kubelet reads too. What it
//! does not have is not there: nobody asks the internet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::daemon::{Site, build};
use super::{Cluster, Error};
use crate::init::Process;
use crate::progress::Progress;

const PORT: u16 = 5000;
pub(super) const NAME: &str = "registry";
/// Below `/etc` of a node.
const HOSTS: &str = "containerd/certs.d/_default/hosts.toml";

impl Cluster {
    pub(super) fn start_registry(&self, progress: Progress) -> Result<(), Error> {
        progress.step("image registry", || {
            self.control_plane().start(self.registry_process())?;
            self.wait_for_registry(self.registry())
        })
    }

    pub(super) fn registry(&self) -> SocketAddr {
        (self.number.gateway(), PORT).into()
    }

    fn registry_process(&self) -> Process {
        let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        let mut args = vec![
            "registry".to_owned(),
            flag("listen", &self.registry()),
            flag("cert", &self.pki.cert(NAME).display()),
            flag("key", &self.pki.key(NAME).display()),
        ];
        let archives = self.spec.images.iter().chain(&self.spec.pulled);
        args.extend(archives.map(|archive| archive.display().to_string()));
        Process {
            name: NAME.to_owned(),
            build: build(&self.spec.launcher),
            program: self.spec.launcher.clone(),
            args,
            env: BTreeMap::new(),
            log: self.logs().join("registry.log"),
        }
    }

    /// Files below a node's `/etc` that lead pulls to the registry.
    pub(super) fn registry_files(&self) -> Vec<(String, String)> {
        let Site { pki, .. } = self.site();
        let url = format!("https://{}", self.registry());
        let text = format!(
            "\
server = \"{url}\"
[host.\"{url}\"]
capabilities = [\"pull\", \"resolve\"]
ca = \"{ca}\"
",
            ca = pki.cert("ca").display(),
        );
        vec![(HOSTS.to_owned(), text)]
    }
}
