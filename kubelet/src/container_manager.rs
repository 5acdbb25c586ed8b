//! What all pods together get of the node.
//!
//! Owns: the cgroups above those of pods, what is reserved and what is allocatable ([`capacity`]),
//! and what is done when something runs out ([`eviction`]).
//!
//! ```text
//! <cgroupRoot>/kubepods              all pods; limited to what is allocatable
//! <cgroupRoot>/kubepods/burstable    CPU shares by what its pods request
//! <cgroupRoot>/kubepods/besteffort   the least CPU shares
//! ```
//! Guaranteed pods are directly below `kubepods`. Limits that the kernel refuses are tried again and
//! told in events; they never keep pods from running.

use std::sync::Arc;
use std::time::Duration;

use component::Supervisor;
use component::Task;
use component::events::Recorder;
use component::supervisor::chain;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use parking_lot::Mutex;

pub mod capacity;
pub mod cpus;
pub mod eviction;
pub mod threshold;

pub use capacity::{Reservations, Resources, reserved};

use crate::config::Config;
use crate::make::sums::{self, List};
use crate::make::{Qos, qos, shares};
use crate::node::Machine;
use crate::runtime;
use crate::runtime::cgroup::Hierarchies;

/// Why the node cannot be divided as the configuration says.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("--system-reserved value failed to parse: {0}")]
    SystemReserved(String),
    #[error("--kube-reserved value failed to parse: {0}")]
    KubeReserved(String),
    #[error("{}: {}", .0.field, .0.what)]
    Threshold(threshold::Problem),
    #[error("reserved-cpus: {0}")]
    ReservedCpus(String),
    #[error("{0}")]
    Reservation(String),
    #[error(transparent)]
    Cgroup(#[from] runtime::cgroup::Error),
}

/// Between two tries to set a limit that the kernel refused.
const RETRY: Duration = Duration::from_secs(60);
/// Upstream's smallest CPU shares.
const LEAST_SHARES: u64 = 2;

/// Divides the node among pods.
pub struct ContainerManager {
    cgroups: Hierarchies,
    /// `<cgroupRoot>/kubepods`
    root: String,
    per_qos: bool,
    enforce: Vec<String>,
    capacity: Resources,
    allocatable: Resources,
    enforced: Resources,
    reservations: Reservations,
    system_cgroup: String,
    kube_cgroup: String,
    /// CPU shares of burstable pods as they were last set.
    burstable: Mutex<Option<u64>>,
}

/// `--reserved-cpus` takes the place of what is reserved otherwise.
fn reservations(config: &Config, machine: &Machine) -> Result<Reservations, Error> {
    let kubelet = &config.kubelet;
    let mut system = reserved(&kubelet.system_reserved).map_err(Error::SystemReserved)?;
    let mut kube = reserved(&kubelet.kube_reserved).map_err(Error::KubeReserved)?;
    let cpus = cpus::parse(&kubelet.reserved_system_cpus).map_err(Error::ReservedCpus)?;
    if cpus.last().is_some_and(|last| *last >= machine.cores) {
        return Err(Error::ReservedCpus(format!(
            "{} is not a subset of online-cpus",
            kubelet.reserved_system_cpus
        )));
    }
    if !cpus.is_empty() {
        kube.remove(capacity::CPU);
        let count = i64::try_from(cpus.len()).unwrap_or(i64::MAX);
        let count = proto::quantity::Quantity::new(count, proto::quantity::Format::DecimalSi);
        system.insert(capacity::CPU.to_owned(), count);
    }
    let hard = threshold::parse(&threshold::Texts {
        hard: kubelet.eviction_hard.as_ref(),
        soft: &Default::default(),
        grace: &Default::default(),
        min_reclaim: &Default::default(),
    });
    let ignored = config.node.ignore_eviction_in_allocatable;
    Ok(Reservations {
        system,
        kube,
        eviction: if ignored {
            Vec::new()
        } else {
            hard.map_err(Error::Threshold)?
        },
    })
}

impl ContainerManager {
    /// Divides the node. Nothing is changed yet.
    ///
    /// # Errors
    /// If more is reserved than there is, or cgroups are not mounted.
    pub fn new(config: &Config, machine: &Machine) -> Result<Self, Error> {
        let kubelet = &config.kubelet;
        let reservations = reservations(config, machine)?;
        let storage = kubelet
            .local_storage_capacity_isolation
            .then(|| nix::sys::statvfs::statvfs(&config.node.root).ok())
            .flatten()
            .map(|stat| stat.blocks().saturating_mul(stat.fragment_size()));
        let pods = capacity::max_pods(kubelet, machine.cores);
        let all = capacity::capacity(machine, pods, storage);
        capacity::check(&all, &reservations).map_err(Error::Reservation)?;
        let kept = capacity::reservation(&all, &reservations);
        let enforced = if kubelet.enforce_node_allocatable.iter().any(|l| l == "pods") {
            capacity::enforced(&all, machine.max_pids, &reservations)
        } else {
            capacity::enforced(&all, machine.max_pids, &Reservations::default())
        };
        Ok(Self {
            cgroups: Hierarchies::detect()?,
            root: format!("{}/kubepods", kubelet.cgroup_root.trim_end_matches('/')),
            per_qos: kubelet.cgroups_per_qos,
            enforce: kubelet.enforce_node_allocatable.clone(),
            allocatable: capacity::allocatable(&all, &kept),
            capacity: all,
            enforced,
            reservations,
            system_cgroup: kubelet.system_reserved_cgroup.clone(),
            kube_cgroup: kubelet.kube_reserved_cgroup.clone(),
            burstable: Mutex::new(None),
        })
    }

    /// What the machine has.
    #[must_use]
    pub fn capacity(&self) -> &Resources {
        &self.capacity
    }

    /// What pods may have.
    #[must_use]
    pub fn allocatable(&self) -> &Resources {
        &self.allocatable
    }

    /// The cgroup above all pods.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The hierarchies that it is in.
    #[must_use]
    pub fn cgroups(&self) -> &Hierarchies {
        &self.cgroups
    }

    /// Makes the cgroups above pods, and starts to set their limits.
    ///
    /// # Errors
    /// If a cgroup cannot be made, or one that is to be limited is not there.
    pub fn start(
        self: &Arc<Self>,
        tasks: &Supervisor,
        recorder: Recorder,
        node: ObjectReference,
    ) -> Result<(), Error> {
        if !self.per_qos {
            return Ok(());
        }
        self.cgroups
            .make(&self.root, &runtime::Resources::default())?;
        for class in ["burstable", "besteffort"] {
            let limits = runtime::Resources {
                cpu_shares: Some(LEAST_SHARES),
                ..runtime::Resources::default()
            };
            self.cgroups
                .make(&format!("{}/{class}", self.root), &limits)?;
        }
        for (level, cgroup, amounts) in [
            (
                "system-reserved",
                &self.system_cgroup,
                &self.reservations.system,
            ),
            ("kube-reserved", &self.kube_cgroup, &self.reservations.kube),
        ] {
            self.reserve(level, cgroup, amounts, &recorder, &node)?;
        }
        let own = Arc::clone(self);
        tasks.spawn(Task::Worker, "node-allocatable", async move {
            own.enforce_allocatable(&recorder, &node).await;
        });
        Ok(())
    }

    /// Sets the limit above all pods. Pods may use more than it at first: eviction brings them below.
    async fn enforce_allocatable(&self, recorder: &Recorder, node: &ObjectReference) {
        let limits = limits(&self.enforced, false);
        loop {
            let Err(e) = self.cgroups.limit(&self.root, &limits) else {
                let message = "Updated Node Allocatable limit across pods";
                recorder.normal(node, "NodeAllocatableEnforced", message);
                return;
            };
            let problem = chain(&e);
            tracing::warn!(cgroup = self.root, error = problem, "Cannot limit all pods");
            let message = format!(
                "Failed to update Node Allocatable Limits {:?}: {problem}",
                self.root
            );
            recorder.warning(node, "FailedNodeAllocatableEnforcement", &message);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Limits a cgroup of others that is there already.
    fn reserve(
        &self,
        level: &str,
        cgroup: &str,
        amounts: &Resources,
        recorder: &Recorder,
        node: &ObjectReference,
    ) -> Result<(), Error> {
        let has = |wanted: &str| self.enforce.iter().any(|l| l == wanted);
        let compressible = has(&format!("{level}-compressible"));
        if !has(level) && !compressible {
            return Ok(());
        }
        self.cgroups.limit(cgroup, &limits(amounts, compressible))?;
        let name = level.replace('-', " ");
        let message = format!("Updated limits on {name} cgroup {cgroup}");
        recorder.normal(node, "NodeAllocatableEnforced", &message);
        Ok(())
    }

    /// Gives burstable pods CPU shares by what they request. To be called when the set of active pods
    /// changes.
    pub fn update(&self, pods: &[Arc<Pod>]) {
        if !self.per_qos {
            return;
        }
        let requested = |pod: &Arc<Pod>| {
            let amounts = sums::of_pod(pod, List::Requests);
            amounts
                .get(capacity::CPU)
                .map_or(0, |cpu| cpu.milli_value())
        };
        let milli = pods
            .iter()
            .filter(|pod| qos(pod) == Qos::Burstable)
            .map(requested)
            .fold(0_i64, i64::saturating_add);
        let wanted = shares(milli);
        let mut set = self.burstable.lock();
        if *set == Some(wanted) {
            return;
        }
        let limits = runtime::Resources {
            cpu_shares: Some(wanted),
            ..runtime::Resources::default()
        };
        match self
            .cgroups
            .limit(&format!("{}/burstable", self.root), &limits)
        {
            Ok(()) => *set = Some(wanted),
            Err(e) => {
                tracing::warn!(
                    error = chain(&e),
                    "Failed to update QoS cgroup configuration"
                );
            }
        }
    }
}

/// The limits of a cgroup that may have these amounts.
fn limits(amounts: &Resources, only_compressible: bool) -> runtime::Resources {
    let get = |name: &str| amounts.get(name).copied();
    let mut limits = runtime::Resources {
        cpu_shares: get(capacity::CPU).map(|cpu| shares(cpu.milli_value())),
        ..runtime::Resources::default()
    };
    if !only_compressible {
        limits.memory_limit = get(capacity::MEMORY).map(proto::quantity::Quantity::value);
        limits.pids_limit = get(capacity::PIDS).map(proto::quantity::Quantity::value);
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn reserved_cpus_take_the_place_of_reserved_amounts() {
        let machine = Machine {
            cores: 4,
            memory: 8 << 30,
            ..Machine::default()
        };
        let of = |yaml: &str| reservations(&config(yaml, &[]), &machine);
        let reserved = of("reservedSystemCPUs: '0-1'\nkubeReserved: {cpu: '3', memory: 1Gi}\n");
        let reserved = reserved.unwrap();
        assert_eq!(reserved.system[capacity::CPU].value(), 2);
        assert!(!reserved.kube.contains_key(capacity::CPU));
        assert!(reserved.kube.contains_key(capacity::MEMORY));
        assert!(of("reservedSystemCPUs: '4'\n").is_err());
    }

    #[test]
    fn compressible_enforcement_leaves_memory_alone() {
        let amounts = Resources::from([
            (capacity::CPU.to_owned(), "2".parse().unwrap()),
            (capacity::MEMORY.to_owned(), "1Gi".parse().unwrap()),
            (capacity::PIDS.to_owned(), "100".parse().unwrap()),
        ]);
        let all = limits(&amounts, false);
        assert_eq!(all.cpu_shares, Some(2048));
        assert_eq!(all.memory_limit, Some(1 << 30));
        assert_eq!(all.pids_limit, Some(100));
        assert_eq!(limits(&amounts, true).memory_limit, None);
    }
}
