//! An API server with one node's pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use component::client::Client;
use component::metrics::Metrics;
use component::supervisor::{Supervisor, Task};
use component::testing::{Ask, FakeApi, Lines};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Nothing that is waited for takes longer, even on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) metrics: Metrics,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Held while a change is told, so that no watch misses one.
    order: tokio::sync::Mutex<()>,
    changed: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    version: u64,
    pub(crate) pods: BTreeMap<String, Value>,
    /// Every status that was written, in order.
    pub(crate) statuses: Vec<Value>,
    watches: Vec<Lines>,
    /// `reason: message`
    pub(crate) events: Vec<String>,
    /// Bodies of deletions.
    pub(crate) deletions: Vec<Value>,
    /// What is only read, by its path.
    pub(crate) others: BTreeMap<String, Value>,
}

/// Answers until the task is dropped.
async fn serve(shared: Arc<Shared>, mut fake: FakeApi) {
    loop {
        // The fake gives up when nobody asks for long: nobody has to.
        let ask = tokio::time::timeout(Duration::from_secs(15), fake.next());
        if let Ok(ask) = ask.await {
            shared.answer(ask).await;
        }
    }
}

impl Api {
    pub(crate) fn start(tasks: &Supervisor) -> Self {
        let fake = FakeApi::plain();
        let (client, metrics) = (fake.client(), fake.metrics.clone());
        let shared = Arc::<Shared>::default();
        let serving = shared.clone();
        tasks.spawn(Task::Background, "api", serve(serving, fake));
        Self {
            client,
            metrics,
            shared,
        }
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1,
                "creationTimestamp": component::clock::now().to_string(),
            },
            "spec": spec,
            "status": { "phase": "Pending", "qosClass": "BestEffort" },
        });
        self.shared.put("ADDED", pod).await;
    }

    /// A claim of the namespace that is bound to a volume, both of this name.
    pub(crate) fn put_volume(&self, name: &str, spec: Value) {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "namespace": "ns", "uid": "claim" },
            "spec": { "volumeName": name }, "status": { "phase": "Bound" },
        });
        let mut volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": { "name": name }, "spec": spec,
        });
        volume["spec"]["claimRef"] = json!({ "uid": "claim" });
        let others = &mut self.shared.state.lock().others;
        others.insert(
            format!("/api/v1/namespaces/ns/persistentvolumeclaims/{name}"),
            claim,
        );
        others.insert(format!("/api/v1/persistentvolumes/{name}"), volume);
    }

    pub(crate) async fn delete(&self, name: &str, grace: i64) {
        let mut pod = self.shared.state.lock().pods[name].clone();
        pod["metadata"]["deletionTimestamp"] = component::clock::now().to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.shared.put("MODIFIED", pod).await;
    }

    /// The pod is gone while nobody watches.
    pub(crate) fn forget(&self, name: &str) {
        self.shared.state.lock().pods.remove(name);
    }

    /// Waits until something is so.
    pub(crate) async fn until<T>(&self, what: &str, is: impl Fn(&State) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(found) = is(&self.shared.state.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => {
                let state = self.shared.state.lock();
                let pods = serde_json::to_string_pretty(&state.pods).unwrap();
                panic!("{what}\n{pods}\n{:#?}", state.events);
            }
        }
    }

    /// Waits until the pod has this phase.
    pub(crate) async fn phase(&self, name: &str, phase: &str) -> Value {
        let is = |state: &State| {
            let status = &state.pods.get(name)?["status"];
            (status["phase"] == phase).then(|| status.clone())
        };
        self.until(&format!("{name} is {phase}"), is).await
    }

    pub(crate) async fn gone(&self, name: &str) {
        let is = |state: &State| (!state.pods.contains_key(name)).then_some(());
        self.until(&format!("{name} is gone"), is).await;
    }

    pub(crate) fn state<T>(&self, read: impl Fn(&State) -> T) -> T {
        read(&self.shared.state.lock())
    }
}

impl Shared {
    async fn put(&self, kind: &str, mut pod: Value) -> Value {
        let _order = self.order.lock().await;
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let watches = {
            let mut state = self.state.lock();
            state.version += 1;
            pod["metadata"]["resourceVersion"] = state.version.to_string().into();
            if kind == "DELETED" {
                state.pods.remove(&name);
            } else {
                state.pods.insert(name, pod.clone());
            }
            std::mem::take(&mut state.watches)
        };
        let mut open = Vec::new();
        for watch in watches {
            tokio::select! {
                biased;
                // A kubelet that was killed reads no more.
                () = watch.closed() => continue,
                () = watch.event(kind, &pod) => {}
            }
            open.push(watch);
        }
        self.state.lock().watches.extend(open);
        self.changed.notify_waiters();
        pod
    }

    async fn answer(&self, ask: Ask) {
        let path = ask.seen.path.clone();
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        match (ask.seen.method.as_str(), parts.as_slice()) {
            ("GET", ["api", "v1", "pods"]) => {
                let _order = self.order.lock().await;
                let pods: Vec<_> = self.state.lock().pods.values().cloned().collect();
                let lines = self.watch(ask, "Pod", pods).await;
                self.state.lock().watches.extend(lines);
            }
            ("GET", ["api", "v1", "nodes"]) => {
                let node = json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": { "name": "node-1", "uid": "node-uid", "resourceVersion": "1" },
                });
                forever(self.watch(ask, "Node", vec![node]).await);
            }
            ("GET", ["api", "v1", "services"]) => {
                forever(self.watch(ask, "Service", Vec::new()).await);
            }
            ("PATCH", ["api", "v1", "namespaces", _, "pods", name, "status"]) => {
                let found = self.state.lock().pods.get(*name).cloned();
                let Some(mut pod) = found else {
                    ask.status(404, "NotFound");
                    return;
                };
                merge(&mut pod["status"], &ask.seen.json()["status"]);
                self.state.lock().statuses.push(pod["status"].clone());
                let pod = self.put("MODIFIED", pod).await;
                ask.json(&pod);
            }
            ("DELETE", ["api", "v1", "namespaces", _, "pods", name]) => {
                let found = self.state.lock().pods.get(*name).cloned();
                self.state.lock().deletions.push(ask.seen.json());
                match found {
                    Some(pod) => {
                        self.put("DELETED", pod).await;
                        ask.json(&json!({ "kind": "Status", "apiVersion": "v1" }));
                    }
                    None => drop(ask.status(404, "NotFound")),
                }
            }
            ("POST" | "PATCH", ["api", "v1", "namespaces", _, "events", ..]) => {
                let event = ask.seen.json();
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                let line = format!("{}: {}", text("reason"), text("message"));
                self.state.lock().events.push(line);
                self.changed.notify_waiters();
                ask.json(&event);
            }
            _ => {
                let found = self.state.lock().others.get(&path).cloned();
                match found {
                    Some(object) => drop(ask.json(&object)),
                    None => drop(ask.status(404, "NotFound")),
                }
            }
        }
    }

    async fn watch(&self, ask: Ask, kind: &str, objects: Vec<Value>) -> Option<Lines> {
        let version = self.state.lock().version.max(1).to_string();
        if ask.seen.param("watch") != "true" {
            let list = json!({
                "kind": format!("{kind}List"), "apiVersion": "v1",
                "metadata": { "resourceVersion": version }, "items": objects,
            });
            ask.json(&list);
            return None;
        }
        let (seen, lines) = ask.stream();
        if seen.param("sendInitialEvents") == "true" {
            for object in &objects {
                lines.event("ADDED", object).await;
            }
            let end = json!({ "k8s.io/initial-events-end": "true" });
            let bookmark = json!({
                "kind": kind, "apiVersion": "v1",
                "metadata": { "resourceVersion": version, "annotations": end },
            });
            lines.event("BOOKMARK", &bookmark).await;
        }
        Some(lines)
    }
}

/// Keeps a stream open that nothing is ever sent on.
fn forever(lines: Option<Lines>) {
    std::mem::forget(lines);
}

/// As much of a strategic merge as statuses need.
fn merge(status: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().unwrap() {
        if key.starts_with('$') {
            continue;
        }
        let merged = match key.as_str() {
            "conditions" => Some("type"),
            "podIPs" | "hostIPs" => Some("ip"),
            _ => None,
        };
        let Some(by) = merged else {
            status[key] = value.clone();
            continue;
        };
        let mut list = status[key].as_array().cloned().unwrap_or_default();
        for element in value.as_array().unwrap() {
            let place = list.iter_mut().find(|old| old[by] == element[by]);
            match (place, element.get("$patch")) {
                (_, Some(_)) => list.retain(|old| old[by] != element[by]),
                (Some(old), None) => {
                    for (field, new) in element.as_object().unwrap() {
                        old[field] = new.clone();
                    }
                }
                (None, None) => list.push(element.clone()),
            }
        }
        status[key] = list.into();
    }
    status
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
}
