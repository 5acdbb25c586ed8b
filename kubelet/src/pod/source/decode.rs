//! From a manifest to a static pod: upstream's `pkg/kubelet/config/common.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus, Toleration, Volume};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::defaults;
use crate::pod::registry::Source;
use crate::pod::spec;

/// Where a manifest is from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    File(&'a str),
    Url(&'a str),
}

/// Why a manifest makes no pod.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    #[error("couldn't parse as pod: {0}")]
    Parse(String),
    #[error("invalid pod: name is needed for the pod")]
    Name,
    #[error("invalid pod: {0}")]
    Invalid(String),
    #[error("static pods may not reference {0}")]
    References(&'static str),
}

/// The pod in a manifest.
pub(crate) fn pod(bytes: &[u8], origin: Origin<'_>, node: &str) -> Result<Pod, Error> {
    let (json, _) =
        proto::codec::yaml::to_json(bytes).map_err(|err| Error::Parse(err.to_string()))?;
    one(&json, origin, node)
}

/// The pods in a manifest that holds one or a list.
pub(crate) fn pods(bytes: &[u8], origin: Origin<'_>, node: &str) -> Result<Vec<Pod>, Error> {
    #[derive(Deserialize)]
    struct List {
        kind: String,
        #[serde(default)]
        items: Vec<serde_json::Value>,
    }
    let (json, _) =
        proto::codec::yaml::to_json(bytes).map_err(|err| Error::Parse(err.to_string()))?;
    match serde_json::from_slice::<List>(&json) {
        Ok(list) if list.kind == "PodList" => list
            .items
            .into_iter()
            .map(|item| complete(read(item)?, origin, node))
            .collect(),
        _ => Ok(vec![one(&json, origin, node)?]),
    }
}

fn one(json: &[u8], origin: Origin<'_>, node: &str) -> Result<Pod, Error> {
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|err| Error::Parse(err.to_string()))?;
    let is = |key: &str, wanted: &str| value.get(key).and_then(|v| v.as_str()) == Some(wanted);
    if !is("kind", "Pod") || !is("apiVersion", "v1") {
        return Err(Error::Parse("not a Pod of version v1".into()));
    }
    complete(read(value)?, origin, node)
}

fn read(value: serde_json::Value) -> Result<Pod, Error> {
    proto::typed::from_json_value(value).map_err(|err| Error::Parse(err.to_string()))
}

fn complete(mut pod: Pod, origin: Origin<'_>, node: &str) -> Result<Pod, Error> {
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or(Error::Name)?;
    check(&pod)?;
    if pod.metadata.uid.as_deref().unwrap_or_default().is_empty() {
        pod.metadata.uid = Some(hash(&pod, origin, node));
    }
    pod.metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    if pod
        .metadata
        .namespace
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        pod.metadata.namespace = Some("default".into());
    }
    let source = match origin {
        Origin::File(_) => Source::File,
        Origin::Url(_) => Source::Http,
    };
    let uid = spec::uid(&pod).to_owned();
    let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(spec::CONFIG_HASH.into(), uid);
    annotations.insert(spec::CONFIG_SOURCE.into(), source.name().into());
    annotations.insert(spec::CONFIG_SEEN.into(), seen_now());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    if source == Source::File {
        tolerate_all(spec.tolerations.get_or_insert_default());
    }
    defaults::set(spec);
    pod.status = Some(PodStatus {
        phase: Some("Pending".into()),
        ..PodStatus::default()
    });
    Ok(pod)
}

/// What upstream's validation would refuse and the node could not work with.
fn check(pod: &Pod) -> Result<(), Error> {
    let spec = pod.spec.as_ref();
    let spec = spec.ok_or_else(|| Error::Invalid("spec: Required value".into()))?;
    if spec.containers.is_empty() {
        return Err(Error::Invalid("spec.containers: Required value".into()));
    }
    let mut names = std::collections::BTreeSet::new();
    for container in spec.containers.iter().chain(spec::init_containers(spec)) {
        let problems = proto::meta::names::dns_label_problems(&container.name);
        if let Some(problem) = problems.into_iter().next() {
            return Err(Error::Invalid(format!("{:?}: {problem}", container.name)));
        }
        if !names.insert(&container.name) {
            return Err(Error::Invalid(format!(
                "{:?}: Duplicate value",
                container.name
            )));
        }
        if container.image.as_deref().unwrap_or_default().is_empty() {
            return Err(Error::Invalid(format!(
                "{:?}: image: Required value",
                container.name
            )));
        }
    }
    match reference(pod) {
        Some(what) => Err(Error::References(what)),
        None => Ok(()),
    }
}

/// What of the API server's a pod uses: a node must be able to run static pods without one.
fn reference(pod: &Pod) -> Option<&'static str> {
    let spec = spec::of(pod);
    if spec
        .service_account_name
        .as_ref()
        .is_some_and(|n| !n.is_empty())
    {
        return Some("serviceaccounts");
    }
    if spec
        .image_pull_secrets
        .as_ref()
        .is_some_and(|s| !s.is_empty())
    {
        return Some("secrets");
    }
    let containers = || spec::init_containers(spec).iter().chain(&spec.containers);
    let env = || containers().flat_map(|c| c.env.iter().flatten());
    let from = || containers().flat_map(|c| c.env_from.iter().flatten());
    let sources = || env().filter_map(|e| e.value_from.as_ref());
    if sources().any(|s| s.secret_key_ref.is_some()) || from().any(|f| f.secret_ref.is_some()) {
        return Some("secrets");
    }
    if sources().any(|s| s.config_map_key_ref.is_some())
        || from().any(|f| f.config_map_ref.is_some())
    {
        return Some("configmaps");
    }
    if spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()) {
        return Some("resourceclaims");
    }
    spec.volumes.iter().flatten().find_map(volume_reference)
}

fn volume_reference(volume: &Volume) -> Option<&'static str> {
    if volume.config_map.is_some() {
        return Some("configmaps (via configmap volumes)");
    }
    if volume.secret.is_some() {
        return Some("secrets (via secret volumes)");
    }
    if volume.csi.is_some() {
        return Some("csidrivers (via CSI volumes)");
    }
    if volume.persistent_volume_claim.is_some() {
        return Some("persistentvolumeclaims");
    }
    if volume.ephemeral.is_some() {
        return Some("persistentvolumeclaims (via ephemeral volumes)");
    }
    let sources = volume.projected.as_ref()?.sources.iter().flatten();
    sources.into_iter().find_map(|source| {
        let all = [
            (
                source.config_map.is_some(),
                "configmaps (via projected volumes)",
            ),
            (source.secret.is_some(), "secrets (via projected volumes)"),
            (
                source.service_account_token.is_some(),
                "serviceaccounts (via projected volumes)",
            ),
            (source.cluster_trust_bundle.is_some(), "clustertrustbundles"),
            (source.pod_certificate.is_some(), "podcertificates"),
        ];
        all.into_iter()
            .find(|(there, _)| *there)
            .map(|(_, what)| what)
    })
}

/// The uid of a pod that names none: one for each content, place and node.
fn hash(pod: &Pod, origin: Origin<'_>, node: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(pod).unwrap_or_default());
    match origin {
        Origin::File(path) => hasher.update(format!("host:{node}file:{path}")),
        Origin::Url(url) => hasher.update(format!("url:{url}")),
    }
    let digest = hasher.finalize();
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Static pods stay where they are, whatever is wrong with the node.
fn tolerate_all(tolerations: &mut Vec<Toleration>) {
    let all = Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    };
    if !tolerations.contains(&all) {
        tolerations.push(all);
    }
}

fn seen_now() -> String {
    component::clock::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},
        "spec":{"containers":[{"name":"c","image":"app"}]}}"#;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let origin = Origin::File("/etc/web.yaml");
        let made = pod(POD.as_bytes(), origin, "Node-1").unwrap();
        assert_eq!(spec::full_name(&made), "web-node-1_default");
        assert_eq!(spec::uid(&made).len(), 32);
        assert_eq!(spec::config_hash(&made), Some(spec::uid(&made)));
        assert!(spec::is_static(&made));
        let again = pod(POD.as_bytes(), origin, "Node-1").unwrap();
        assert_eq!(spec::uid(&again), spec::uid(&made));
        let changed = POD.replace("app", "app:2");
        let changed = pod(changed.as_bytes(), origin, "Node-1").unwrap();
        assert_ne!(spec::uid(&changed), spec::uid(&made));
        let spec = spec::of(&made);
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert_eq!(
            spec.containers[0].image_pull_policy.as_deref(),
            Some("Always")
        );
    }

    #[test]
    fn a_static_pod_needs_nothing_of_the_api_server() {
        let with = |volume: &str| {
            let text = POD.replace(
                r#""spec":{"#,
                &format!(r#""spec":{{"volumes":[{{"name":"v",{volume}}}],"#),
            );
            pod(text.as_bytes(), Origin::File("f"), "n")
        };
        assert!(with(r#""emptyDir":{}"#).is_ok());
        let refused = with(r#""secret":{"secretName":"s"}"#).unwrap_err();
        assert!(matches!(
            refused,
            Error::References("secrets (via secret volumes)")
        ));
    }

    #[test]
    fn a_list_from_a_url_is_many_pods() {
        let text = format!(r#"{{"kind":"PodList","apiVersion":"v1","items":[{POD}]}}"#);
        let made = pods(text.as_bytes(), Origin::Url("http://x"), "n").unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!(
            pods(POD.as_bytes(), Origin::Url("u"), "n").unwrap().len(),
            1
        );
    }
}
