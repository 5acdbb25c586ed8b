//! `NodeAffinity`: node selectors and node affinity of pods, and what the profile adds.
//!
//! Conditions are compiled against label columns, so that each value of a label is judged once.
//! Source: `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`.

use k8s_openapi::api::core::v1::{self as core, Node};

use crate::cluster::{Cluster, NO_NODE, NodeIndex};
use crate::framework::{
    Action, Change, Cycle, Event, Interest, Plugin, Prepared, Rejection, Resource, State, Verdict,
    normalize_by_max, own,
};
use crate::pod::PodInfo;
use crate::selector::{Condition, Labels, Selector};

/// The one field of nodes that can be selected by.
const NAME: &str = "metadata.name";

/// Node affinity, from pods and from the profile.
pub(super) struct NodeAffinity {
    added: Option<NodeSelector>,
    added_preferred: Vec<(i64, Term)>,
}

impl NodeAffinity {
    pub(super) fn new(added: Option<&core::NodeAffinity>) -> Self {
        Self {
            added: added
                .and_then(|a| {
                    a.required_during_scheduling_ignored_during_execution
                        .as_ref()
                })
                .map(NodeSelector::of),
            added_preferred: added.map(preferred).unwrap_or_default(),
        }
    }
}

/// Terms of which one has to be met.
#[derive(Clone, Debug)]
pub(crate) struct NodeSelector(Vec<Term>);

/// Conditions that all have to be met.
#[derive(Clone, Debug)]
struct Term {
    labels: Vec<(String, Condition)>,
    names: Vec<Condition>,
}

impl NodeSelector {
    pub(crate) fn of(selector: &core::NodeSelector) -> Self {
        // A term without conditions matches nothing.
        let some = |t: &&core::NodeSelectorTerm| {
            let given = |list: &Option<Vec<core::NodeSelectorRequirement>>| {
                list.as_ref().is_some_and(|l| !l.is_empty())
            };
            given(&t.match_expressions) || given(&t.match_fields)
        };
        Self(
            selector
                .node_selector_terms
                .iter()
                .filter(some)
                .map(Term::of)
                .collect(),
        )
    }

    pub(crate) fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.0.iter().any(|t| t.matches(name, labels))
    }
}

impl Term {
    fn of(term: &core::NodeSelectorTerm) -> Self {
        let labels = term.match_expressions.iter().flatten();
        let fields = term.match_fields.iter().flatten();
        Self {
            labels: labels
                .map(|r| {
                    (
                        r.key.clone(),
                        Condition::new(&r.operator, r.values.as_deref().unwrap_or_default()),
                    )
                })
                .collect(),
            names: fields.map(field).collect(),
        }
    }

    fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.labels
            .iter()
            .all(|(k, c)| c.met_by(labels.get(k).map(String::as_str)))
            && self.names.iter().all(|c| c.met_by(Some(name)))
    }
}

/// Fields take `In` and `NotIn` with one value.
fn field(requirement: &core::NodeSelectorRequirement) -> Condition {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" | "NotIn" if requirement.key == NAME && values.len() == 1 => {
            Condition::new(&requirement.operator, values)
        }
        _ => Condition::Never,
    }
}

/// What a pod requires of its node.
#[derive(Clone, Debug)]
pub(crate) struct Required {
    selector: Selector,
    affinity: Option<NodeSelector>,
}

impl Required {
    pub(crate) fn of(pod: &PodInfo) -> Self {
        let spec = pod.spec();
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        Self {
            selector: Selector::of_labels(spec.node_selector.iter().flatten()),
            affinity: required.map(NodeSelector::of),
        }
    }

    /// Whether it asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_everything() && self.affinity.is_none()
    }

    fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.selector.matches(labels)
            && self
                .affinity
                .as_ref()
                .is_none_or(|a| a.matches(name, labels))
    }

    /// Which nodes meet it, by index.
    pub(crate) fn judge(&self, cluster: &Cluster) -> Met {
        let conditions = self.selector.conditions();
        let own = Term {
            labels: conditions.to_vec(),
            names: Vec::new(),
        };
        let first = term_met(&own, cluster);
        match &self.affinity {
            None => Met(first),
            Some(any) => Met(both(first, &any_met(any, cluster))),
        }
    }
}

/// By node index, whether something holds.
#[derive(Clone, Debug)]
pub(crate) struct Met(Vec<bool>);

impl Met {
    pub(crate) fn by(&self, node: NodeIndex) -> bool {
        self.0.get(node as usize).copied().unwrap_or(false)
    }
}

fn both(mut a: Vec<bool>, b: &[bool]) -> Vec<bool> {
    for (a, b) in a.iter_mut().zip(b) {
        *a &= b;
    }
    a
}

fn any_met(selector: &NodeSelector, cluster: &Cluster) -> Vec<bool> {
    let mut met = vec![false; cluster.slots()];
    for term in &selector.0 {
        for (met, one) in met.iter_mut().zip(term_met(term, cluster)) {
            *met |= one;
        }
    }
    met
}

fn term_met(term: &Term, cluster: &Cluster) -> Vec<bool> {
    let tests: Vec<_> = term
        .labels
        .iter()
        .map(|(k, c)| cluster.labels().test(k, c))
        .collect();
    let mut met = vec![false; cluster.slots()];
    for node in cluster.order() {
        met[*node as usize] = tests.iter().all(|t| t.met_by(*node))
            && term
                .names
                .iter()
                .all(|c| c.met_by(Some(cluster.name(*node))));
    }
    met
}

fn preferred(affinity: &core::NodeAffinity) -> Vec<(i64, Term)> {
    let terms = affinity
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .flatten();
    let given = |t: &core::NodeSelectorTerm| {
        let some = |list: &Option<Vec<core::NodeSelectorRequirement>>| {
            list.as_ref().is_some_and(|l| !l.is_empty())
        };
        some(&t.match_expressions) || some(&t.match_fields)
    };
    terms
        .filter(|t| t.weight != 0 && given(&t.preference))
        .map(|t| (i64::from(t.weight), Term::of(&t.preference)))
        .collect()
}

/// The names that a pod's terms ask for, if each of them asks for some.
fn asked_names(pod: &PodInfo) -> Option<Vec<String>> {
    let affinity = pod.spec().affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut all: Option<Vec<String>> = None;
    for term in &required.node_selector_terms {
        let mut names: Option<Vec<String>> = None;
        for r in term
            .match_fields
            .iter()
            .flatten()
            .filter(|r| r.key == NAME && r.operator == "In")
        {
            let values = r.values.clone().unwrap_or_default();
            names = Some(match names {
                Some(before) => before.into_iter().filter(|n| values.contains(n)).collect(),
                None => values,
            });
        }
        all.get_or_insert_default().extend(names?);
    }
    all
}

/// What is read for each node: which nodes the profile's own affinity allows, and the pod's.
#[derive(Clone)]
struct Allowed {
    added: Option<Vec<bool>>,
    own: Met,
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn interests(&self) -> &'static [Interest] {
        const {
            &[Interest::new(
                Resource::Node,
                Action::ADD.or(Action::NODE_LABEL),
            )]
        }
    }

    fn hint(&self, _cluster: &Cluster, pod: &PodInfo, _event: Event, change: &Change) -> bool {
        let Change::Node {
            old,
            new: Some(new),
        } = change
        else {
            return true;
        };
        let none = Labels::new();
        let name = |n: &Node| n.metadata.name.clone().unwrap_or_default();
        let labels = new.metadata.labels.as_ref().unwrap_or(&none);
        if self
            .added
            .as_ref()
            .is_some_and(|a| !a.matches(&name(new), labels))
        {
            return false;
        }
        let required = Required::of(pod);
        let met =
            |n: &Node| required.matches(&name(n), n.metadata.labels.as_ref().unwrap_or(&none));
        met(new) && !old.as_deref().is_some_and(met)
    }

    fn pre_filter(&self, cycle: &Cycle<'_>) -> Prepared {
        let required = Required::of(cycle.pod);
        if required.is_empty() && self.added.is_none() {
            return Prepared::Skip;
        }
        let names = asked_names(cycle.pod);
        if names.as_ref().is_some_and(Vec::is_empty) {
            return Prepared::Rejected(Rejection::unresolvable("pod affinity terms conflict"));
        }
        let state = Allowed {
            added: self.added.as_ref().map(|a| any_met(a, cycle.cluster)),
            own: required.judge(cycle.cluster),
        };
        let index = |name: &String| cycle.cluster.node(name).unwrap_or(NO_NODE);
        let nodes = names.map(|names| names.iter().map(index).collect());
        Prepared::Ready {
            state: Box::new(state),
            nodes,
        }
    }

    fn filter(&self, _cycle: &Cycle<'_>, state: &dyn State, node: NodeIndex) -> Verdict {
        let allowed = own::<Allowed>(state);
        if allowed.added.as_ref().is_some_and(|a| !a[node as usize]) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match scheduler-enforced node affinity",
            ));
        }
        if !allowed.own.by(node) {
            return Err(Rejection::unresolvable(
                "node(s) didn't match Pod's node affinity/selector",
            ));
        }
        Ok(())
    }

    fn pre_score(&self, cycle: &Cycle<'_>, _nodes: &[NodeIndex]) -> Prepared {
        let affinity = cycle
            .pod
            .spec()
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref());
        let wanted = affinity.map(preferred).unwrap_or_default();
        if wanted.is_empty() && self.added_preferred.is_empty() {
            return Prepared::Skip;
        }
        let terms = self.added_preferred.iter().chain(&wanted);
        Prepared::with(
            terms
                .map(|(w, t)| (*w, term_met(t, cycle.cluster)))
                .collect::<Vec<_>>(),
        )
    }

    fn score(
        &self,
        _cycle: &Cycle<'_>,
        state: &dyn State,
        nodes: &[NodeIndex],
        scores: &mut [i64],
    ) {
        for (weight, met) in own::<Vec<(i64, Vec<bool>)>>(state) {
            for (node, score) in nodes.iter().zip(&mut *scores) {
                *score += if met[*node as usize] { *weight } else { 0 };
            }
        }
    }

    fn normalize(&self, _state: &dyn State, _nodes: &[NodeIndex], scores: &mut [i64]) {
        normalize_by_max(scores, false);
    }
}
