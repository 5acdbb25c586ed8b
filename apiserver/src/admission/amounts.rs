//! What pods ask for: amounts by resource, summed over containers as the scheduler sums them.
//!
//! Upstream: `component-helpers/resource/helpers.go`.

use std::collections::BTreeMap;

use proto::catalogue::names as n;
use proto::quantity::Quantity;
use proto::view::View;
use proto::view::core_v1::{Container, PodSpec};
use proto::{Map, NameId, Value};

/// Amounts by the name of the resource.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The amounts of a map of quantities. What is no quantity, which validation refuses, is left out.
pub(super) fn amounts(map: &Map) -> Amounts {
    let parsed = map.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.as_str()?.parse().ok()?))
    });
    parsed.collect()
}

/// Requests or limits of a container.
pub(super) fn of(container: Container<'_>, which: NameId) -> Amounts {
    amounts(container.resources().node().dict(which))
}

/// Adds amounts to others.
pub(super) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let sum = to
            .get(name)
            .map_or(*quantity, |there| there.plus(*quantity));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, quantity) in at_least {
        if to.get(name).is_none_or(|there| there < quantity) {
            to.insert(name.clone(), *quantity);
        }
    }
}

/// Whether an amount of this resource can be given for a pod as a whole.
fn has_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory")
}

/// Requests or limits (`which`) of a pod. Containers run together; before them, one after another, init
/// containers, each beside the sidecars that started before it. With `pod_level`, amounts that are
/// given for the pod as a whole stand for its containers'.
pub(super) fn of_pod(spec: PodSpec<'_>, which: NameId, pod_level: bool) -> Amounts {
    let mut sum = Amounts::new();
    for container in spec.containers() {
        add(&mut sum, &of(container, which));
    }
    let (mut sidecars, mut init) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers() {
        let own = of(container, which);
        if container.restart_policy() == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut init, &sidecars);
        } else {
            let mut beside = own;
            add(&mut beside, &sidecars);
            raise(&mut init, &beside);
        }
    }
    raise(&mut sum, &init);
    if let Some(whole) = spec.resources().filter(|_| pod_level) {
        sum.extend(
            amounts(whole.node().dict(which))
                .into_iter()
                .filter(|(name, _)| has_pod_level(name)),
        );
    }
    sum
}

/// The containers of a pod that are started once: none of those that debug it.
pub(super) fn containers_mut(pod: &mut Value) -> impl Iterator<Item = (NameId, &mut Value)> {
    let kinds = [n::CONTAINERS, n::INIT_CONTAINERS];
    let spec = pod.get_mut(n::SPEC).and_then(Value::as_map_mut).into_iter();
    let lists = spec
        .flat_map(|m| m.iter_mut())
        .filter_map(move |(name, v)| Some((name.known().filter(|k| kinds.contains(k))?, v)));
    lists
        .filter_map(|(kind, v)| Some((kind, v.as_list_mut()?)))
        .flat_map(|(kind, list)| list.iter_mut().map(move |c| (kind, c)))
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};
    use proto::view::Node;
    use proto::view::core_v1::Pod;

    use super::*;

    fn cpu(containers: &str) -> String {
        let text = format!(r#"{{"spec":{{{containers}}}}}"#);
        let pod = json::decode(text.as_bytes(), core_v1::POD, Strictness::Strict)
            .unwrap()
            .value;
        let sum = of_pod(Pod::of(Node::new(&pod)).spec(), n::REQUESTS, true);
        sum.get("cpu").map(ToString::to_string).unwrap_or_default()
    }

    fn container(cpu: &str, more: &str) -> String {
        format!(r#"{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}"}}}}{more}}}"#)
    }

    #[test]
    fn containers_add_up_and_init_containers_take_turns() {
        let (one, two, five) = (container("1", ""), container("2", ""), container("5", ""));
        assert_eq!(cpu(&format!(r#""containers":[{one},{two}]"#)), "3");
        assert_eq!(
            cpu(&format!(
                r#""containers":[{one},{two}],"initContainers":[{two},{five}]"#
            )),
            "5"
        );
        assert_eq!(
            cpu(&format!(
                r#""containers":[{two}],"initContainers":[{one},{one}]"#
            )),
            "2"
        );
    }

    #[test]
    fn sidecars_run_beside_what_comes_after_them() {
        let sidecar = container("1", r#","restartPolicy":"Always""#);
        let (one, five) = (container("1", ""), container("5", ""));
        assert_eq!(
            cpu(&format!(
                r#""containers":[{one}],"initContainers":[{sidecar},{five}]"#
            )),
            "6"
        );
        assert_eq!(
            cpu(&format!(
                r#""containers":[{one}],"initContainers":[{five},{sidecar}]"#
            )),
            "5"
        );
        assert_eq!(
            cpu(&format!(
                r#""containers":[{five}],"initContainers":[{sidecar}]"#
            )),
            "6"
        );
    }

    #[test]
    fn what_the_pod_asks_for_as_a_whole_counts() {
        let one = container("1", "");
        assert_eq!(
            cpu(&format!(
                r#""containers":[{one},{one}],"resources":{{"requests":{{"cpu":"500m"}}}}"#
            )),
            "500m"
        );
    }
}
