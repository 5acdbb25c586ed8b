//! What a node may say about itself: not which work it should get.

use proto::catalogue::names as n;
use proto::path::quote;
use proto::{Map, Value, meta};
use resources::equal::same_at;

use super::super::{Attributes, Operation};

/// Labels of Kubernetes that kubelets set.
const OWN: [&str; 11] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains in which kubelets may set any label.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// The domain that is kept from kubelets, so that pods can be kept from nodes that are not trusted.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Whether a node's write of a node is about itself and harmless.
pub(super) fn node(node: &str, write: &Attributes<'_>) -> Result<(), String> {
    let quoted = quote(node);
    if write.name != node {
        return Err(format!(
            "node {quoted} is not allowed to modify node {}",
            quote(write.name)
        ));
    }
    let Some(new) = write.object.as_deref() else {
        return Ok(());
    };
    let config_source = new
        .at(&[n::SPEC, n::CONFIG_SOURCE])
        .filter(|v| !v.is_null());
    let Some(old) = write.old.filter(|_| write.operation == Operation::Update) else {
        if config_source.is_some() {
            return Err(format!(
                "node {quoted} is not allowed to create pods with a non-nil configSource"
            ));
        }
        let none = Map::new();
        let forbidden = forbidden(meta::labels(new), &none);
        if !forbidden.is_empty() {
            return Err(format!(
                "node {quoted} is not allowed to set the following labels: {}",
                forbidden.join(", ")
            ));
        }
        return Ok(());
    };
    if config_source.is_some() && !same_at(old, new, &[n::SPEC, n::CONFIG_SOURCE]) {
        return Err(format!(
            "node {quoted} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if !same_at(old, new, &[n::SPEC, n::TAINTS]) {
        return Err(format!("node {quoted} is not allowed to modify taints"));
    }
    if !same_at(old, new, &[n::METADATA, n::OWNER_REFERENCES]) {
        return Err(format!(
            "node {quoted} is not allowed to modify ownerReferences"
        ));
    }
    let forbidden = forbidden(meta::labels(new), meta::labels(old));
    if !forbidden.is_empty() {
        return Err(format!(
            "is not allowed to modify labels: {}",
            forbidden.join(", ")
        ));
    }
    Ok(())
}

/// The labels that differ and are not a node's to set, in order.
fn forbidden<'a>(new: &'a Map, old: &'a Map) -> Vec<&'a str> {
    let set = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(*value));
    let removed = old.iter().filter(|(key, _)| !new.contains(*key));
    let mut keys: Vec<&str> = set
        .chain(removed)
        .map(|(key, _): (_, &Value)| key.as_str())
        .filter(|key| is_forbidden(key))
        .collect();
    keys.sort_unstable();
    keys
}

fn is_forbidden(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        domain
            .strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if within(RESTRICTED) {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    kubernetes && !OWN.contains(&key) && !OWN_DOMAINS.iter().any(|d| within(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> Map {
        all.iter()
            .map(|(key, value)| (proto::Name::new(key), Value::from(*value)))
            .collect()
    }

    #[test]
    fn labels_of_kubernetes_are_a_nodes_own_or_not() {
        for key in [
            "a",
            "example.com/a",
            "kubernetes.io/hostname",
            "x.node.kubernetes.io/a",
            "kubelet.kubernetes.io/a",
            "notkubernetes.io/a",
        ] {
            assert!(!is_forbidden(key), "{key}");
        }
        for key in [
            "kubernetes.io/a",
            "node-role.kubernetes.io/master",
            "node-restriction.kubernetes.io/a",
            "x.node-restriction.kubernetes.io/a",
            "foo.k8s.io/a",
        ] {
            assert!(is_forbidden(key), "{key}");
        }
    }

    #[test]
    fn only_what_changes_counts() {
        let old = labels(&[("kubernetes.io/a", "1"), ("k8s.io/b", "1"), ("c", "1")]);
        assert!(forbidden(&old, &old).is_empty());
        let new = labels(&[("kubernetes.io/a", "2"), ("c", "2"), ("x.k8s.io/new", "1")]);
        assert_eq!(
            forbidden(&new, &old),
            ["k8s.io/b", "kubernetes.io/a", "x.k8s.io/new"]
        );
    }
}
