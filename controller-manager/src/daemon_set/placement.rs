//! On which nodes a daemon set's pods belong. Pure.
//!
//! Sources: `nodeShouldRunDaemonPod`, `component-helpers/scheduling/corev1/nodeaffinity`.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
    PodTemplateSpec, Taint, Toleration,
};

/// What a node means for a daemon set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Belongs {
    /// A pod is made there.
    pub starts: bool,
    /// A pod that is there stays.
    pub stays: bool,
}

/// The template's spec with the tolerations that all daemons have.
pub(super) fn tolerant(set: &DaemonSet) -> PodSpec {
    let mut spec = set.spec.template.spec.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let all = spec.tolerations.get_or_insert_default();
    let mut add = |key: &str, effect: &str| {
        let new = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !all.contains(&new) {
            all.push(new);
        }
    };
    add("node.kubernetes.io/not-ready", "NoExecute");
    add("node.kubernetes.io/unreachable", "NoExecute");
    for pressure in ["disk-pressure", "memory-pressure", "pid-pressure"] {
        add(&format!("node.kubernetes.io/{pressure}"), "NoSchedule");
    }
    add("node.kubernetes.io/unschedulable", "NoSchedule");
    if host_network {
        add("node.kubernetes.io/network-unavailable", "NoSchedule");
    }
    spec
}

/// Whether a pod of this spec belongs on the node.
pub(super) fn belongs(spec: &PodSpec, node: &Node) -> Belongs {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let other_node = spec
        .node_name
        .as_deref()
        .is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    if other_node || !is_selected(spec, node) {
        return Belongs {
            starts: false,
            stays: false,
        };
    }
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref());
    let refused = |effects: &[&str]| {
        let mut taints = taints.unwrap_or_default().iter();
        taints.any(|t| effects.contains(&t.effect.as_str()) && !is_tolerated(spec, t))
    };
    Belongs {
        starts: !refused(&["NoSchedule", "NoExecute"]),
        stays: !refused(&["NoExecute"]),
    }
}

fn is_tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations
        .iter()
        .flatten()
        .any(|t| tolerates(t, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (given(&toleration.key), given(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let (wanted, value) = (given(&toleration.value), given(&taint.value));
    match given(&toleration.operator).as_str() {
        "" | "Equal" => wanted == value,
        "Exists" => true,
        "Gt" => compare(&value, &wanted).is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compare(&value, &wanted).is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

fn compare(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    Some(a.parse::<i64>().ok()?.cmp(&b.parse::<i64>().ok()?))
}

/// The node has the labels and fields that the pod asks for.
fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    if !crate::selector::holds(labels, spec.node_selector.as_ref()) {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|r| r.node_selector_terms.iter().any(|t| meets(t, node)))
}

fn meets(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that asks for nothing selects nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|r| is_met(r, labels.and_then(|l| l.get(&r.key)).map(String::as_str)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && is_met(r, node.metadata.name.as_deref()))
}

fn is_met(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let first = values.first().map_or("", String::as_str);
    let order = value.and_then(|v| compare(v, first));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => order.is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => order.is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

/// The template of a pod for one node: its affinity names the node, and the scheduler binds it.
pub(super) fn for_node(
    set: &DaemonSet,
    tolerant: &PodSpec,
    node: &str,
    hash: &str,
) -> PodTemplateSpec {
    let mut template = set.spec.template.clone();
    let mut spec = tolerant.clone();
    pin(&mut spec, node);
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(crate::history::HASH_LABEL.to_owned(), hash.to_owned());
    let annotations = set.metadata.annotations.as_ref();
    let generation = annotations.and_then(|a| a.get("deprecated.daemonset.template.generation"));
    if let Some(generation) = generation {
        labels.insert("pod-template-generation".to_owned(), generation.clone());
    }
    template.spec = Some(spec);
    template
}

/// Replaces what the affinity requires of the node by its name.
fn pin(spec: &mut PodSpec, node: &str) {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let only = NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![name]),
        }],
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let of_nodes: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    of_nodes.required_during_scheduling_ignored_during_execution = Some(only);
}

/// The node that a pod is on or is meant for.
pub(super) fn node_of(spec: &PodSpec) -> Option<&str> {
    if let Some(name) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Some(name);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|t| t.match_fields.iter().flatten());
    let mut names = fields.filter(|f| f.key == "metadata.name" && f.operator == "In");
    names.find_map(|f| match f.values.as_deref() {
        Some([one]) => Some(one.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NodeSpec;

    fn node(taints: &[(&str, &str)]) -> Node {
        let taint = |(key, effect): &(&str, &str)| Taint {
            key: (*key).to_owned(),
            effect: (*effect).to_owned(),
            ..Taint::default()
        };
        let mut node = Node::default();
        node.metadata.name = Some("n".to_owned());
        node.metadata.labels = Some([("disk".to_owned(), "ssd".to_owned())].into());
        node.spec = Some(NodeSpec {
            taints: Some(taints.iter().map(taint).collect()),
            ..NodeSpec::default()
        });
        node
    }

    const fn both(starts: bool, stays: bool) -> Belongs {
        Belongs { starts, stays }
    }

    #[test]
    fn daemons_tolerate_what_is_wrong_with_nodes() {
        let spec = tolerant(&DaemonSet::default());
        let unwell = node(&[
            ("node.kubernetes.io/not-ready", "NoExecute"),
            ("node.kubernetes.io/unschedulable", "NoSchedule"),
        ]);
        assert_eq!(belongs(&spec, &unwell), both(true, true));
        let no_network = node(&[("node.kubernetes.io/network-unavailable", "NoSchedule")]);
        assert_eq!(belongs(&spec, &no_network), both(false, true));
    }

    #[test]
    fn a_taint_keeps_new_pods_off_and_only_no_execute_ends_old_ones() {
        let spec = tolerant(&DaemonSet::default());
        assert_eq!(
            belongs(&spec, &node(&[("x", "NoSchedule")])),
            both(false, true)
        );
        assert_eq!(
            belongs(&spec, &node(&[("x", "NoExecute")])),
            both(false, false)
        );
    }

    #[test]
    fn pods_are_where_selector_and_affinity_say() {
        let mut spec = tolerant(&DaemonSet::default());
        spec.node_selector = Some([("disk".to_owned(), "ssd".to_owned())].into());
        assert_eq!(belongs(&spec, &node(&[])), both(true, true));
        spec.node_selector = Some([("disk".to_owned(), "hdd".to_owned())].into());
        assert_eq!(belongs(&spec, &node(&[])), both(false, false));
        spec.node_selector = None;
        pin(&mut spec, "other");
        assert_eq!(belongs(&spec, &node(&[])), both(false, false));
        pin(&mut spec, "n");
        assert_eq!(belongs(&spec, &node(&[])), both(true, true));
        assert_eq!(node_of(&spec), Some("n"));
    }
}
