//! What all of a pod asks for: upstream's `component-helpers/resource`.
//!
//! Amounts that cannot be read count as absent; the API server lets none in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::quantity::Quantity;

use super::{containers, init_containers, is_sidecar, spec};

/// Amounts by the name of the resource.
pub type Amounts<'a> = BTreeMap<&'a str, Quantity>;

/// Which of the two lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum List {
    Requests,
    Limits,
}

/// Whether resources of this name can be given to a pod as a whole.
fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

/// Whether the pod as a whole asks for something.
#[must_use]
pub fn has_pod_level(pod: &Pod) -> bool {
    let Some(resources) = &spec(pod).resources else {
        return false;
    };
    [&resources.requests, &resources.limits]
        .into_iter()
        .flatten()
        .flat_map(BTreeMap::keys)
        .any(|name| is_pod_level(name))
}

/// The amounts of one list.
#[must_use]
pub fn of(resources: Option<&ResourceRequirements>, list: List) -> Amounts<'_> {
    let chosen = resources.and_then(|resources| match list {
        List::Requests => resources.requests.as_ref(),
        List::Limits => resources.limits.as_ref(),
    });
    parsed(chosen)
}

/// The amounts of a list.
#[must_use]
pub fn parsed(list: Option<&BTreeMap<String, Text>>) -> Amounts<'_> {
    list.into_iter()
        .flatten()
        .filter_map(|(name, text)| Some((name.as_str(), text.0.parse().ok()?)))
        .collect()
}

/// One amount of a container; nothing if it does not say.
#[must_use]
pub fn amount(container: &Container, list: List, name: &str) -> Quantity {
    of(container.resources.as_ref(), list)
        .get(name)
        .copied()
        .unwrap_or_default()
}

/// The sum over the containers of a pod at its greediest moment: either all of them run, or one of
/// the init containers with the sidecars that started before it.
#[must_use]
pub fn of_containers<'a>(pod: &'a Pod, list: List) -> Amounts<'a> {
    let amounts = |container: &'a Container| of(container.resources.as_ref(), list);
    let mut running = Amounts::new();
    for container in containers(pod) {
        add(&mut running, amounts(container));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in init_containers(pod) {
        let own = amounts(container);
        if is_sidecar(container) {
            add(&mut running, own.clone());
            add(&mut sidecars, own);
            raise(&mut starting, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, own);
            raise(&mut starting, &together);
        }
    }
    raise(&mut running, &starting);
    running
}

/// The sum of a pod: what it asks for as a whole takes the place of its containers' sum. Overhead is
/// added to requests, and to limits that there are.
#[must_use]
pub fn of_pod(pod: &Pod, list: List) -> Amounts<'_> {
    let mut sum = of_containers(pod, list);
    let whole = of(spec(pod).resources.as_ref(), list);
    sum.extend(whole.into_iter().filter(|(name, _)| is_pod_level(name)));
    for (name, more) in parsed(spec(pod).overhead.as_ref()) {
        match (list, sum.get_mut(name)) {
            (List::Limits, Some(limit)) if limit.is_zero() => {}
            (_, Some(amount)) => *amount = amount.plus(more),
            (List::Requests, None) => drop(sum.insert(name, more)),
            (List::Limits, None) => {}
        }
    }
    sum
}

fn add<'a>(sum: &mut Amounts<'a>, more: Amounts<'a>) {
    for (name, amount) in more {
        let entry = sum.entry(name).or_default();
        *entry = entry.plus(amount);
    }
}

fn raise<'a>(highest: &mut Amounts<'a>, other: &Amounts<'a>) {
    for (name, amount) in other {
        let entry = highest.entry(*name).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}
