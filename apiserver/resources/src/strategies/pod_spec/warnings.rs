//! What clients are told of a pod spec that is taken as it is.
//!
//! Upstream: `pkg/api/pod/warnings.go`.

mod overlap;

use std::collections::{HashMap, HashSet};

use proto::catalogue::names as n;
use proto::path::{Spot, quote};
use proto::view::core_v1::{
    Affinity, AppArmorProfile, Container, ContainerPort, PersistentVolumeClaimSpec,
    PodAffinityTerm, PodSpec, PodTemplateSpec, Volume, WeightedPodAffinityTerm,
};
use proto::view::{List, Node, View};
use proto::{NameId, Value, meta};

use super::containers::all_containers;
use crate::warnings::{Warnings, changed, deprecated_label};

const MEMORY: &str = "memory";
const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const USE_SECCOMP_PROFILE: &str =
    r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;

const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];

/// Sources of volumes that went away, in upstream's order; ephemeral volumes come before the last two.
const REMOVED_VOLUMES: [(NameId, &str); 9] = [
    (
        Volume::PHOTON_PERSISTENT_DISK,
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        Volume::GIT_REPO,
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        Volume::SCALE_IO,
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        Volume::FLOCKER,
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        Volume::STORAGEOS,
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        Volume::QUOBYTE,
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        Volume::GLUSTERFS,
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        Volume::CEPHFS,
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (Volume::RBD, "deprecated in v1.28, non-functional in v1.31+"),
];

/// A new pod. Updates of pods are the work of machines, which read no warnings.
#[must_use]
pub fn pod(object: &Value) -> Vec<String> {
    let mut w = Warnings::new(object);
    let spec = PodSpec::of(Node::new(object.get(n::SPEC).unwrap_or(&Value::Null)));
    w.name(object, "this is used in the Pod's hostname");
    spec_and_metadata(&mut w, object, spec, false);
    w.into_vec()
}

/// Annotations of a new pod that ask for profiles of AppArmor: said before they become fields.
#[must_use]
pub fn app_armor_of_pod(object: &Value) -> Vec<String> {
    let mut w = Warnings::new(object);
    let spec = PodSpec::of(Node::new(object.get(n::SPEC).unwrap_or(&Value::Null)));
    // On Windows there is no AppArmor.
    if spec.os().is_none_or(|os| os.name() != "windows") {
        for container in all_containers(spec) {
            app_armor(&mut w, object, spec, container);
        }
    }
    w.into_vec()
}

/// `GetWarningsForPodTemplate`.
pub fn template(w: &mut Warnings<'_>, template: PodTemplateSpec<'_>) {
    spec_and_metadata(w, template.node().value(), template.spec(), true);
}

/// A workload whose name is part of the names of its pods: the name when it is made, the template when
/// it is made or changed.
#[must_use]
pub fn workload(object: &Value, old: Option<&Value>, template: PodTemplateSpec<'_>) -> Vec<String> {
    let mut w = Warnings::new(object);
    if old.is_none() {
        w.name_of_pods(object);
    }
    if changed(object, old) {
        self::template(&mut w, template);
    }
    w.into_vec()
}

/// `GetWarningsForPersistentVolumeClaimSpec`; `path` is that of the spec.
pub fn claim_spec(w: &mut Warnings<'_>, spec: PersistentVolumeClaimSpec<'_>, path: &str) {
    let resources = spec.resources();
    for (amounts, field) in [
        (resources.requests(), "requests"),
        (resources.limits(), "limits"),
    ] {
        if let Some(text) = crate::warnings::fraction(amounts, "storage") {
            w.push(format!("{path}.resources.{field}[storage]: {text}"));
        }
    }
}

/// `warningsForPodSpecAndMeta`; `holder` is the pod or the template.
fn spec_and_metadata(w: &mut Warnings<'_>, holder: &Value, spec: PodSpec<'_>, template: bool) {
    nodes(w, spec);
    let annotations = meta::annotations(holder);
    for (key, text) in DEPRECATED_ANNOTATIONS {
        if annotations.contains(key) {
            w.at(annotation(holder, key), text);
        }
    }
    volumes(w, spec);
    overlap::virtual_paths(w, spec.volumes());
    duplicates(w, spec);
    for name in [MEMORY, EPHEMERAL_STORAGE] {
        w.fraction(
            spec.overhead(),
            name,
            Spot::of(spec).field(PodSpec::OVERHEAD),
        );
    }
    let profile = |field| spec.node().get(n::SECURITY_CONTEXT)?.get(field);
    if profile(n::SECCOMP_PROFILE).is_none() && annotations.contains(SECCOMP_POD) {
        w.at(annotation(holder, SECCOMP_POD), USE_SECCOMP_PROFILE);
    }
    for container in all_containers(spec) {
        let key = format!("{SECCOMP_CONTAINER}{}", container.name());
        let profile = container
            .security_context()
            .and_then(|c| c.seccomp_profile());
        if profile.is_none() && annotations.contains(key.as_str()) {
            w.at(annotation(holder, &key), USE_SECCOMP_PROFILE);
        }
        if template {
            app_armor(w, holder, spec, container);
        }
        resources(w, container);
        environment(w, container);
    }
    ports(w, spec);
    port_names(w, spec);
    if spec
        .termination_grace_period_seconds()
        .is_some_and(|seconds| seconds < 0)
    {
        w.at(
            Spot::of(spec).field(PodSpec::TERMINATION_GRACE_PERIOD_SECONDS),
            "must be >= 0; negative values are invalid and will be treated as 1",
        );
    }
    if let Some(affinity) = spec.affinity() {
        pod_affinity(w, affinity);
    }
    if let Some(config) = spec.dns_config() {
        w.ips(config.nameservers());
    }
    for alias in spec.host_aliases() {
        w.ip(Spot::of(alias).field(n::IP), alias.ip());
    }
}

fn annotation<'v>(holder: &'v Value, key: &'v str) -> Spot<'v> {
    let metadata = holder.get(n::METADATA).unwrap_or(holder);
    Spot::node(metadata).field(n::ANNOTATIONS).key(key)
}

/// Labels of nodes that go away, and spreading over no pods.
fn nodes(w: &mut Warnings<'_>, spec: PodSpec<'_>) {
    for (key, _) in spec.node_selector().iter() {
        if let Some(text) = deprecated_label(key.as_str()) {
            let at = Spot::of(spec).field(PodSpec::NODE_SELECTOR);
            w.at(at.key(key.as_str()), text);
        }
    }
    if let Some(affinity) = spec.affinity().and_then(Affinity::node_affinity) {
        let required = affinity.required_during_scheduling_ignored_during_execution();
        for term in required.into_iter().flat_map(|r| r.node_selector_terms()) {
            w.node_selector_term(term, false);
        }
        for term in affinity.preferred_during_scheduling_ignored_during_execution() {
            w.node_selector_term(term.preference(), true);
        }
    }
    for constraint in spec.topology_spread_constraints() {
        let key = constraint.topology_key();
        if let Some(text) = deprecated_label(key) {
            let at = Spot::of(constraint).field(n::TOPOLOGY_KEY);
            w.at(at, format_args!("{key} is {text}"));
        }
        if constraint.label_selector().is_none() {
            w.at(Spot::of(constraint).field(n::LABEL_SELECTOR), NULL_SELECTOR);
        }
    }
}

fn volumes(w: &mut Warnings<'_>, spec: PodSpec<'_>) {
    for volume in spec.volumes() {
        for (field, text) in REMOVED_VOLUMES {
            if field == Volume::CEPHFS
                && let Some(template) = volume.ephemeral().and_then(|e| e.volume_claim_template())
            {
                let path = w.path(Spot::of(template).field(n::SPEC));
                claim_spec(w, template.spec(), &path);
            }
            if volume.node().get(field).is_none() {
                continue;
            }
            if field == Volume::STORAGEOS {
                // Upstream does not spell it as the field is spelled.
                let path = w.path(Spot::of(volume));
                w.push(format!("{path}.storageOS: {text}"));
            } else {
                w.at(Spot::of(volume).field(field), text);
            }
        }
    }
}

/// Aliases and secrets of which only one counts, and secrets without a name.
fn duplicates(w: &mut Warnings<'_>, spec: PodSpec<'_>) {
    let mut seen = HashSet::new();
    for alias in spec.host_aliases() {
        if !seen.insert(alias.ip()) {
            let text = format!("duplicate ip {}", quote(alias.ip()));
            w.at(Spot::of(alias).field(n::IP), text);
        }
    }
    let mut seen = HashSet::new();
    for secret in spec.image_pull_secrets() {
        if !seen.insert(secret.name()) {
            let text = format!("duplicate name {}", quote(secret.name()));
            w.at(Spot::of(secret).field(n::NAME), text);
        }
    }
    for secret in spec.image_pull_secrets() {
        if secret.name().is_empty() {
            w.at(Spot::of(secret).field(n::NAME), "invalid empty name \"\"");
        }
    }
}

/// An annotation that asks for a profile other than the pod's, where a field should.
fn app_armor(w: &mut Warnings<'_>, holder: &Value, spec: PodSpec<'_>, container: Container<'_>) {
    let context = container.security_context();
    if context.and_then(|c| c.app_armor_profile()).is_some() {
        return;
    }
    let key = format!("{APP_ARMOR}{}", container.name());
    let Some(value) = meta::annotation(holder, &key) else {
        return;
    };
    let context = spec.security_context();
    let of_pod = context.and_then(|c| c.app_armor_profile());
    if !of_pod.is_some_and(|profile| is_profile(profile, value)) {
        w.at(
            annotation(holder, &key),
            r#"deprecated since v1.30; use the "appArmorProfile" field instead"#,
        );
    }
}

/// Says whether an annotation's value means a profile.
fn is_profile(profile: AppArmorProfile<'_>, value: &str) -> bool {
    let local = profile.localhost_profile();
    match profile.r#type() {
        "Unconfined" => value == "unconfined" && local.is_none(),
        "RuntimeDefault" => value == "runtime/default" && local.is_none(),
        "Localhost" => value
            .strip_prefix("localhost/")
            .is_some_and(|name| !name.is_empty() && local == Some(name)),
        _ => false,
    }
}

fn resources(w: &mut Warnings<'_>, container: Container<'_>) {
    let resources = container.resources();
    for name in [MEMORY, EPHEMERAL_STORAGE] {
        for (amounts, field) in [
            (resources.limits(), n::LIMITS),
            (resources.requests(), n::REQUESTS),
        ] {
            w.fraction(amounts, name, Spot::of(resources).field(field));
        }
    }
}

/// Variables that are set twice, unless the second adds to the first.
fn environment(w: &mut Warnings<'_>, container: Container<'_>) {
    let mut seen = HashSet::new();
    for variable in container.env() {
        if seen.insert(variable.name()) {
            continue;
        }
        let first = format!("$({})", variable.name());
        let adds = variable.value().contains(&first) && variable.value() != first;
        if variable.value_from().is_some() || !adds {
            let text = format!(
                "hides previous definition of {}, which may be dropped when using apply",
                quote(variable.name())
            );
            w.at(Spot::of(variable), text);
        }
    }
}

/// Ports of one number and protocol that are not clearly apart.
fn ports(w: &mut Warnings<'_>, spec: PodSpec<'_>) {
    let mut all: HashMap<(i64, &str), Vec<ContainerPort<'_>>> = HashMap::new();
    for port in all_containers(spec).flat_map(Container::ports) {
        if !port.host_ip().is_empty() && port.host_port() == 0 {
            let text = format!(
                "hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                port.name(),
                port.container_port(),
                port.protocol(),
                port.host_ip()
            );
            w.at(Spot::of(port), text);
        }
        let key = (port.container_port(), port.protocol());
        let others = all.entry(key).or_default();
        for other in others.iter() {
            if let Some(how) = conflict(port, *other) {
                let text = format!("{how} port definition with {}", w.path(Spot::of(*other)));
                w.at(Spot::of(port), text);
            }
        }
        others.push(port);
    }
}

/// How two ports of one number and protocol are in each other's way.
fn conflict(a: ContainerPort<'_>, b: ContainerPort<'_>) -> Option<&'static str> {
    let same_host_port = a.host_port() == b.host_port();
    if same_host_port && a.host_ip() == b.host_ip() {
        Some("duplicate")
    } else if a.host_port() == 0 || b.host_port() == 0 {
        Some("overlapping")
    } else if same_host_port && a.host_ip().is_empty() != b.host_ip().is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

fn port_names(w: &mut Warnings<'_>, spec: PodSpec<'_>) {
    let mut all: HashMap<&str, ContainerPort<'_>> = HashMap::new();
    for port in all_containers(spec).flat_map(Container::ports) {
        if port.name().is_empty() {
            continue;
        }
        let first = *all.entry(port.name()).or_insert(port);
        if !std::ptr::eq(first.node().value(), port.node().value()) {
            let other = w.path(Spot::of(first));
            let text = format!(
                "duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                quote(port.name())
            );
            w.at(Spot::of(port), text);
        }
    }
}

fn pod_affinity(w: &mut Warnings<'_>, affinity: Affinity<'_>) {
    let mut terms = |required: List<'_, PodAffinityTerm<'_>>,
                     preferred: List<'_, WeightedPodAffinityTerm<'_>>| {
        for term in required {
            null_selector(w, Spot::of(term), term);
        }
        for weighted in preferred {
            let at = Spot::of(weighted).field(n::POD_AFFINITY_TERM);
            null_selector(w, at, weighted.pod_affinity_term());
        }
    };
    if let Some(affinity) = affinity.pod_affinity() {
        terms(
            affinity.required_during_scheduling_ignored_during_execution(),
            affinity.preferred_during_scheduling_ignored_during_execution(),
        );
    }
    if let Some(affinity) = affinity.pod_anti_affinity() {
        terms(
            affinity.required_during_scheduling_ignored_during_execution(),
            affinity.preferred_during_scheduling_ignored_during_execution(),
        );
    }
}

fn null_selector(w: &mut Warnings<'_>, at: Spot<'_>, term: PodAffinityTerm<'_>) {
    if term.label_selector().is_none() {
        w.at(at.field(n::LABEL_SELECTOR), NULL_SELECTOR);
    }
}

#[cfg(test)]
mod tests;
