//! Amounts of resources, and what a pod asks for.
//!
//! CPU counts in thousandths, memory and storage in bytes, the rest in units. Source of the rules:
//! `k8s.io/component-helpers/resource/helpers.go`, `pkg/scheduler/util/pod_resources.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::quantity::{Format, Quantity};

/// Quantities by resource name, as objects hold them.
pub type Texts = BTreeMap<String, Text>;

type List = BTreeMap<String, Quantity>;

/// What a container without a CPU request counts for when nodes are scored (thousandths).
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a memory request counts for when nodes are scored (bytes).
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// The resources that every pod has to do with.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amounts {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
}

impl Amounts {
    pub fn add(&mut self, other: &Self, times: i64) {
        self.milli_cpu = self
            .milli_cpu
            .saturating_add(other.milli_cpu.saturating_mul(times));
        self.memory = self
            .memory
            .saturating_add(other.memory.saturating_mul(times));
        self.ephemeral_storage = self
            .ephemeral_storage
            .saturating_add(other.ephemeral_storage.saturating_mul(times));
    }
}

/// Extended resources, huge pages and attachable volumes, by name.
pub type Scalars = Vec<(Arc<str>, i64)>;

/// What a pod asks for, or what a node has.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Resources {
    pub amounts: Amounts,
    pub pods: i64,
    /// Sorted by name.
    pub scalars: Scalars,
}

impl Resources {
    /// What a list of quantities says; amounts are rounded up.
    #[must_use]
    pub fn of(texts: &Texts) -> Self {
        Self::from_list(&list(Some(texts)))
    }

    fn from_list(list: &List) -> Self {
        let mut all = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => all.amounts.milli_cpu = quantity.milli_value(),
                "memory" => all.amounts.memory = quantity.value(),
                "ephemeral-storage" => all.amounts.ephemeral_storage = quantity.value(),
                "pods" => all.pods = quantity.value(),
                other if is_scalar(other) => all.scalars.push((other.into(), quantity.value())),
                _ => {}
            }
        }
        all
    }

    /// The amount of a resource by name.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.amounts.milli_cpu,
            "memory" => self.amounts.memory,
            "ephemeral-storage" => self.amounts.ephemeral_storage,
            "pods" => self.pods,
            _ => scalar(&self.scalars, name).unwrap_or(0),
        }
    }

    /// Whether it asks for nothing but a place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.amounts == Amounts::default() && self.scalars.is_empty()
    }
}

/// The amount of a scalar resource, if it is there at all.
#[must_use]
pub fn scalar(scalars: &Scalars, name: &str) -> Option<i64> {
    let at = scalars.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
    Some(scalars[at].1)
}

/// Adds scalars to sorted scalars; those that fall to zero stay.
pub fn add_scalars(to: &mut Scalars, from: &Scalars, times: i64) {
    for (name, amount) in from {
        match to.binary_search_by(|(n, _)| n.cmp(name)) {
            Ok(at) => to[at].1 = to[at].1.saturating_add(amount.saturating_mul(times)),
            Err(at) => to.insert(at, (Arc::clone(name), amount.saturating_mul(times))),
        }
    }
}

/// `IsScalarResourceName`: extended resources, huge pages, prefixed native ones, attachable volumes.
#[must_use]
pub fn is_scalar(name: &str) -> bool {
    name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
        || is_extended(name)
        || name.contains("kubernetes.io/")
}

/// `IsExtendedResourceName`: a resource of somebody else's domain.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn list(texts: Option<&Texts>) -> List {
    let parsed = |text: &Text| text.0.parse::<Quantity>().unwrap_or_default();
    texts
        .into_iter()
        .flatten()
        .map(|(name, q)| (name.clone(), parsed(q)))
        .collect()
}

fn add(to: &mut List, from: &List) {
    for (name, quantity) in from {
        to.entry(name.clone())
            .and_modify(|q| *q = q.plus(*quantity))
            .or_insert(*quantity);
    }
}

fn raise(to: &mut List, from: &List) {
    for (name, quantity) in from {
        to.entry(name.clone())
            .and_modify(|q| {
                if *quantity > *q {
                    *q = *quantity;
                }
            })
            .or_insert(*quantity);
    }
}

/// Whose word counts for what a container has.
#[derive(Clone, Copy)]
enum Word {
    /// What is asked for.
    Spec,
    /// What the kubelet promised.
    Allocated,
    /// What the container runs with.
    Actuated,
}

impl Word {
    fn list(self, pod: &Pod, container: &Container, infeasible: bool) -> List {
        let spec = container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        let status = || status_of(pod, &container.name);
        let allocated = || status().and_then(|s| s.allocated_resources.as_ref());
        let fallback = if infeasible { None } else { spec };
        let texts = match self {
            Self::Spec => spec,
            Self::Allocated => allocated().or(fallback),
            Self::Actuated => status()
                .and_then(|s| s.resources.as_ref())
                .and_then(|r| r.requests.as_ref())
                .or_else(allocated)
                .or(fallback),
        };
        list(texts)
    }
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    all.flatten().find(|s| s.name == name)
}

/// What containers count for that do not ask for it.
#[derive(Clone, Copy, Default)]
struct Defaults {
    cpu: bool,
    memory: bool,
}

impl Defaults {
    const BOTH: Self = Self {
        cpu: true,
        memory: true,
    };
}

/// The sum over containers, raised to what initialization needs at its widest.
fn aggregate(pod: &Pod, word: Word, defaults: Defaults, infeasible: bool) -> List {
    let Some(spec) = &pod.spec else {
        return List::new();
    };
    let of = |container: &Container| {
        let mut list = word.list(pod, container, infeasible);
        if defaults.cpu {
            list.entry("cpu".to_owned())
                .or_insert(Quantity::milli(DEFAULT_MILLI_CPU, Format::DecimalSi));
        }
        if defaults.memory {
            list.entry("memory".to_owned())
                .or_insert(Quantity::new(DEFAULT_MEMORY, Format::BinarySi));
        }
        list
    };
    let mut sum = List::new();
    for container in &spec.containers {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut widest) = (List::new(), List::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut widest, &sidecars);
        } else {
            let mut during = own;
            add(&mut during, &sidecars);
            raise(&mut widest, &during);
        }
    }
    raise(&mut sum, &widest);
    sum
}

/// What a pod asks for. `placed` also counts what a pod that runs was given, while a resize is under way.
fn requests(pod: &Pod, placed: bool, defaults: Defaults) -> List {
    let mut all = of_containers(pod, placed, defaults);
    all.extend(of_pod(pod, placed));
    add_overhead(&mut all, pod);
    all
}

/// What the containers of a pod ask for.
fn of_containers(pod: &Pod, placed: bool, defaults: Defaults) -> List {
    if placed {
        let infeasible = resize_reason(pod) == Some("Infeasible");
        let mut all = aggregate(pod, Word::Actuated, defaults, infeasible);
        raise(
            &mut all,
            &aggregate(pod, Word::Allocated, defaults, infeasible),
        );
        if !infeasible {
            raise(&mut all, &aggregate(pod, Word::Spec, defaults, false));
        }
        all
    } else {
        aggregate(pod, Word::Spec, defaults, false)
    }
}

/// What a pod asks for as a whole, instead of its containers; if it is placed, also what it was given.
fn of_pod(pod: &Pod, placed: bool) -> List {
    let resources = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    let mut all = list(resources.and_then(|r| r.requests.as_ref()));
    all.retain(|name, _| of_whole_pods(name));
    let status = pod.status.as_ref().filter(|_| placed && !all.is_empty());
    if let Some((status, given)) = status.and_then(|s| Some((s, s.resources.as_ref()?))) {
        if resize_reason(pod) == Some("Infeasible") {
            all.clear();
        }
        raise(&mut all, &list(given.requests.as_ref()));
        raise(&mut all, &list(status.allocated_resources.as_ref()));
        all.retain(|name, _| of_whole_pods(name));
    }
    all
}

/// Whether a pod can ask for a resource as a whole.
fn of_whole_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn add_overhead(to: &mut List, pod: &Pod) {
    let overhead = pod.spec.as_ref().and_then(|s| s.overhead.as_ref());
    add(to, &list(overhead));
}

/// Why a resize of the pod waits, if one does.
fn resize_reason(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == "PodResizePending")?
        .reason
        .as_deref()
}

/// What a pod asks for.
#[must_use]
pub fn pod_requests(pod: &Pod, placed: bool) -> Resources {
    Resources::from_list(&requests(pod, placed, Defaults::default()))
}

/// The CPU and memory that a pod counts for when nodes are scored that it is on. One that asks for
/// something as a whole gets a default only for what nothing in it asks for.
#[must_use]
pub fn pod_nonzero(pod: &Pod, placed: bool) -> Amounts {
    let mut defaults = Defaults::BOTH;
    if !of_pod(pod, placed).is_empty() {
        let asked = requests(pod, placed, Defaults::default());
        defaults = Defaults {
            cpu: !asked.contains_key("cpu"),
            memory: !asked.contains_key("memory"),
        };
    }
    Resources::from_list(&requests(pod, placed, defaults)).amounts
}

/// The CPU and memory that a pod counts for when nodes are scored for it. As upstream's
/// `NodeResourcesFit` has it, what it asks for as a whole is left out.
#[must_use]
pub fn pod_scored(pod: &Pod) -> Amounts {
    let mut all = of_containers(pod, false, Defaults::BOTH);
    add_overhead(&mut all, pod);
    Resources::from_list(&all).amounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        proto::typed::from_json_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    fn asks(cpu: &str, memory: &str) -> serde_json::Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": memory } } })
    }

    #[test]
    fn initialization_counts_at_its_widest_and_sidecars_run_beside_everything() {
        let mut sidecar = asks("100m", "10");
        sidecar["restartPolicy"] = json!("Always");
        let pod = pod(json!({
            "initContainers": [asks("2", "1k"), sidecar, asks("1", "5k")],
            "containers": [asks("500m", "1k"), asks("1", "1k")],
            "overhead": { "cpu": "10m" },
        }));
        let all = pod_requests(&pod, false);
        // Containers with the sidecar: 1600m, 2010. First init: 2, 1k. Second: 1100m, 5010.
        assert_eq!(
            all.amounts,
            Amounts {
                milli_cpu: 2010,
                memory: 5010,
                ephemeral_storage: 0
            }
        );
    }

    #[test]
    fn pod_level_requests_replace_the_sum() {
        let mut spec = json!({ "containers": [asks("500m", "1k")] });
        spec["resources"] = json!({ "requests": { "cpu": "3" } });
        let all = pod_requests(&pod(spec), false);
        assert_eq!((all.amounts.milli_cpu, all.amounts.memory), (3000, 1000));
    }

    #[test]
    fn scores_count_defaults_for_what_is_not_asked_for() {
        let pod = pod(json!({ "containers": [{ "name": "a" }, asks("1", "1k")] }));
        assert!(pod_requests(&pod, false).amounts.milli_cpu == 1000);
        let nonzero = pod_nonzero(&pod, false);
        assert_eq!(
            (nonzero.milli_cpu, nonzero.memory),
            (1100, DEFAULT_MEMORY + 1000)
        );
    }

    #[test]
    fn a_running_pod_counts_for_what_it_was_given() {
        let mut pod = pod(json!({ "containers": [asks("1", "1k")] }));
        pod.status = proto::typed::from_json_value(json!({
            "containerStatuses": [{ "name": "c", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                "allocatedResources": { "cpu": "1", "memory": "1k" }, "resources": { "requests": { "cpu": "2", "memory": "1k" } } }],
        }))
        .unwrap();
        assert_eq!(pod_requests(&pod, true).amounts.milli_cpu, 2000);
        assert_eq!(pod_requests(&pod, false).amounts.milli_cpu, 1000);
    }

    #[test]
    fn extended_resources_are_scalars_and_others_are_left_out() {
        let pod = pod(
            json!({ "containers": [{ "name": "c", "resources": { "requests":
            { "example.com/gpu": "2", "hugepages-2Mi": "4Mi", "fuel": "3" } } }] }),
        );
        let all = pod_requests(&pod, false);
        assert_eq!(all.scalars.len(), 2);
        assert_eq!(all.get("example.com/gpu"), 2);
        assert_eq!(all.get("fuel"), 0);
    }
}
