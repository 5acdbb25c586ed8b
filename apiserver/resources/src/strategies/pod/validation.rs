//! What a pod may be, and what an update may make of it.
//!
//! Upstream: `validatePodMetadataAndSpec`, `ValidatePodCreate`, `ValidatePodUpdate`.

use proto::catalogue::{messages, names as n};
use proto::path::{Errors, FieldError, Spot};
use proto::view::core_v1::{Container, NodeSelectorTerm, PodSpec};
use proto::view::{List, Node, View};
use proto::{NameId, Value, meta};

use super::view;
use crate::equal;
use crate::rules;
use crate::shown::{self, Internal};
use crate::strategies::pod_spec::{self, Options, containers, tolerations};
use crate::strategy::Cx;

const CONTAINER_LISTS: [NameId; 2] = [PodSpec::CONTAINERS, PodSpec::INIT_CONTAINERS];

pub(super) fn create(cx: &Cx<'_>, pod: &Value, e: &mut Errors<'_>) {
    specified(pod, &Options::of_pod(cx, pod, None), e);
    let spec = view(pod).spec();
    let at = Spot::of(spec);
    if !spec.ephemeral_containers().is_empty() {
        e.forbidden(
            at.field(PodSpec::EPHEMERAL_CONTAINERS),
            "cannot be set on create",
        );
    }
    if !spec.node_name().is_empty() && !spec.scheduling_gates().is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        e.forbidden(at.field(PodSpec::NODE_NAME), detail);
    }
    pod_spec::annotations_match_fields(e, pod);
}

/// What holds of every pod, and not of templates alone.
pub(super) fn specified(pod: &Value, options: &Options<'_>, e: &mut Errors<'_>) {
    let spec = view(pod).spec();
    pod_spec::pod_annotations(e, pod, options);
    pod_spec::spec(e, spec, options);
    if spec.service_account_name().is_empty() {
        let projected = spec.volumes().iter().filter_map(|v| v.projected());
        let sources = projected.flat_map(|p| p.node().items(n::SOURCES));
        for token in sources.filter_map(|s| Node::new(s).get(n::SERVICE_ACCOUNT_TOKEN)) {
            let detail = "must not be specified when serviceAccountName is not set";
            e.forbidden(Spot::node(token), detail);
        }
    }
    rules::not_negative(e, spec, PodSpec::TERMINATION_GRACE_PERIOD_SECONDS);
    for container in spec
        .containers()
        .iter()
        .chain(spec.init_containers().iter())
    {
        containers::padding(e, container);
    }
}

pub(super) fn update(cx: &Cx<'_>, new: &Value, old: &Value, e: &mut Errors<'_>) {
    let options = Options::of_pod(cx, new, Some(old));
    specified(new, &options, e);
    pod_spec::updated_annotations(e, new, old, &options);
    let (now, was) = (view(new).spec(), view(old).spec());
    for list in CONTAINER_LISTS {
        if !same_containers(e, now, was, list) {
            return;
        }
    }
    if !deadline(e, now, was) {
        return;
    }
    only_more_tolerations(e, now, was, &options);
    only_fewer_gates(e, now, was);
    let alike = |spec: &Value| {
        equal::alike(
            Some(spec),
            Some(was.node().value()),
            messages::core_v1::POD_SPEC,
        )
    };
    if alike(now.node().value()) {
        return;
    }
    let mut munged = now.node().value().clone();
    let munging = Munging { now, was };
    munging.take_over(&mut munged);
    if !was.scheduling_gates().is_empty() {
        munging.narrow(&mut munged, e);
    }
    if !alike(&munged) {
        let diff = shown::difference(was.node().value(), &munged, messages::core_v1::POD_SPEC);
        e.forbidden(Spot::of(now), format!("{ONLY}\n{diff}"));
    }
}

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn list<'a>(spec: PodSpec<'a>, list: NameId) -> List<'a, Container<'a>> {
    spec.node().list(list)
}

/// As many containers as before, with images; says whether the update can be looked at further.
fn same_containers(e: &mut Errors<'_>, now: PodSpec<'_>, was: PodSpec<'_>, field: NameId) -> bool {
    if list(now, field).len() != list(was, field).len() {
        let detail = "pod updates may not add or remove containers";
        e.forbidden(Spot::of(now).field(field), detail);
        return false;
    }
    for container in list(now, field) {
        rules::required(e, container, n::IMAGE);
        containers::padding(e, container);
    }
    true
}

/// The deadline may come, and come nearer; says whether the update can be looked at further.
fn deadline(e: &mut Errors<'_>, now: PodSpec<'_>, was: PodSpec<'_>) -> bool {
    let field = Spot::of(now).field(PodSpec::ACTIVE_DEADLINE_SECONDS);
    match (now.active_deadline_seconds(), was.active_deadline_seconds()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
            e.invalid(field, seconds, detail);
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            e.invalid(
                field,
                seconds,
                "must be less than or equal to previous value",
            );
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            e.invalid(field, &Value::Null, detail);
            true
        }
        _ => true,
    }
}

fn only_more_tolerations(
    e: &mut Errors<'_>,
    now: PodSpec<'_>,
    was: PodSpec<'_>,
    options: &Options<'_>,
) {
    let kept = was.tolerations().iter().all(|before| {
        now.tolerations().iter().any(|after| {
            let of = |t: proto::view::core_v1::Toleration<'_>| {
                [n::KEY, n::OPERATOR, n::VALUE, n::EFFECT]
                    .map(|field| t.node().str(field).to_owned())
            };
            of(before) == of(after)
        })
    });
    if kept {
        tolerations::tolerations(e, now.tolerations(), options.kept);
    } else {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        e.forbidden(Spot::of(now).field(PodSpec::TOLERATIONS), detail);
    }
}

fn only_fewer_gates(e: &mut Errors<'_>, now: PodSpec<'_>, was: PodSpec<'_>) {
    let gates = now.scheduling_gates();
    for (i, gate) in gates.iter().enumerate() {
        let name = gate.name();
        let again = gates.iter().skip(i + 1).any(|other| other.name() == name);
        if !again && !was.scheduling_gates().iter().any(|old| old.name() == name) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            e.forbidden(Spot::of(gate).field(n::NAME), detail);
        }
    }
}

/// A new specification with the old values of what may change.
struct Munging<'a> {
    now: PodSpec<'a>,
    was: PodSpec<'a>,
}

impl Munging<'_> {
    fn take(&self, munged: &mut Value, field: NameId) {
        munged.copy(self.was.node().value(), &[field]);
    }

    fn take_over(&self, munged: &mut Value) {
        for field in CONTAINER_LISTS {
            let items = munged.get_mut(field).and_then(Value::as_list_mut);
            if items.as_ref().is_some_and(|items| items.is_empty()) {
                munged.remove(&[field]);
                continue;
            }
            for (container, before) in items.into_iter().flatten().zip(list(self.was, field)) {
                match before.image() {
                    "" => drop(container.remove(&[n::IMAGE])),
                    image => container.set(&[n::IMAGE], image),
                }
            }
        }
        for field in [
            PodSpec::ACTIVE_DEADLINE_SECONDS,
            PodSpec::SCHEDULING_GATES,
            PodSpec::TOLERATIONS,
        ] {
            self.take(munged, field);
        }
        let grace = PodSpec::TERMINATION_GRACE_PERIOD_SECONDS;
        let was = self.was.termination_grace_period_seconds();
        let now = self.now.termination_grace_period_seconds();
        if was.is_some_and(|s| s < 0) && now == Some(1) {
            self.take(munged, grace);
        }
    }

    /// A gated pod may narrow where it goes.
    fn narrow(&self, munged: &mut Value, e: &mut Errors<'_>) {
        let (now, was) = (self.now.node_selector(), self.was.node_selector());
        if now != was {
            let kept = was
                .iter()
                .all(|(key, value)| now.get(key.as_str()) == Some(value));
            if !kept {
                let field = Spot::of(self.now).field(PodSpec::NODE_SELECTOR);
                let detail =
                    "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
                let shown = self.now.node().get(PodSpec::NODE_SELECTOR);
                e.invalid(field, shown.unwrap_or(&Value::Null), detail);
            }
            self.take(munged, PodSpec::NODE_SELECTOR);
        }
        let of = |spec: PodSpec<'_>| spec.affinity().map(|a| a.node().value().clone());
        let nodes = |affinity: &Option<Value>| {
            affinity
                .as_ref()
                .and_then(|a| a.get(n::NODE_AFFINITY))
                .cloned()
        };
        let (now, was) = (of(self.now), of(self.was));
        let (now_nodes, was_nodes) = (nodes(&now), nodes(&was));
        if rules::same(now_nodes.as_ref(), was_nodes.as_ref()) {
            return;
        }
        self.only_more_requirements(e);
        let others = now.as_ref().is_some_and(|a| {
            a.get(n::POD_AFFINITY).is_some() || a.get(n::POD_ANTI_AFFINITY).is_some()
        });
        match was_nodes {
            Some(nodes) => munged.set(&[PodSpec::AFFINITY, n::NODE_AFFINITY], nodes),
            None if was.is_none() && !others => drop(munged.remove(&[PodSpec::AFFINITY])),
            None => drop(munged.remove(&[PodSpec::AFFINITY, n::NODE_AFFINITY])),
        }
    }

    /// `validateNodeAffinityMutation`: terms stay, each may ask for more.
    fn only_more_requirements(&self, e: &mut Errors<'_>) {
        fn terms(spec: PodSpec<'_>) -> Option<List<'_, NodeSelectorTerm<'_>>> {
            let nodes = spec.affinity()?.node_affinity()?;
            let required = nodes.required_during_scheduling_ignored_during_execution()?;
            Some(required.node_selector_terms())
        }
        const PATH: &str = ".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let (now, Some(was)) = (terms(self.now), terms(self.was)) else {
            return;
        };
        let count = now.map_or(0, List::len);
        if !was.is_empty() && was.len() != count {
            const WAY: [NameId; 4] = [
                PodSpec::AFFINITY,
                n::NODE_AFFINITY,
                n::REQUIRED_DURING_SCHEDULING_IGNORED_DURING_EXECUTION,
                n::NODE_SELECTOR_TERMS,
            ];
            let shown = self.now.node().value().at(&WAY);
            let shown = Internal(shown, NodeSelectorTerm::MESSAGE);
            let path = rules::beside(e, Spot::of(self.now), PATH);
            let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            e.push(FieldError::invalid(path, shown, detail));
            return;
        }
        for (i, (after, before)) in now.into_iter().flat_map(List::iter).zip(was).enumerate() {
            if !only_adds(after, before) {
                let path = rules::beside(e, Spot::of(self.now), &format!("{PATH}[{i}]"));
                let detail = "only additions are allowed (no mutations or deletions)";
                e.push(FieldError::invalid(path, Internal::of(after), detail));
            }
        }
    }
}

fn only_adds(after: NodeSelectorTerm<'_>, before: NodeSelectorTerm<'_>) -> bool {
    let lists = |term: NodeSelectorTerm<'_>| {
        [n::MATCH_EXPRESSIONS, n::MATCH_FIELDS].map(|field| term.node().items(field).to_vec())
    };
    let (after, before) = (lists(after), lists(before));
    // A term that asks for nothing selects nothing: more would select something.
    if before.iter().all(Vec::is_empty) {
        return after.iter().all(Vec::is_empty);
    }
    after.iter().zip(&before).all(|(after, before)| {
        after.len() >= before.len() && after.iter().zip(before).all(|(a, b)| equal::same(a, b))
    })
}

/// Whether a pod stands for one that its node has by itself.
pub(super) fn mirrors(pod: &Value) -> bool {
    meta::annotation(pod, pod_spec::MIRROR).is_some()
}
