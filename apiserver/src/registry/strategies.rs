//! The strategies of all resources, by group and name.
//!
//! One file per resource, or per family of small ones. What is not in the table is served by the plain
//! strategies below, as its subresources say.

use proto::catalogue::Resource;

use super::strategy::Strategy;

pub mod apps;
pub mod batch;
pub mod certificates;
pub mod config;
pub mod coordination;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod networking;
pub mod node;
pub mod pod;
pub mod pod_spec;
pub mod rbac;
pub mod scheduling;
pub mod service;

/// Resources without a strategy of their own.
static PLAIN: Strategy = Strategy::DEFAULT;
static WITH_STATUS: Strategy = Strategy::WITH_STATUS;

/// Group, resource, strategy. Versions of one resource share it.
static TABLE: &[(&str, &str, &Strategy)] = &[
    ("", "configmaps", &config::CONFIG_MAP),
    ("", "endpoints", &endpoints::ENDPOINTS),
    ("", "events", &event::EVENT),
    ("", "namespaces", &namespace::NAMESPACE),
    ("", "nodes", &node::NODE),
    ("", "pods", &pod::POD),
    ("", "secrets", &config::SECRET),
    ("", "serviceaccounts", &config::SERVICE_ACCOUNT),
    ("", "services", &service::SERVICE),
    ("apps", "daemonsets", &apps::DAEMON_SET),
    ("apps", "deployments", &apps::DEPLOYMENT),
    ("apps", "replicasets", &apps::REPLICA_SET),
    ("apps", "statefulsets", &apps::STATEFUL_SET),
    ("batch", "cronjobs", &batch::CRON_JOB),
    ("batch", "jobs", &batch::JOB),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        &certificates::REQUEST,
    ),
    (
        "certificates.k8s.io",
        "clustertrustbundles",
        &certificates::TRUST_BUNDLE,
    ),
    (
        "coordination.k8s.io",
        "leasecandidates",
        &coordination::LEASE_CANDIDATE,
    ),
    ("coordination.k8s.io", "leases", &coordination::LEASE),
    (
        "discovery.k8s.io",
        "endpointslices",
        &endpoints::ENDPOINT_SLICE,
    ),
    ("events.k8s.io", "events", &event::EVENT),
    ("networking.k8s.io", "ipaddresses", &networking::IP_ADDRESS),
    (
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        &rbac::CLUSTER_ROLE_BINDING,
    ),
    (
        "rbac.authorization.k8s.io",
        "clusterroles",
        &rbac::CLUSTER_ROLE,
    ),
    (
        "rbac.authorization.k8s.io",
        "rolebindings",
        &rbac::ROLE_BINDING,
    ),
    ("rbac.authorization.k8s.io", "roles", &rbac::ROLE),
    (
        "scheduling.k8s.io",
        "priorityclasses",
        &scheduling::PRIORITY_CLASS,
    ),
];

/// The strategy of a resource.
#[must_use]
pub fn of(resource: &Resource) -> &'static Strategy {
    match TABLE.binary_search_by(|(g, r, _)| (*g, *r).cmp(&(resource.group, resource.name))) {
        Ok(i) => TABLE[i].2,
        Err(_) if resource.subresource("status").is_some() => &WITH_STATUS,
        Err(_) => &PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use proto::Value;

    use super::*;

    #[test]
    fn every_row_has_a_cell_per_column() {
        for resource in proto::catalogue::resources() {
            if let Some(cells) = of(resource).cells {
                let (have, want) = (
                    cells(&Value::object(), 0).len(),
                    crate::table::columns(resource).len(),
                );
                assert_eq!(have, want, "{}/{}", resource.group, resource.name);
            }
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_resources_that_exist() {
        assert!(TABLE.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (group, name, _) in TABLE {
            let known = proto::catalogue::resources()
                .iter()
                .any(|r| r.group == *group && r.name == *name);
            assert!(known, "{group}/{name}");
        }
    }
}
