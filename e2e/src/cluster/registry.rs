//! The cluster's image registry ([`crate::registry`]): where nodes pull from what they do not have.
//!
//! Nodes reach it for every name, by the mirror configuration that containerd defined and our kubelet reads too. What it
//! does not have is not there: nobody asks the internet.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::daemon::Site;
use super::start::place;
use super::{Cluster, Error};
use crate::files;
use crate::init::Process;
use crate::progress::Progress;

const PORT: u16 = 5000;
pub(super) const NAME: &str = "registry";
/// Below `/etc` of a node.
const HOSTS: &str = "containerd/certs.d/_default/hosts.toml";

impl Cluster {
    pub(super) fn start_registry(&self, progress: Progress) -> Result<(), Error> {
        progress.step("image registry", || {
            let archives = self.own_archives()?;
            self.control_plane()
                .start(self.registry_process(&archives))?;
            self.wait_for_registry(self.registry())
        })
    }

    pub(super) fn registry(&self) -> SocketAddr {
        (self.number.gateway(), PORT).into()
    }

    /// The archives under names of the cluster's own: the builder removes a file when it has a newer one.
    fn own_archives(&self) -> Result<Vec<PathBuf>, Error> {
        let dir = self.spec.dir.join("archives");
        fs::create_dir_all(&dir).map_err(files::cannot("make", &dir))?;
        let archives = self.spec.images.iter().chain(&self.spec.pulled);
        let own = archives.map(|archive| {
            let own = dir.join(archive.file_name().unwrap_or(archive.as_os_str()));
            place(archive, &own).map_err(files::cannot("place", archive))?;
            Ok(own)
        });
        own.collect()
    }

    fn registry_process(&self, archives: &[PathBuf]) -> Process {
        let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        let mut args = vec![
            "registry".to_owned(),
            flag("listen", &self.registry()),
            flag("cert", &self.pki.cert(NAME).display()),
            flag("key", &self.pki.key(NAME).display()),
        ];
        args.extend(archives.iter().map(|archive| archive.display().to_string()));
        self.own_process(NAME, args)
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
