//! Ending containers: grace, hooks, order. Upstream's `killContainer` and
//! `kuberuntime_termination_order.go`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Worker;
use crate::hook::Hooked;
use crate::make::labels;
use crate::pod::next::Why;
use crate::pod::seen::{self, Seen};
use crate::pod::spec;
use crate::runtime;

/// Every container gets at least this, so that few are killed without a word.
const LEAST: Duration = Duration::from_secs(2);

/// Who has to be gone before whom: sidecars end after the main containers, the last first.
pub(super) struct Order {
    ended: BTreeMap<String, watch::Sender<bool>>,
    before: BTreeMap<String, Vec<String>>,
}

impl Order {
    /// The order of those that run.
    fn new(spec: &PodSpec, running: &[&seen::Container]) -> Self {
        let mut order = Self {
            ended: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        let runs = |name: &str| running.iter().any(|c| c.name == name);
        let init = spec::init_containers(spec);
        for container in spec.containers.iter().chain(init) {
            let ended = watch::Sender::new(!runs(&container.name));
            order.ended.insert(container.name.clone(), ended);
        }
        let mains: Vec<_> = spec.containers.iter().map(|c| c.name.clone()).collect();
        let mut later: Option<&String> = None;
        for sidecar in init.iter().rev().filter(|c| spec::is_sidecar(c)) {
            let before = mains.iter().chain(later).cloned().collect();
            order.before.insert(sidecar.name.clone(), before);
            later = Some(&sidecar.name);
        }
        order
    }

    /// Waits until it is this container's turn.
    async fn turn(&self, name: &str) {
        for before in self.before.get(name).into_iter().flatten() {
            if let Some(ended) = self.ended.get(before) {
                // The sender lives in this order.
                let _ = ended.subscribe().wait_for(|ended| *ended).await;
            }
        }
    }

    fn ended(&self, name: &str) {
        if let Some(ended) = self.ended.get(name) {
            ended.send_replace(true);
        }
    }
}

/// How a container is ended.
pub(super) struct How<'a> {
    pub(super) why: Why,
    /// Of its event; empty for the usual words.
    pub(super) message: &'a str,
    /// Seconds that count instead of those of the specification.
    pub(super) grace: Option<i64>,
    pub(super) order: Option<&'a Order>,
    pub(super) pod_ip: Option<IpAddr>,
}

impl Worker {
    /// Ends all containers that run. `grace` counts for all, if it is given.
    pub(super) async fn kill_all(
        &self,
        pod: &Pod,
        seen: &Seen,
        grace: Option<i64>,
    ) -> Result<(), runtime::Error> {
        let running: Vec<_> = seen.running().collect();
        let order = Order::new(spec::of(pod), &running);
        let ends = running.iter().map(|container| {
            let how = How {
                why: Why::Other,
                message: "",
                grace,
                order: Some(&order),
                pod_ip: seen.ips().first().copied().or_else(|| self.host_ip(pod)),
            };
            async move { self.kill(pod, container, how).await }
        });
        join_all(ends).await.into_iter().collect()
    }

    /// Ends one container.
    pub(super) async fn kill(
        &self,
        pod: &Pod,
        container: &seen::Container,
        how: How<'_>,
    ) -> Result<(), runtime::Error> {
        let name = &container.name;
        let spec = spec::container(spec::of(pod), name).map(|(_, spec)| spec);
        let spec = spec.unwrap_or_else(|| restored(container));
        let message = match how.message {
            "" => format!("Stopping container {name}"),
            message => message.to_owned(),
        };
        self.note_container(pod, name, "Killing", &message);
        let seconds = how.grace.unwrap_or_else(|| grace(pod, &spec, how.why));
        let mut left = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        if !left.is_zero() {
            let hooked = Hooked {
                runtime: self.shared.parts.runtime.as_ref(),
                pod,
                container: &spec,
                id: &container.status.id,
                pod_ip: how.pod_ip,
            };
            left = self.shared.hooks.pre_stop(&hooked, left).await;
        }
        if let Some(order) = how.order {
            let began = Instant::now();
            // Time that is up ends the waiting too.
            let _ = tokio::time::timeout(left, order.turn(name)).await;
            left = left.saturating_sub(began.elapsed());
        }
        let runtime = &self.shared.parts.runtime;
        let id = &container.status.id;
        let stopped = runtime.stop_container(id, left.max(LEAST), None).await;
        if let Some(order) = how.order {
            order.ended(name);
        }
        match stopped {
            Err(err) if err.is_not_found() => Ok(()),
            stopped => stopped,
        }
    }
}

/// What a container that the specification does not have any more left of its own.
fn restored(container: &seen::Container) -> Container {
    let status = &container.status;
    let known = labels::recover(&status.labels, &status.annotations);
    let mut spec = Container {
        name: container.name.clone(),
        ..Container::default()
    };
    if let Some(pre_stop) = known.pre_stop {
        spec.lifecycle.get_or_insert_default().pre_stop = Some(pre_stop);
    }
    spec
}

/// Seconds that a container has to end.
fn grace(pod: &Pod, container: &Container, why: Why) -> i64 {
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        return seconds;
    }
    let of_pod = spec::of(pod).termination_grace_period_seconds;
    let probe = match why {
        Why::Other => None,
        Why::Liveness => container.liveness_probe.as_ref(),
        Why::Startup => container.startup_probe.as_ref(),
    };
    let of_probe = probe.and_then(|probe| probe.termination_grace_period_seconds);
    of_pod.map_or(2, |of_pod| of_probe.unwrap_or(of_pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_of_a_probe_counts_until_the_pod_is_deleted() {
        let mut pod: Pod = proto::typed::from_json_value(serde_json::json!({
            "spec": {
                "terminationGracePeriodSeconds": 30,
                "containers": [{
                    "name": "a", "livenessProbe": { "terminationGracePeriodSeconds": 5 },
                }],
            },
        }))
        .unwrap();
        let container = spec::of(&pod).containers[0].clone();
        assert_eq!(grace(&pod, &container, Why::Liveness), 5);
        assert_eq!(grace(&pod, &container, Why::Startup), 30);
        assert_eq!(grace(&pod, &container, Why::Other), 30);
        pod.metadata.deletion_grace_period_seconds = Some(3);
        assert_eq!(grace(&pod, &container, Why::Liveness), 3);
    }

    #[tokio::test]
    async fn sidecars_end_after_the_main_containers_and_the_last_first() {
        let spec: PodSpec = proto::typed::from_json_value(serde_json::json!({
            "initContainers": [
                { "name": "one", "restartPolicy": "Always" },
                { "name": "init" },
                { "name": "two", "restartPolicy": "Always" },
            ],
            "containers": [{ "name": "main" }],
        }))
        .unwrap();
        let running = ["main", "one", "two"].map(crate::pod::next::tests::running);
        let running: Vec<_> = running.iter().collect();
        let order = Order::new(&spec, &running);
        let turn = |name: &'static str| {
            let turn = order.turn(name);
            futures::FutureExt::now_or_never(turn).is_some()
        };
        assert!(turn("main") && !turn("two") && !turn("one"));
        order.ended("main");
        assert!(turn("two") && !turn("one"));
        order.ended("two");
        assert!(turn("one"));
    }
}
