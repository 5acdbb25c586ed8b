//! The quality of service that a pod is promised.
//!
//! Upstream: `ComputePodQOS` in `pkg/apis/core/helper/qos`.

use proto::catalogue::{Gates, gate, names as n};
use proto::quantity::Quantity;
use proto::view::View;
use proto::view::core_v1::{Pod, ResourceRequirements};

use crate::resource_names::is_of_pods;
use crate::strategies::pod_spec::resources::amount;

const BEST_EFFORT: &str = "BestEffort";
const BURSTABLE: &str = "Burstable";
const GUARANTEED: &str = "Guaranteed";

/// Guaranteed if all that a pod may use of cpu and memory is what it asks for, best effort if it asks for
/// nothing. What is said of the pod as a whole counts before what is said of its containers.
#[must_use]
pub fn class(gates: Gates, pod: Pod<'_>) -> &'static str {
    let spec = pod.spec();
    let counts = |resources: &ResourceRequirements<'_>| {
        gates.has(gate::POD_LEVEL_RESOURCES)
            && (says_of_pod(*resources)
                || !gates.has(gate::POD_LEVEL_RESOURCES_FIX_KUBELET_QOS_CLASS))
    };
    if let Some(resources) = spec.resources().filter(counts) {
        return of_resources(resources);
    }
    let all = spec
        .init_containers()
        .iter()
        .chain(spec.containers().iter());
    let classes = all.map(|container| of_resources(container.resources()));
    agreed(classes).unwrap_or(BEST_EFFORT)
}

/// Whether something is said of a resource that a pod can share among its containers.
fn says_of_pod(resources: ResourceRequirements<'_>) -> bool {
    let names = resources.requests().iter().chain(resources.limits().iter());
    { names }.any(|(name, _)| is_of_pods(name.as_str()))
}

fn of_resources(resources: ResourceRequirements<'_>) -> &'static str {
    let classes = ["cpu", "memory"].map(|name| {
        let of = |field| -> Quantity {
            amount(resources.node().dict(field).get(name)).unwrap_or_default()
        };
        match (of(n::REQUESTS), of(n::LIMITS)) {
            (request, limit) if request != limit => BURSTABLE,
            (request, _) if request.is_zero() => BEST_EFFORT,
            _ => GUARANTEED,
        }
    });
    agreed(classes.into_iter()).unwrap_or(BEST_EFFORT)
}

/// The class of all, burstable if they differ.
fn agreed(mut classes: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let first = classes.next()?;
    Some(if classes.all(|class| class == first) {
        first
    } else {
        BURSTABLE
    })
}

#[cfg(test)]
mod tests {
    use proto::codec::json::parse;
    use proto::view::Node;

    use super::*;

    #[test]
    fn the_pod_counts_before_its_containers() {
        let even = r#"{"requests":{"cpu":"1","memory":"1"},"limits":{"cpu":"1","memory":"1"}}"#;
        let asks = r#"{"requests":{"cpu":"1"}}"#;
        for (pod, containers, expected) in [
            ("{}", vec![], "BestEffort"),
            ("{}", vec!["{}", "{}"], "BestEffort"),
            ("{}", vec![even, even], "Guaranteed"),
            ("{}", vec![even, "{}"], "Burstable"),
            ("{}", vec![asks], "Burstable"),
            (even, vec![asks], "Guaranteed"),
            (
                r#"{"limits":{"example.com/a":"1"}}"#,
                vec![asks],
                "Burstable",
            ),
        ] {
            let containers: Vec<_> = containers
                .iter()
                .map(|resources| format!(r#"{{"resources":{resources}}}"#))
                .collect();
            let text = format!(
                r#"{{"spec":{{"resources":{pod},"containers":[{}]}}}}"#,
                containers.join(",")
            );
            let object = parse(text.as_bytes()).unwrap();
            assert_eq!(
                class(Gates::defaults(), Pod::of(Node::new(&object))),
                expected,
                "{text}"
            );
        }
    }
}
