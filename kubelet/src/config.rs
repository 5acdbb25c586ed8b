//! What a kubelet is told: flags, configuration file, drop-ins.
//!
//! The file is read first, then the `*.conf` files of `--config-dir` are merged into it, then the flags
//! that were given win. Without any file the defaults are those of upstream's old command line:
//! anonymous requests are allowed and the read-only port is open.
//!
//! Invariant: a [`Config`] has been validated; everything that was wrong was told at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use component::args::Args;
use component::config::Problems;
use component::features::Features;
use component::serving::Pages;
use serde_json::Value;

mod defaults;
mod file;
pub mod flags;
mod validate;
mod values;

pub use file::{KubeletConfiguration, Texts};

/// Why there is no usable configuration.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read {path}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path}: {problem}", path = path.display())]
    Syntax { path: PathBuf, problem: String },
    #[error(
        "{path}: no apiVersion and kind of {API_VERSION} KubeletConfiguration",
        path = path.display()
    )]
    Kind { path: PathBuf },
    #[error(transparent)]
    Features(#[from] component::features::Error),
    #[error("invalid configuration: {0}")]
    Invalid(Problems),
}

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// What a kubelet runs with.
#[derive(Clone)]
pub struct Config {
    /// What it was started with.
    pub pages: Pages,
    pub kubelet: KubeletConfiguration,
    pub node: Node,
    pub features: Features,
    /// What to tell once there is a log, such as unknown fields.
    pub warnings: Vec<String>,
}

/// What the kubelet's port serves, as `/statusz` tells it.
const PATHS: [&str; 11] = [
    "/checkpoint",
    "/configz",
    "/containerLogs",
    "/debug",
    "/exec",
    "/healthz",
    "/logs",
    "/metrics",
    "/pods",
    "/run",
    "/stats",
];

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("kubelet", &self.kubelet)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// What only the command line says.
#[derive(Clone, Debug)]
pub struct Node {
    /// None: standalone.
    pub kubeconfig: Option<PathBuf>,
    pub bootstrap_kubeconfig: Option<PathBuf>,
    pub hostname_override: String,
    /// As given; see `node::address`.
    pub ip: String,
    pub cert_dir: PathBuf,
    pub external_cloud: bool,
    pub root: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub lock_file: Option<PathBuf>,
    pub exit_on_lock_contention: bool,
    pub ignore_eviction_in_allocatable: bool,
    pub containers: ContainerCollection,
    pub credential_providers: Option<(PathBuf, PathBuf)>,
}

/// Which ended containers are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerCollection {
    pub min_age: std::time::Duration,
    pub per_container: i32,
    /// Negative: any number.
    pub in_total: i32,
}

impl Config {
    /// Reads everything that the command line names.
    ///
    /// # Errors
    /// If a file cannot be used, or what is in it is not valid.
    pub fn load(args: &Args) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let file = args.get(&flags::CONFIG);
        let mut tree = match &file {
            Some(path) => read(path)?,
            None => serde_json::json!({}),
        };
        if file.is_some() {
            eviction_defaults(&mut tree);
        } else {
            legacy_defaults(&mut tree);
        }
        if let Some(dir) = args.get(&flags::CONFIG_DIR) {
            for path in drop_ins(&dir)? {
                merge(&mut tree, read(&path)?);
            }
        }
        file::complete(&mut tree);
        let place = file.unwrap_or_default();
        let mut kubelet = decode(tree, &place, &mut warnings)?;
        flags::override_file(args, &mut kubelet);
        let gates = kubelet.feature_gates.iter();
        let features = Features::defaults().with(gates.map(|(name, on)| (name.as_str(), *on)))?;
        file::complete_by_gates(&mut kubelet, &features);
        let node = Node::of(args);
        let mut problems = Problems::new();
        validate::configuration(&kubelet, &features, &mut problems);
        validate::labels(&node.labels, &mut problems);
        problems.check(
            !node.exit_on_lock_contention || node.lock_file.is_some(),
            "--exit-on-lock-contention",
            "cannot exit on lock file contention: no lock file specified",
        );
        problems.or(()).map_err(Error::Invalid)?;
        Ok(Self {
            pages: Pages::new("kubelet", args, &PATHS).of(&features),
            kubelet,
            node,
            features,
            warnings,
        })
    }

    /// As it is served at `/configz`.
    #[must_use]
    pub fn configz(&self) -> Value {
        let mut tree = serde_json::to_value(&self.kubelet).unwrap_or_default();
        if let Some(top) = tree.as_object_mut() {
            top.insert("apiVersion".to_owned(), API_VERSION.into());
            top.insert("kind".to_owned(), KIND.into());
        }
        tree
    }
}

impl Node {
    fn of(args: &Args) -> Self {
        let providers = (
            args.get(&flags::IMAGE_CREDENTIAL_PROVIDER_CONFIG),
            args.get(&flags::IMAGE_CREDENTIAL_PROVIDER_BIN_DIR),
        );
        Self {
            kubeconfig: args.get(&flags::KUBECONFIG),
            bootstrap_kubeconfig: args.get(&flags::BOOTSTRAP_KUBECONFIG),
            hostname_override: args.get(&flags::HOSTNAME_OVERRIDE),
            ip: args.get(&flags::NODE_IP),
            cert_dir: args.get(&flags::CERT_DIR),
            external_cloud: args.get(&flags::CLOUD_PROVIDER) == "external",
            root: args.get(&flags::ROOT_DIR),
            labels: args.get(&flags::NODE_LABELS).0,
            lock_file: args.get(&flags::LOCK_FILE),
            exit_on_lock_contention: args.get(&flags::EXIT_ON_LOCK_CONTENTION),
            ignore_eviction_in_allocatable: args
                .get(&flags::EXPERIMENTAL_ALLOCATABLE_IGNORE_EVICTION),
            containers: ContainerCollection {
                min_age: args.get(&flags::MINIMUM_CONTAINER_TTL_DURATION),
                per_container: args.get(&flags::MAXIMUM_DEAD_CONTAINERS_PER_CONTAINER),
                in_total: args.get(&flags::MAXIMUM_DEAD_CONTAINERS),
            },
            credential_providers: providers.0.zip(providers.1),
        }
    }
}

/// A file as a tree, of the right kind.
fn read(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })?;
    let syntax = |problem: String| Error::Syntax {
        path: path.to_owned(),
        problem,
    };
    let (json, duplicate) =
        proto::codec::yaml::to_json(&text).map_err(|e| syntax(e.to_string()))?;
    if let Some(problem) = duplicate {
        return Err(syntax(problem));
    }
    let mut tree: Value = serde_json::from_slice(&json).map_err(|e| syntax(e.to_string()))?;
    let top = tree.as_object_mut();
    let right = top.is_some_and(|top| {
        let mut take = |name, wanted: &str| top.remove(name).is_some_and(|v| v == wanted);
        let version = take("apiVersion", API_VERSION);
        take("kind", KIND) && version
    });
    if right {
        Ok(tree)
    } else {
        Err(Error::Kind {
            path: path.to_owned(),
        })
    }
}

/// Upstream falls back from strict decoding to a lenient one with a warning: so do we, field by field.
fn decode(
    tree: Value,
    place: &Path,
    warnings: &mut Vec<String>,
) -> Result<KubeletConfiguration, Error> {
    let mut track = serde_path_to_error::Track::new();
    let reader = serde_path_to_error::Deserializer::new(tree, &mut track);
    let unknown = |path: serde_ignored::Path<'_>| {
        warnings.push(format!("{}: unknown field {path}", place.display()));
    };
    serde_ignored::deserialize(reader, unknown).map_err(|e: serde_json::Error| {
        let mut problems = Problems::new();
        problems.add(&track.path().to_string(), e);
        Error::Invalid(problems)
    })
}

/// What a file without thresholds gets, and one that asks for upstream's beside its own.
fn eviction_defaults(tree: &mut Value) {
    let Some(top) = tree.as_object_mut() else {
        return;
    };
    let both = top.get("mergeDefaultEvictionSettings") == Some(&Value::Bool(true));
    let given = top.entry("evictionHard").or_insert(Value::Null);
    if given.is_null() {
        *given = serde_json::json!(defaults::eviction_hard());
    } else if let Some(given) = given.as_object_mut().filter(|_| both) {
        for (signal, value) in defaults::eviction_hard() {
            given.entry(signal).or_insert(value.into());
        }
    }
}

/// What upstream's flags mean where there is no file at all.
fn legacy_defaults(tree: &mut Value) {
    *tree = serde_json::json!({
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "readOnlyPort": 10255,
    });
}

/// The drop-ins of a directory: `*.conf`, in the order of a walk.
fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |cause| Error::Read {
        path: dir.to_owned(),
        cause,
    };
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(drop_ins(&path)?);
        } else if path.extension().is_some_and(|e| e == "conf") {
            found.push(path);
        }
    }
    Ok(found)
}

/// RFC 7386.
fn merge(base: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *base = change;
        return;
    };
    if !base.is_object() {
        *base = Value::Object(serde_json::Map::new());
    }
    let Some(base) = base.as_object_mut() else {
        return;
    };
    for (name, value) in change {
        if value.is_null() {
            base.remove(&name);
        } else {
            merge(base.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
