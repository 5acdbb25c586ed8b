//! The pod network by CNI plugins (specification 1.1, and 0.x results as plugins still give them).
//!
//! A network is a chain of programs. What was configured and what the programs answered is kept per
//! pod until it is gone, so that a pod is taken down by the chain that set it up, whatever the
//! directory says by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::netns::Namespaces;
use super::{Answer, Attachment, Pod, PodNetwork, Result, Status, blocking, checked};
use crate::sys::file::{self, Durability};
use crate::sys::watch::Watch;

pub(crate) mod config;
mod exec;

use config::NetworkList;

/// Where CNI is on this node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Configurations; the first in the order of names counts.
    pub conf_dir: PathBuf,
    /// Plugins, looked for in this order.
    pub bin_dirs: Vec<PathBuf>,
    /// State is kept here: `netns/` and `cni/`.
    pub root: PathBuf,
    /// For one plugin.
    pub timeout: Duration,
}

impl Config {
    /// The usual directories, with state below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into()],
            root: root.to_owned(),
            timeout: Duration::from_secs(120),
        }
    }
}

/// Why a plugin did not do it.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cni config uninitialized: no network configuration in {}", .0.display())]
    NoConfig(PathBuf),
    #[error("{}: {reason}", path.display())]
    BadConfig { path: PathBuf, reason: String },
    #[error("failed to find plugin {plugin:?} in path {path:?}")]
    NoPlugin { plugin: String, path: String },
    #[error("plugin type={plugin:?} failed ({command}): {source}")]
    Run {
        plugin: String,
        command: &'static str,
        source: io::Error,
    },
    #[error("plugin type={plugin:?} name={network:?} failed ({command}): {message}")]
    Plugin {
        plugin: String,
        network: String,
        command: &'static str,
        message: String,
    },
    #[error("plugin type={plugin:?} ({command}) gave no result: {reason}")]
    Result {
        plugin: String,
        command: &'static str,
        reason: String,
    },
    #[error("the network {0:?} gave the pod no address")]
    NoAddress(String),
}

/// What is kept of one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    pod: Pod,
    list: NetworkList,
    /// The last plugin's answer; absent while the pod is being set up.
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    ips: Vec<IpAddr>,
}

/// The link inside the pod.
const POD_LINK: &str = "eth0";

/// CNI on this node.
#[derive(Clone)]
pub struct Cni(Arc<Inner>);

struct Inner {
    config: Config,
    namespaces: Namespaces,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    list: Option<Arc<NetworkList>>,
    pods: BTreeMap<String, Record>,
}

impl Cni {
    /// Reads the configuration and what is kept of pods. Blocks.
    pub fn open(config: Config) -> Result<Self> {
        let namespaces = Namespaces::open(&config.root.join("netns"), 1)?;
        let inner = Inner {
            config,
            namespaces,
            state: Mutex::default(),
        };
        inner.load_records()?;
        inner.reload();
        Ok(Self(Arc::new(inner)))
    }

    /// Whether there is a configuration.
    pub fn is_configured(&self) -> bool {
        self.0.state.lock().list.is_some()
    }

    /// Reads the configuration again whenever the directory changes, until the future is dropped.
    /// The directory is made if it is missing: whoever installs a network writes there.
    pub async fn watch(&self) -> io::Result<std::convert::Infallible> {
        let dir = &self.0.config.conf_dir;
        fs::create_dir_all(dir)?;
        let watch = Watch::new()?;
        watch.add(dir)?;
        loop {
            self.0.reload();
            watch.changed().await?;
        }
    }

    /// Whether a network was set up for this pod and not taken away.
    pub fn has(&self, uid: &str) -> bool {
        self.0.state.lock().pods.contains_key(uid)
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let inner = self.0.clone();
        blocking(move || work(&inner)).boxed()
    }
}

impl PodNetwork for Cni {
    fn setup(&self, pod: Pod) -> Answer<'_, Attachment> {
        self.call(move |inner| inner.setup(pod))
    }

    fn teardown<'a>(&'a self, uid: &'a str) -> Answer<'a, ()> {
        let uid = uid.to_owned();
        self.call(move |inner| inner.teardown(&uid))
    }

    fn attachment(&self, uid: &str) -> Option<Attachment> {
        let state = self.0.state.lock();
        let record = state
            .pods
            .get(uid)
            .filter(|record| record.result.is_some())?;
        Some(self.0.attached(record))
    }

    fn reconcile(&self, live: BTreeSet<String>) -> Answer<'_, ()> {
        self.call(move |inner| inner.reconcile(&live))
    }

    fn set_pod_cidrs(&self, _: Vec<IpNet>) -> Answer<'_, ()> {
        async { Ok(()) }.boxed()
    }

    fn status(&self) -> Status {
        match self.is_configured() {
            true => Status::Ready,
            false => Status::NotReady {
                reason: "NetworkPluginNotReady",
                message: "Network plugin returns error: cni plugin not initialized".into(),
            },
        }
    }
}

impl Inner {
    fn record_path(&self, uid: &str) -> PathBuf {
        self.config.root.join("cni").join(format!("{uid}.json"))
    }

    fn load_records(&self) -> Result<()> {
        let dir = self.config.root.join("cni");
        fs::create_dir_all(&dir).map_err(super::Error::at("create", &dir))?;
        let mut state = self.state.lock();
        for entry in fs::read_dir(&dir)
            .map_err(super::Error::at("list", &dir))?
            .flatten()
        {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => drop(state.pods.insert(record.pod.uid.clone(), record)),
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "unreadable CNI record");
                }
            }
        }
        Ok(())
    }

    fn reload(&self) {
        let found = config::load(&self.config.conf_dir);
        let mut state = self.state.lock();
        let name = |list: &Option<Arc<NetworkList>>| list.as_ref().map(|list| list.name.clone());
        if name(&state.list) != name(&found) {
            tracing::info!(network = ?name(&found), "CNI configuration");
        }
        state.list = found;
    }

    fn attached(&self, record: &Record) -> Attachment {
        Attachment {
            netns: self.namespaces.path(&record.pod.uid),
            ips: record.ips.clone(),
        }
    }

    fn setup(&self, pod: Pod) -> Result<Attachment> {
        let uid = checked(&pod.uid)?.to_owned();
        let known = self.state.lock().pods.get(&uid).cloned();
        if let Some(record) = known {
            if record.result.is_some() && self.namespaces.is_pinned(&uid)? {
                return Ok(self.attached(&record));
            }
            self.teardown(&uid)?;
        }
        let list = self.state.lock().list.clone();
        let list = list.ok_or_else(|| Error::NoConfig(self.config.conf_dir.clone()))?;
        let mut record = Record {
            pod,
            list: NetworkList::clone(&list),
            result: None,
            ips: Vec::new(),
        };
        self.keep(&record)?;
        match self.add(&mut record) {
            Ok(()) => Ok(self.attached(&record)),
            Err(err) => {
                if let Err(error) = self.teardown(&uid) {
                    tracing::warn!(pod.uid = uid, %error, "cannot undo a failed pod network");
                }
                Err(err)
            }
        }
    }

    fn add(&self, record: &mut Record) -> Result<()> {
        let fresh = self.namespaces.fresh(&record.pod.users)?;
        let netns = self.namespaces.pin(&record.pod.uid, fresh.fd.as_fd())?;
        let run = self.run("ADD", record, &netns);
        let mut result = None;
        for plugin in &record.list.plugins {
            result = Some(
                run.plugin(plugin, result.as_ref())?
                    .ok_or_else(|| Error::Result {
                        plugin: config::kind(plugin).to_owned(),
                        command: "ADD",
                        reason: "it is empty".into(),
                    })?,
            );
        }
        let result = result.unwrap_or(Value::Null);
        record.ips = addresses(&result);
        if record.ips.is_empty() {
            return Err(Error::NoAddress(record.list.name.clone()).into());
        }
        record.result = Some(result);
        self.keep(record)
    }

    fn teardown(&self, uid: &str) -> Result<()> {
        let uid = checked(uid)?;
        let record = self.state.lock().pods.get(uid).cloned();
        if let Some(record) = record {
            // After a reboot the namespace is gone; plugins still have addresses to give back.
            let netns = match self.namespaces.is_pinned(uid)? {
                true => self.namespaces.path(uid),
                false => PathBuf::new(),
            };
            let run = self.run("DEL", &record, &netns);
            for plugin in record.list.plugins.iter().rev() {
                run.plugin(plugin, record.result.as_ref())?;
            }
            let path = self.record_path(uid);
            file::remove_all(&path).map_err(super::Error::at("remove", &path))?;
            self.state.lock().pods.remove(uid);
        }
        self.namespaces.unpin(uid)
    }

    fn reconcile(&self, live: &BTreeSet<String>) -> Result<()> {
        let known: Vec<_> = self.state.lock().pods.keys().cloned().collect();
        // One plugin that fails must not keep the others' addresses.
        let mut result = Ok(());
        for uid in known.iter().filter(|uid| !live.contains(*uid)) {
            result = result.and(self.teardown(uid));
        }
        result
    }

    fn keep(&self, record: &Record) -> Result<()> {
        let path = self.record_path(&record.pod.uid);
        // Durable: plugins keep addresses over a reboot, until they are told.
        let written = serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|json| file::write_atomic(&path, &json, 0o600, Durability::Disk));
        written.map_err(super::Error::at("write", &path))?;
        self.state
            .lock()
            .pods
            .insert(record.pod.uid.clone(), record.clone());
        Ok(())
    }

    fn run<'a>(
        &'a self,
        command: &'static str,
        record: &'a Record,
        netns: &'a Path,
    ) -> exec::Run<'a> {
        exec::Run {
            command,
            pod: &record.pod,
            list: &record.list,
            netns,
            link: POD_LINK,
            bin_dirs: &self.config.bin_dirs,
            timeout: self.config.timeout,
            runtime: runtime_config(&record.pod),
        }
    }
}

/// What a plugin gets if it has the capability of that name.
fn runtime_config(pod: &Pod) -> BTreeMap<&'static str, Value> {
    let mut config = BTreeMap::new();
    if !pod.host_ports.is_empty() {
        let ports = pod.host_ports.iter().map(|port| {
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.to_string().to_lowercase(),
                "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            })
        });
        config.insert("portMappings", ports.collect());
    }
    let (ingress, egress) = (pod.ingress_bandwidth, pod.egress_bandwidth);
    if ingress.is_some() || egress.is_some() {
        let mut bandwidth = serde_json::Map::new();
        for (rate, burst, value) in [
            ("ingressRate", "ingressBurst", ingress),
            ("egressRate", "egressBurst", egress),
        ] {
            if let Some(value) = value {
                bandwidth.insert(rate.into(), value.into());
                bandwidth.insert(burst.into(), u32::MAX.into());
            }
        }
        config.insert("bandwidth", Value::Object(bandwidth));
    }
    config
}

/// The pod's addresses: those of its own link, or of no particular one. Results before 0.3 name one
/// of each family.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let parse = |text: &Value| -> Option<IpAddr> {
        let text = text.as_str()?;
        text.split('/').next()?.parse().ok()
    };
    let links = result["interfaces"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let is_ours = |ip: &&Value| match ip["interface"].as_u64() {
        None => true,
        Some(index) => links.get(index as usize).is_some_and(|link| {
            let inside = link["sandbox"]
                .as_str()
                .is_some_and(|sandbox| !sandbox.is_empty());
            inside && link["name"] == POD_LINK
        }),
    };
    match result["ips"].as_array() {
        Some(ips) => ips
            .iter()
            .filter(is_ours)
            .filter_map(|ip| parse(&ip["address"]))
            .collect(),
        None => ["ip4", "ip6"]
            .iter()
            .filter_map(|key| parse(&result[key]["ip"]))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
