//! Pods and their containers: finding them, listing them, their logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::serving::{Request, Response, json, text};
use component::supervisor::chain;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json as object};

use super::request::Query;
use super::{Server, container_logs, labels, stats};
use crate::runtime::{
    ContainerFilter, ContainerState, ContainerStatus, PodSandboxFilter, PodSandboxState,
    PodSandboxStatus,
};

/// Which container of which pod a path names; an empty uid matches all.
pub(super) struct At<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    uid: &'a str,
    pub(super) container: &'a str,
}

impl<'a> At<'a> {
    pub(super) const fn new(
        namespace: &'a str,
        pod: &'a str,
        uid: &'a str,
        container: &'a str,
    ) -> Self {
        Self {
            namespace,
            pod,
            uid,
            container,
        }
    }
}

pub(super) fn failed(reason: impl Into<String>) -> Response {
    text(StatusCode::INTERNAL_SERVER_ERROR, reason)
}

pub(super) fn no_pod() -> Response {
    text(StatusCode::NOT_FOUND, "pod does not exist")
}

/// A list as upstream encodes one: items do not say what they are.
pub(super) fn pods<'a>(pods: impl Iterator<Item = &'a Pod>) -> Response {
    let item = |pod: &Pod| {
        let mut item = serde_json::to_value(pod).unwrap_or_default();
        if let Value::Object(fields) = &mut item {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        item
    };
    pod_list(pods.map(item).collect())
}

fn pod_list(items: Vec<Value>) -> Response {
    let list = object!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    json(StatusCode::OK, &list)
}

/// Whether a pod has a container of this name, of any kind.
fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    spec.containers.iter().chain(init).any(|c| c.name == name)
        || ephemeral.iter().any(|c| c.name == name)
}

/// Whether a container was made with a terminal.
pub(super) fn has_terminal(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let container = spec.containers.iter().chain(init).find(|c| c.name == name);
    match container {
        Some(container) => container.tty == Some(true),
        None => ephemeral
            .iter()
            .any(|c| c.name == name && c.tty == Some(true)),
    }
}

pub(super) fn uid_of(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

impl Server {
    /// The pod of a path, if its uid is the one that is named.
    pub(super) fn pod(&self, at: &At<'_>) -> Option<Arc<Pod>> {
        let pod = self.pods.get(at.namespace, at.pod)?;
        if at.uid.is_empty() || uid_of(&pod) == at.uid {
            return Some(pod);
        }
        // The uid may be a mirror pod's.
        let named = self.pods.by_uid(at.uid)?;
        (named.metadata.uid == pod.metadata.uid).then_some(pod)
    }

    /// The running container of a name.
    pub(super) async fn running(
        &self,
        pod: &Pod,
        container: &str,
    ) -> Result<Option<ContainerStatus>, Response> {
        let filter = ContainerFilter {
            state: Some(ContainerState::Running),
            labels: BTreeMap::from([
                (labels::POD_UID.to_owned(), uid_of(pod).to_owned()),
                (labels::CONTAINER_NAME.to_owned(), container.to_owned()),
            ]),
            ..ContainerFilter::default()
        };
        let found = self.runtime.list_containers(filter).await;
        let mut found = found.map_err(|error| failed(chain(&error)))?;
        // There is one, or none.
        Ok(found.pop())
    }

    pub(super) async fn container_logs(
        &self,
        request: &Request,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Response {
        let asked = match container_logs::asked(&Query::of(request), component::clock::now()) {
            Ok(asked) => asked,
            Err(bad) => return bad.answer(),
        };
        let Some(pod) = self.pods.get(namespace, name) else {
            let reason = format!("pod {name:?} does not exist");
            return text(StatusCode::NOT_FOUND, reason);
        };
        if !has_container(&pod, container) {
            let reason = format!("container {container:?} not found in pod {name:?}");
            return text(StatusCode::NOT_FOUND, reason);
        }
        match container_logs::container_id(&pod, container, asked.previous) {
            Ok(id) => {
                let runtime = Arc::clone(&self.runtime);
                container_logs::answer(runtime, id, asked.options, &self.tasks).await
            }
            Err(reason) => text(StatusCode::BAD_REQUEST, reason),
        }
    }

    /// What the runtime runs, whatever the API server thinks.
    pub(super) async fn running_pods(&self) -> Response {
        let ready = PodSandboxFilter {
            state: Some(PodSandboxState::Ready),
            ..PodSandboxFilter::default()
        };
        let running = ContainerFilter {
            state: Some(ContainerState::Running),
            ..ContainerFilter::default()
        };
        let sandboxes = self.runtime.list_pod_sandboxes(ready).await;
        let containers = self.runtime.list_containers(running).await;
        let (sandboxes, containers) = match (sandboxes, containers) {
            (Ok(sandboxes), Ok(containers)) => (sandboxes, containers),
            (Err(error), _) | (_, Err(error)) => return failed(chain(&error)),
        };
        let item = |sandbox: &PodSandboxStatus| {
            let metadata = &sandbox.config.metadata;
            let of_pod: Vec<Value> = containers
                .iter()
                .filter(|container| container.sandbox == sandbox.id)
                .map(|container| {
                    let name = stats::container_name(container);
                    object!({"name": name, "image": container.image, "resources": {}})
                })
                .collect();
            object!({
                "metadata": {
                    "name": metadata.name,
                    "namespace": metadata.namespace,
                    "uid": metadata.uid,
                },
                "spec": {"containers": of_pod},
                "status": {},
            })
        };
        pod_list(sandboxes.iter().map(item).collect())
    }

    /// Checkpoints need CRIU, which this runtime does not use: it says so as other runtimes do.
    pub(super) fn checkpoint(&self, at: &At<'_>) -> Response {
        let Some(pod) = self.pods.get(at.namespace, at.pod) else {
            return no_pod();
        };
        if !has_container(&pod, at.container) {
            let reason = format!("container {} does not exist", at.container);
            return text(StatusCode::NOT_FOUND, reason);
        }
        failed(format!(
            "checkpointing of {}/{}/{} failed (rpc error: code = Unimplemented desc = method CheckpointContainer not implemented)",
            at.namespace, at.pod, at.container
        ))
    }
}
