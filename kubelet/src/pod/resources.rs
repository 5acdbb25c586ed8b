//! What a pod asks for in all: `k8s.io/component-helpers/resource`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::quantity::Quantity;

use super::spec;

/// Amounts by resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Which half of the requirements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Requests,
    Limits,
}

fn half(of: Option<&ResourceRequirements>, half: Half) -> Amounts {
    let list = of.and_then(|r| match half {
        Half::Requests => r.requests.as_ref(),
        Half::Limits => r.limits.as_ref(),
    });
    list.map(amounts).unwrap_or_default()
}

/// Reads amounts; what does not parse passed no server and counts as nothing.
pub(crate) fn amounts(list: &BTreeMap<String, Text>) -> Amounts {
    let parsed = list.iter().filter_map(|(name, text)| {
        let amount = text.0.parse().ok()?;
        Some((name.clone(), amount))
    });
    parsed.collect()
}

/// As objects have them.
pub(crate) fn texts(amounts: &Amounts) -> BTreeMap<String, Text> {
    let text = |(name, amount): (&String, &Quantity)| (name.clone(), Text(amount.to_string()));
    amounts.iter().map(text).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn widen(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = to.get(name).map_or(*amount, |have| (*have).max(*amount));
        to.insert(name.clone(), most);
    }
}

/// What the containers of a pod need at the widest point of its life, its own level and overhead
/// included.
pub(crate) fn of_pod(pod: &Pod, which: Half) -> Amounts {
    let spec = spec::of(pod);
    let of = |container: &Container| half(container.resources.as_ref(), which);
    let mut all = Amounts::new();
    for container in &spec.containers {
        add(&mut all, &of(container));
    }
    let (mut sidecars, mut initializing) = (Amounts::new(), Amounts::new());
    for container in spec::init_containers(spec) {
        let mut needs = of(container);
        if spec::is_sidecar(container) {
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        widen(&mut initializing, &needs);
    }
    add(&mut all, &sidecars);
    widen(&mut all, &initializing);
    for (name, amount) in half(spec.resources.as_ref(), which) {
        all.insert(name, amount);
    }
    if let Some(overhead) = &spec.overhead {
        let overhead = amounts(overhead);
        match which {
            Half::Requests => add(&mut all, &overhead),
            // No limit plus something is still no limit.
            Half::Limits => {
                let limited = |(name, _): &(String, Quantity)| all.contains_key(name);
                let overhead: Amounts = overhead.into_iter().filter(limited).collect();
                add(&mut all, &overhead);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: serde_json::Value, name: &str) -> String {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        of_pod(&pod, Half::Requests)[name].to_string()
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } })
    }

    #[test]
    fn initialization_counts_at_its_widest_and_sidecars_run_beside_everything() {
        let mut sidecar = asks("100m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({
            "initContainers": [asks("2"), sidecar, asks("1")],
            "containers": [asks("500m"), asks("1")],
            "overhead": { "cpu": "10m" },
        });
        assert_eq!(of(spec, "cpu"), "2010m");
    }

    #[test]
    fn requests_of_the_pod_replace_the_sum() {
        let mut spec = json!({ "containers": [asks("500m")] });
        spec["resources"] = json!({ "requests": { "cpu": "3" } });
        assert_eq!(of(spec, "cpu"), "3");
    }
}
