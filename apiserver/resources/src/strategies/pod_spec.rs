//! Pod specs: what pods and pod templates share, defaults and validation.
//!
//! Upstream: `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation/validation.go`
//! (`ValidatePodSpec` and below).

mod affinity;
mod annotations;
pub(super) mod block;
pub mod containers;
pub mod dropped;
mod environment;
mod files;
mod image;
mod kept;
mod mounts;
mod network;
mod probes;
pub mod projected;
pub mod resources;
pub mod security;
pub mod sysctls;
pub mod tolerations;
pub(super) mod volumes;
pub mod warnings;
mod windows;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use proto::catalogue::{Gates, gate, names as n};
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot, quote};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::core_v1::{PodSpec, PodTemplateSpec};
use proto::view::meta_v1::LabelSelector;
use proto::view::{Node, View};
use proto::{Map, NameId, Value, meta};

pub use affinity::{merge_label_keys, node_selector, node_selector_term};
pub use annotations::{APP_ARMOR, MIRROR};
pub use image::pull_policy;
pub use kept::Kept;

use crate::rules;
use crate::strategy::Cx;

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// What the rules of a spec depend on besides the spec.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The pod that has the spec; none of a template. A few rules are for pods alone.
    pub pod: Option<&'a Value>,
    /// The feature gates that are on.
    pub gates: Gates,
    /// Containers may be privileged (`--allow-privileged`).
    pub privileged: bool,
    /// What an object that is there may keep.
    pub kept: Kept,
}

impl Default for Options<'_> {
    fn default() -> Self {
        let gates = Gates::defaults();
        Self {
            pod: None,
            gates,
            privileged: false,
            kept: Kept::of_gates(gates),
        }
    }
}

impl<'a> Options<'a> {
    /// Of a new pod, or one that takes the place of an old one.
    #[must_use]
    pub fn of_pod(cx: &Cx<'_>, pod: &'a Value, old: Option<&Value>) -> Self {
        let kept = old.map(|old| {
            let spec = PodSpec::of(Node::new(old.get(n::SPEC).unwrap_or(old)));
            Kept::of(cx.gates, spec, meta::annotations(old))
        });
        Self {
            pod: Some(pod),
            gates: cx.gates,
            privileged: cx.allow_privileged,
            kept: kept.unwrap_or_else(|| Kept::of_gates(cx.gates)),
        }
    }

    /// Of a template.
    #[must_use]
    pub fn of_template(cx: &Cx<'_>, old: Option<PodTemplateSpec<'_>>) -> Self {
        let kept =
            old.map(|old| Kept::of(cx.gates, old.spec(), meta::annotations(old.node().value())));
        Self {
            pod: None,
            gates: cx.gates,
            privileged: cx.allow_privileged,
            kept: kept.unwrap_or_else(|| Kept::of_gates(cx.gates)),
        }
    }
}

/// Conditional defaults of a spec, in the map of `spec`.
pub fn default(gates: Gates, spec: &mut Map) {
    sync_service_account(spec);
    if !spec.contains(n::SECURITY_CONTEXT) {
        spec.insert(n::SECURITY_CONTEXT, Value::object());
    }
    for list in [n::INIT_CONTAINERS, n::CONTAINERS, n::EPHEMERAL_CONTAINERS] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten()
        {
            default_container(gates, container.make_map());
        }
    }
    for volume in spec
        .get_mut(n::VOLUMES)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        default_volume(gates, volume.make_map());
    }
}

/// `serviceAccount` is an alias of `serviceAccountName`, which wins.
fn sync_service_account(spec: &mut Map) {
    let text = |spec: &Map, name| {
        spec.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (name, alias) = (
        text(spec, n::SERVICE_ACCOUNT_NAME),
        text(spec, n::SERVICE_ACCOUNT),
    );
    let wins = if name.is_empty() { alias } else { name };
    if !wins.is_empty() {
        spec.insert(n::SERVICE_ACCOUNT_NAME, wins.as_str());
        spec.insert(n::SERVICE_ACCOUNT, wins.as_str());
    }
}

fn default_container(gates: Gates, container: &mut Map) {
    let absent = |m: &Map, name| {
        m.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
    };
    if absent(container, n::IMAGE_PULL_POLICY) {
        let image = container
            .get(n::IMAGE)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let policy = pull_policy(image);
        container.insert(n::IMAGE_PULL_POLICY, policy);
    }
    if gates.has(gate::H2_C_CONTAINER_PROBE) {
        protocols(container);
    }
}

const PROBES: [NameId; 3] = [n::LIVENESS_PROBE, n::READINESS_PROBE, n::STARTUP_PROBE];
const HOOKS: [NameId; 2] = [n::POST_START, n::PRE_STOP];

/// What is asked over HTTP is asked in HTTP/1 unless it is said (`SetDefaults_HTTPGetAction`).
fn protocols(container: &mut Map) {
    let ways = PROBES.map(|probe| vec![probe, n::HTTP_GET]);
    let hooks = HOOKS.map(|hook| vec![n::LIFECYCLE, hook, n::HTTP_GET]);
    for way in ways.into_iter().chain(hooks) {
        let (first, rest) = (way[0], &way[1..]);
        let action = container.get_mut(first).and_then(|v| v.at_mut(rest));
        if let Some(action) = action.filter(|a| a.get(n::PROTOCOL).is_none_or(Value::is_null)) {
            action.set(&[n::PROTOCOL], "HTTP1");
        }
    }
}

/// The fields of a volume that are no source.
fn default_volume(gates: Gates, volume: &mut Map) {
    let has_source = volume
        .iter()
        .any(|(name, v)| name.known() != Some(n::NAME) && !v.is_null());
    if !has_source {
        volume.insert(n::EMPTY_DIR, Value::object());
    }
    if gates.has(gate::IMAGE_VOLUME)
        && let Some(image) = volume.get_mut(n::IMAGE).and_then(Value::as_map_mut)
        && !image.contains(n::PULL_POLICY)
    {
        let policy = pull_policy(
            image
                .get(n::REFERENCE)
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        image.insert(n::PULL_POLICY, policy);
    }
}

/// Defaults of a template, in the tree of the workload.
pub fn default_template(gates: Gates, object: &mut Value, way: &[NameId]) {
    if let Some(spec) = object.at_mut(way).and_then(|t| t.get_mut(n::SPEC)) {
        default(gates, spec.make_map());
    }
}

/// `ValidatePodTemplateSpec`.
pub fn template(e: &mut Errors<'_>, template: PodTemplateSpec<'_>, options: &Options<'_>) {
    let holder = template.node().value();
    template_metadata(e, template, options);
    spec(e, template.spec(), options);
    annotations::match_fields(e, meta::annotations(holder), template.spec());
    if !template.spec().ephemeral_containers().is_empty() {
        let field = Spot::of(template.spec()).field(PodSpec::EPHEMERAL_CONTAINERS);
        let detail = "ephemeral containers not allowed in pod template";
        e.forbidden(field, detail);
    }
}

/// Labels and annotations of a template. Upstream leaves a step of their path out.
pub fn template_metadata(e: &mut Errors<'_>, template: PodTemplateSpec<'_>, options: &Options<'_>) {
    let holder = template.node().value();
    let (labels, annotations) = (meta::labels(holder), meta::annotations(holder));
    let (root, mut found) = (Spot::node(holder), Errors::new(holder));
    meta::validate_labels(labels, root.field(n::LABELS), &mut found);
    meta::validate_annotations(annotations, root.field(n::ANNOTATIONS), &mut found);
    let mut all = found.into_vec();
    for mut error in annotations::special(annotations, template.spec(), options.kept) {
        error.field = format!("annotations{}", error.field);
        all.push(error);
    }
    add_below(e, Spot::of(template), all);
}

/// Adds errors whose paths begin at a spot.
pub fn add_below(e: &mut Errors<'_>, at: Spot<'_>, found: Vec<FieldError>) {
    if found.is_empty() {
        return;
    }
    let path = e.path(at);
    for mut error in found {
        error.field = match error.field.as_str() {
            below if path.is_empty() => below.to_owned(),
            below if below.is_empty() || below.starts_with(['[', '.']) => format!("{path}{below}"),
            below => format!("{path}.{below}"),
        };
        e.push(error);
    }
}

fn annotations_of(object: &Value) -> Spot<'_> {
    Spot::node(object).field(n::METADATA).field(n::ANNOTATIONS)
}

/// What a pod's annotations mean.
pub fn pod_annotations(e: &mut Errors<'_>, pod: &Value, options: &Options<'_>) {
    let spec = PodSpec::of(Node::new(pod.get(n::SPEC).unwrap_or(pod)));
    let found = annotations::special(meta::annotations(pod), spec, options.kept);
    add_below(e, annotations_of(pod), found);
}

/// What may become of a pod's annotations, and what they mean then.
pub fn updated_annotations(e: &mut Errors<'_>, new: &Value, old: &Value, options: &Options<'_>) {
    let found = annotations::updated(meta::annotations(new), meta::annotations(old));
    add_below(e, annotations_of(new), found);
    pod_annotations(e, new, options);
}

/// Annotations of a new pod and the fields that took their place say the same.
pub fn annotations_match_fields(e: &mut Errors<'_>, pod: &Value) {
    let spec = PodSpec::of(Node::new(pod.get(n::SPEC).unwrap_or(pod)));
    annotations::match_fields(e, meta::annotations(pod), spec);
}

/// `ValidatePodSpec`.
pub fn spec(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    let at = Spot::of(spec);
    if spec.termination_grace_period_seconds().is_none() {
        e.required(at.field(PodSpec::TERMINATION_GRACE_PERIOD_SECONDS), "");
    }
    let pod = containers::Pod {
        spec,
        volumes: volumes::volumes(e, spec, options),
        claims: claim_names(spec),
        options,
    };
    claims(e, spec, options);
    containers::containers(e, &pod);
    if options.gates.has(gate::POD_LEVEL_RESOURCES) {
        resources::of_pod(e, spec, &pod.claims, options);
    }
    network::host_ports(e, spec, options);
    let policies = [
        (PodSpec::RESTART_POLICY, &RESTART_POLICIES[..]),
        (PodSpec::DNS_POLICY, &DNS_POLICIES[..]),
    ];
    for (field, allowed) in policies {
        rules::choice(e, at.field(field), spec.node().str(field), allowed);
    }
    meta::validate_labels(spec.node_selector(), at.field(PodSpec::NODE_SELECTOR), e);
    security::of_pod(e, spec, options);
    network::processes(e, spec);
    affinity::affinity(e, spec, options);
    network::resolver(e, spec);
    gates(e, spec);
    affinity::spread(e, spec, options);
    windows::of_the_host(e, spec, options);
    network::host_users(e, spec, options);
    network::host_name_override(e, spec);
    names_of(e, spec);
    tolerations::tolerations(e, spec.tolerations(), options.kept);
    network::host_aliases(e, spec);
    for field in [PodSpec::PRIORITY_CLASS_NAME, PodSpec::RUNTIME_CLASS_NAME] {
        let name = spec.node().opt_str(field);
        // The name of a priority class that is empty is none; that of a runtime class is one.
        let given = name.filter(|name| field == PodSpec::RUNTIME_CLASS_NAME || !name.is_empty());
        if let Some(name) = given {
            rules::each(e, spec, field, names::subdomain_name(name, false));
        }
    }
    if let Some(policy) = spec.preemption_policy() {
        let field = at.field(PodSpec::PREEMPTION_POLICY);
        rules::choice(e, field, policy, &["PreemptLowerPriority", "Never"]);
    }
    resources::overhead(e, spec, options);
    security::operating_system(e, spec);
    scheduling_group(e, spec);
    environment::file_volumes(e, spec);
}

/// Names of service account, node, host and domain, and the pod's deadline, which stands among them.
fn names_of(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let at = Spot::of(spec);
    let account = spec.service_account_name();
    let subdomain = |e: &mut Errors<'_>, field: NameId, name: &str| {
        if !name.is_empty() {
            e.invalid_each(at.field(field), name, names::subdomain_name(name, false));
        }
    };
    subdomain(e, PodSpec::SERVICE_ACCOUNT_NAME, account);
    if spec.service_account() != account {
        // The path is the field's name in Go.
        let path = rules::beside(e, at, ".deprecatedServiceAccount");
        let detail = format!("must be the same as serviceAccountName: {}", quote(account));
        e.push(FieldError::invalid(path, spec.service_account(), detail));
    }
    subdomain(e, PodSpec::NODE_NAME, spec.node_name());
    if let Some(seconds) = spec.active_deadline_seconds() {
        let problems = names::range_problems(seconds, 1, i64::from(i32::MAX));
        e.invalid_each(
            at.field(PodSpec::ACTIVE_DEADLINE_SECONDS),
            seconds,
            problems,
        );
    }
    for field in [PodSpec::HOSTNAME, PodSpec::SUBDOMAIN] {
        let name = spec.node().str(field);
        if !name.is_empty() {
            e.invalid_each(at.field(field), name, names::dns_label_problems(name));
        }
    }
}

/// Names of the pod's claims on devices.
fn claim_names(spec: PodSpec<'_>) -> HashSet<&str> {
    let names = spec.resource_claims().iter().map(|claim| claim.name());
    names.filter(|name| !name.is_empty()).collect()
}

/// `validatePodResourceClaims`: each has a name of its own, and one source.
fn claims(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    let mirrors = options
        .pod
        .is_some_and(|pod| meta::annotation(pod, MIRROR).is_some());
    let mut seen = HashSet::new();
    for claim in spec.resource_claims() {
        if mirrors {
            // The path is upstream's.
            let detail = "static pods do not support resource claims";
            e.push(FieldError::forbidden("[]", detail));
            continue;
        }
        let at = Spot::of(claim);
        let name = claim.name();
        let given = rules::required(e, claim, n::NAME);
        if given && seen.insert(name) {
            e.invalid_each(at.field(n::NAME), name, names::dns_label_problems(name));
        } else if given {
            e.duplicate(at.field(n::NAME), name);
        }
        let shown = crate::shown::Internal::of(claim);
        let (own, template) = (
            claim.resource_claim_name(),
            claim.resource_claim_template_name(),
        );
        match (own, template) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                e.invalid(at, shown, detail);
            }
            (None, None) => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                e.invalid(at, shown, detail);
            }
            _ => {}
        }
        for field in [n::RESOURCE_CLAIM_NAME, n::RESOURCE_CLAIM_TEMPLATE_NAME] {
            if let Some(name) = claim.node().opt_str(field) {
                e.invalid_each(at.field(field), name, names::subdomain_name(name, false));
            }
        }
    }
}

/// What has to be so before the pod is ready, and what before it is scheduled.
fn gates(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for gate in spec.readiness_gates() {
        let kind = gate.condition_type();
        rules::each(e, gate, n::CONDITION_TYPE, names::label_key_problems(kind));
    }
    let mut seen = HashSet::new();
    for gate in spec.scheduling_gates() {
        let name = gate.name();
        e.invalid_each(Spot::of(gate), name, names::label_key_problems(name));
        if !seen.insert(name) {
            e.duplicate(Spot::of(gate), name);
        }
    }
}

/// The group that a pod is scheduled with, of a gate that is off: only pods that have one keep it.
fn scheduling_group(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let Some(group) = spec.scheduling_group() else {
        return;
    };
    let field = Spot::of(group).field(n::POD_GROUP_NAME);
    match group.pod_group_name() {
        None => e.invalid(field, &Value::Null, "must specify one of: `podGroupName`"),
        Some(name) => e.invalid_each(field, name, names::subdomain_name(name, false)),
    }
    if !spec.eviction_responders().is_empty() {
        let field = Spot::of(spec).field(PodSpec::SCHEDULING_GROUP);
        e.forbidden(field, "may not be set when evictionResponders is set");
    }
}

/// A label selector in a field, if it is given.
pub fn selector(e: &mut Errors<'_>, node: Node<'_>, field: NameId) {
    if let Some(selector) = node.get(field) {
        validate_label_selector(selector, SelectorRules::default(), e);
    }
}

/// `LabelSelectorHasInvalidLabelValue`.
#[must_use]
pub fn has_values_that_no_label_has(selector: LabelSelector<'_>) -> bool {
    let mut values = selector.match_expressions().iter().flat_map(|e| e.values());
    values.any(|value| {
        let value = value.as_str().unwrap_or_default();
        !names::label_value_problems(value).is_empty()
    })
}
