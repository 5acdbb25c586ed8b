//! Names of resources (`cpu`, `requests.storage`, `example.com/gpu`) and what they say about an amount.
//!
//! Upstream: `pkg/apis/core/helper/helpers.go`, `component-helpers/resource`.

use proto::meta::names;
use proto::quantity::Quantity;

const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";

/// Names without a prefix that a container may ask for, huge pages apart.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// All names without a prefix, huge pages apart.
const STANDARD: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

/// Numbers of objects.
const COUNTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

#[must_use]
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

#[must_use]
pub fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name)
        || is_huge_page(name)
        || name
            .strip_prefix(REQUESTS)
            .is_some_and(|rest| rest.starts_with(HUGE_PAGES))
}

#[must_use]
pub fn is_standard_of_containers(name: &str) -> bool {
    OF_CONTAINERS.contains(&name) || is_huge_page(name)
}

/// A resource of Kubernetes itself.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that a plugin counts: it cannot be overcommitted.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with(REQUESTS)
        && names::label_key_problems(&format!("{REQUESTS}{name}")).is_empty()
}

#[must_use]
pub fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A resource that comes in whole pieces.
#[must_use]
pub fn is_integer(name: &str) -> bool {
    COUNTS.contains(&name) || is_extended(name)
}

/// A resource that a pod may ask for as a whole (KEP-2837).
#[must_use]
pub fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// Whether an amount of huge pages is one of whole pages.
#[must_use]
pub fn is_whole_pages(name: &str, amount: Quantity) -> bool {
    let size = name.strip_prefix(HUGE_PAGES).map(str::parse::<Quantity>);
    match size {
        Some(Ok(size)) if size.signum() > 0 && size.milli_value() % 1000 == 0 => {
            amount.value() % size.value() == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_a_resource_is() {
        for (name, native, extended, integer) in [
            ("cpu", true, false, false),
            ("pods", true, false, true),
            ("example.com/gpu", false, true, true),
            ("kubernetes.io/x", true, false, false),
            ("sub.kubernetes.io/x", true, false, false),
            ("requests.example.com/x", false, false, false),
        ] {
            assert_eq!(is_native(name), native, "{name}");
            assert_eq!(is_extended(name), extended, "{name}");
            assert_eq!(is_integer(name), integer, "{name}");
        }
        assert!(is_standard("requests.hugepages-2Mi") && !is_standard("gpu"));
        assert!(!is_standard_of_containers("storage"));
    }

    #[test]
    fn huge_pages_come_whole() {
        let whole = |name, text: &str| is_whole_pages(name, text.parse().unwrap());
        assert!(whole("hugepages-2Mi", "4Mi") && whole("hugepages-1Gi", "0"));
        assert!(!whole("hugepages-2Mi", "3Mi") && !whole("hugepages-", "1"));
        assert!(!whole("hugepages-0", "1") && !whole("hugepages-2mi", "1"));
    }
}
