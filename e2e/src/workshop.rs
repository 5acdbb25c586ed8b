//! Gets built what a cluster is made of: our daemons by cargo, Go tools by `hack/tools`, images by [`crate::image`].
//!
//! Everything built lies outside of the clone and is reused while its sources stay the same.

use std::path::{Path, PathBuf};

use crate::cluster::{Daemon, OURS, Spec, Upstream};
use crate::command::{self, attached};

/// The tools that every cluster needs.
const ALWAYS: &[&str] = &["etcd", "kubectl"];
/// What upstream's kubelet needs beside itself.
const CONTAINERD_TOOLS: &[&str] = &["containerd", "containerd-shim-runc-v2", "ctr"];
/// runc and the CNI plugins do what our kubelet does itself; conntrack is called by upstream's kube-proxy, nftables too.
const UPSTREAM_NODE_PACKAGES: &[&str] = &[
    "runc",
    "containernetworking-plugins",
    "conntrack",
    "nftables",
];

/// `--profile`: how our daemons are built, for [`Workshop::new`].
pub fn profile(default: &'static str) -> clap::Arg {
    clap::Arg::new("profile")
        .long("profile")
        .value_parser(["dev", "fast", "release"])
        .default_value(default)
        .help("How our daemons are built")
}

/// Where sources are and where what is built goes.
#[derive(Clone, Debug)]
pub struct Workshop {
    root: PathBuf,
    cache: PathBuf,
    target: PathBuf,
    profile: String,
    /// Where our daemons are already; none of them is built then.
    built: Option<PathBuf>,
}

impl Workshop {
    /// As `hack/lib.sh` exports it; a plain `cargo run` gets the same places. `NAVARCH_PROGRAMS` names a directory in
    /// which our daemons were built before.
    pub fn new(profile: &str) -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the crate lies in the clone");
        let home = || path("HOME").unwrap_or_else(|| "/root".into());
        let caches = || path("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"));
        let cache = path("NAVARCH_CACHE").unwrap_or_else(|| caches().join("navarch"));
        Self {
            root: path("NAVARCH_ROOT").unwrap_or_else(|| clone.to_owned()),
            target: path("CARGO_TARGET_DIR").unwrap_or_else(|| cache.join("target")),
            cache,
            profile: profile.to_owned(),
            built: path("NAVARCH_PROGRAMS"),
        }
    }

    /// The clone at `root` with everything built below `cache`.
    #[cfg(test)]
    pub(crate) fn at(root: &Path, cache: &Path) -> Self {
        let [root, cache] = [root, cache].map(Path::to_owned);
        Self {
            root,
            target: cache.join("target"),
            cache,
            profile: "dev".to_owned(),
            built: None,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where our daemons are built to.
    pub fn programs(&self) -> PathBuf {
        if let Some(built) = &self.built {
            return built.clone();
        }
        // Cargo's one irregular name.
        self.target.join(if self.profile == "dev" {
            "debug"
        } else {
            &self.profile
        })
    }

    /// Where everything lies that can be made again.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    pub fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    /// Upstream's sources, of the release that `hack/go` pins.
    pub fn upstream_tree(&self) -> Result<PathBuf, command::Error> {
        self.module("kubernetes", "k8s.io/kubernetes")
    }

    /// The sources of a Go module that `hack/go/TOOL` pins.
    pub fn module(&self, tool: &str, module: &str) -> Result<PathBuf, command::Error> {
        let pins = self.root.join("hack/go").join(tool);
        let go = |verb: &[&str]| {
            let args = [verb, &[module]].concat();
            command::run_in(&pins, "go", &args)
        };
        // It is named without a directory while it was not fetched.
        let list = || go(&["list", "-m", "-f", "{{.Dir}}"]);
        let mut dir = list()?;
        if dir.trim().is_empty() {
            go(&["mod", "download"])?;
            dir = list()?;
        }
        Ok(PathBuf::from(dir.trim()))
    }

    /// A cluster in `dir` of one node and ours alone, out of what is built here. `launcher` is `navarch-cluster`.
    pub fn spec(&self, dir: &Path, launcher: &Path) -> Spec {
        Spec {
            dir: dir.to_owned(),
            nodes: 1,
            etcd_members: 1,
            api_servers: 1,
            upstream: Upstream::default(),
            flags: Vec::new(),
            secured: false,
            checked: true,
            programs: self.programs(),
            tools: self.tools(),
            launcher: launcher.to_owned(),
            root: self.root.clone(),
            images: Vec::new(),
            pulled: Vec::new(),
        }
    }

    /// Builds all programs of a cluster in which `upstream` are not ours.
    pub fn ensure_programs(&self, upstream: &Upstream) -> Result<(), command::Error> {
        let theirs = OURS
            .iter()
            .filter(|daemon| upstream.runs_somewhere(**daemon));
        let mut tools: Vec<&str> = ALWAYS.to_vec();
        tools.extend(theirs.map(|daemon| daemon.name()));
        let kubelet = upstream.runs_somewhere(Daemon::Kubelet);
        if kubelet {
            tools.extend(CONTAINERD_TOOLS);
        }
        if kubelet || upstream.runs_somewhere(Daemon::KubeProxy) {
            self.hack("packages", UPSTREAM_NODE_PACKAGES)?;
        }
        self.ensure_tools(&tools)?;
        let ours: Vec<Daemon> = OURS
            .iter()
            .copied()
            .filter(|daemon| !upstream.runs_everywhere(*daemon))
            .collect();
        self.ensure_daemons(&ours)
    }

    pub fn ensure_tools(&self, names: &[&str]) -> Result<(), command::Error> {
        if names.is_empty() {
            Ok(())
        } else {
            self.hack("tools", names)
        }
    }

    pub fn ensure_daemons(&self, daemons: &[Daemon]) -> Result<(), command::Error> {
        if daemons.is_empty() || self.built.is_some() {
            return Ok(());
        }
        let manifest = self.root.join("Cargo.toml");
        let mut args = vec![
            "build".into(),
            "--profile".into(),
            self.profile.clone(),
            "--manifest-path".into(),
        ];
        args.push(manifest.to_string_lossy().into_owned());
        for package in daemons.iter().flat_map(|daemon| packages(*daemon)) {
            args.extend(["--package".to_owned(), (*package).to_owned()]);
        }
        attached("cargo", &args)
    }

    fn hack(&self, script: &str, args: &[&str]) -> Result<(), command::Error> {
        attached(&self.root.join("hack").join(script).to_string_lossy(), args)
    }
}

/// The packages whose programs make up one of our daemons.
fn packages(daemon: Daemon) -> &'static [&'static str] {
    match daemon {
        Daemon::KubeApiserver => &["navarch-apiserver"],
        Daemon::KubeControllerManager => &["navarch-controller-manager"],
        Daemon::KubeScheduler => &["navarch-scheduler"],
        Daemon::Kubelet => &["navarch-kubelet", "navarch-shim", "navarch-helper"],
        Daemon::KubeProxy => &["navarch-kube-proxy"],
        Daemon::Etcd | Daemon::Containerd => &[],
    }
}
