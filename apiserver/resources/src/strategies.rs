//! The strategies of all resources, by group and name.
//!
//! One file per resource, or per family of small ones. What is not in the table is served by the plain
//! strategies below, as its subresources say.

use proto::catalogue::Resource;
use proto::{Value, meta};

use super::strategy::Strategy;

pub mod admission_registration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod config;
pub mod coordination;
pub mod custom_resource_definition;
pub mod endpoints;
pub mod event;
pub mod flowcontrol;
pub mod internal;
pub mod namespace;
pub mod networking;
pub mod node;
pub mod pod;
pub mod pod_spec;
pub mod policy;
pub mod quota;
pub mod rbac;
pub mod replication;
pub mod resource;
pub mod scheduling;
pub mod service;
pub mod storage;
pub mod volumes;

#[cfg(test)]
mod gates_tests;
#[cfg(test)]
mod testing;

/// Resources without a strategy of their own.
static PLAIN: Strategy = Strategy::DEFAULT;
static WITH_STATUS: Strategy = Strategy::WITH_STATUS;

/// Group, resource, strategy. Versions of one resource share it.
static TABLE: &[(&str, &str, &Strategy)] = &[
    ("", "configmaps", &config::CONFIG_MAP),
    ("", "endpoints", &endpoints::ENDPOINTS),
    ("", "events", &event::EVENT),
    ("", "limitranges", &quota::limits::LIMIT_RANGE),
    ("", "namespaces", &namespace::NAMESPACE),
    ("", "nodes", &node::NODE),
    (
        "",
        "persistentvolumeclaims",
        &volumes::PERSISTENT_VOLUME_CLAIM,
    ),
    ("", "persistentvolumes", &volumes::PERSISTENT_VOLUME),
    ("", "pods", &pod::POD),
    ("", "podtemplates", &replication::POD_TEMPLATE),
    (
        "",
        "replicationcontrollers",
        &replication::REPLICATION_CONTROLLER,
    ),
    ("", "resourcequotas", &quota::RESOURCE_QUOTA),
    ("", "secrets", &config::SECRET),
    ("", "serviceaccounts", &config::SERVICE_ACCOUNT),
    ("", "services", &service::SERVICE),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies",
        &admission_registration::MUTATING_POLICY,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
        &admission_registration::MUTATING_BINDING,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        &admission_registration::MUTATING_WEBHOOKS,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        &admission_registration::VALIDATING_POLICY,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        &admission_registration::VALIDATING_BINDING,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        &admission_registration::VALIDATING_WEBHOOKS,
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &custom_resource_definition::CUSTOM_RESOURCE_DEFINITION,
    ),
    (
        "apps",
        "controllerrevisions",
        &replication::CONTROLLER_REVISION,
    ),
    ("apps", "daemonsets", &apps::DAEMON_SET),
    ("apps", "deployments", &apps::DEPLOYMENT),
    ("apps", "replicasets", &apps::REPLICA_SET),
    ("apps", "statefulsets", &apps::STATEFUL_SET),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        &autoscaling::AUTOSCALER,
    ),
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
        "certificates.k8s.io",
        "podcertificaterequests",
        &certificates::POD_REQUEST,
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
    ("events.k8s.io", "events", &event::EVENT_V1),
    (
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        &flowcontrol::FLOW_SCHEMA,
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        &flowcontrol::PRIORITY_LEVEL,
    ),
    (
        "internal.apiserver.k8s.io",
        "storageversions",
        &internal::STORAGE_VERSION,
    ),
    (
        "lifecycle.k8s.io",
        "evictionrequests",
        &internal::EVICTION_REQUEST,
    ),
    ("lifecycle.k8s.io", "evictions", &internal::EVICTION),
    (
        "networking.k8s.io",
        "ingressclasses",
        &networking::INGRESS_CLASS,
    ),
    ("networking.k8s.io", "ingresses", &networking::INGRESS),
    ("networking.k8s.io", "ipaddresses", &networking::IP_ADDRESS),
    (
        "networking.k8s.io",
        "networkpolicies",
        &networking::NETWORK_POLICY,
    ),
    (
        "networking.k8s.io",
        "servicecidrs",
        &networking::SERVICE_CIDR,
    ),
    ("node.k8s.io", "runtimeclasses", &policy::RUNTIME_CLASS),
    ("policy", "poddisruptionbudgets", &policy::DISRUPTION_BUDGET),
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
    ("resource.k8s.io", "deviceclasses", &resource::DEVICE_CLASS),
    (
        "resource.k8s.io",
        "devicetaintrules",
        &resource::DEVICE_TAINT_RULE,
    ),
    (
        "resource.k8s.io",
        "resourceclaims",
        &resource::RESOURCE_CLAIM,
    ),
    (
        "resource.k8s.io",
        "resourceclaimtemplates",
        &resource::RESOURCE_CLAIM_TEMPLATE,
    ),
    (
        "resource.k8s.io",
        "resourcepoolstatusrequests",
        &resource::POOL_STATUS_REQUEST,
    ),
    (
        "resource.k8s.io",
        "resourceslices",
        &resource::RESOURCE_SLICE,
    ),
    (
        "scheduling.k8s.io",
        "compositepodgroups",
        &scheduling::COMPOSITE_POD_GROUP,
    ),
    ("scheduling.k8s.io", "podgroups", &scheduling::POD_GROUP),
    (
        "scheduling.k8s.io",
        "priorityclasses",
        &scheduling::PRIORITY_CLASS,
    ),
    ("scheduling.k8s.io", "workloads", &scheduling::WORKLOAD),
    ("storage.k8s.io", "csidrivers", &storage::CSI_DRIVER),
    ("storage.k8s.io", "csinodes", &storage::CSI_NODE),
    (
        "storage.k8s.io",
        "csistoragecapacities",
        &storage::CSI_STORAGE_CAPACITY,
    ),
    ("storage.k8s.io", "storageclasses", &storage::STORAGE_CLASS),
    (
        "storage.k8s.io",
        "volumeattachments",
        &storage::VOLUME_ATTACHMENT,
    ),
    (
        "storage.k8s.io",
        "volumeattributesclasses",
        &storage::VOLUME_ATTRIBUTES_CLASS,
    ),
    (
        "storagemigration.k8s.io",
        "storageversionmigrations",
        &internal::MIGRATION,
    ),
];

/// Of the classes that one of the annotations marks as default, the name of the newest; of several as
/// new, of the first by name.
#[must_use]
pub fn newest_default(classes: &[Value], annotations: &[&str]) -> Option<String> {
    let marked = |class: &&Value| {
        annotations
            .iter()
            .any(|a| meta::annotation(class, a) == Some("true"))
    };
    let age = |class: &&Value| {
        (
            std::cmp::Reverse(meta::creation_timestamp(class).to_owned()),
            meta::name(class).to_owned(),
        )
    };
    classes
        .iter()
        .filter(marked)
        .min_by_key(age)
        .map(|class| meta::name(class).to_owned())
}

/// A number of things, as a cell.
fn count(of: usize) -> Value {
    i64::try_from(of).unwrap_or(i64::MAX).into()
}

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
    use proto::catalogue::names as n;

    use super::*;

    #[test]
    fn the_newest_default_class_counts() {
        let class = |name: &str, created: &str, default: &str| {
            let mut class = Value::object();
            meta::set(&mut class, n::NAME, name);
            meta::set(&mut class, n::CREATION_TIMESTAMP, created);
            meta::set_annotation(&mut class, "default", default);
            class
        };
        let old = class("a", "2026-01-01T00:00:00Z", "true");
        let (new, twin) = (
            class("c", "2026-01-02T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
        );
        let other = class("d", "2026-01-03T00:00:00Z", "false");
        let newest = |classes: &[&Value]| {
            newest_default(
                &classes.iter().map(|c| (*c).clone()).collect::<Vec<_>>(),
                &["default"],
            )
        };
        assert_eq!(newest(&[&other]), None);
        assert_eq!(newest(&[&old, &new, &other]).as_deref(), Some("c"));
        assert_eq!(newest(&[&old, &new, &twin]).as_deref(), Some("b"));
    }

    #[test]
    fn every_row_has_a_cell_per_column() {
        for resource in proto::catalogue::resources() {
            if let Some(cells) = of(resource).cells {
                let have = cells(&Value::object(), 0).len();
                // Upstream's printer gives IP addresses an age that no column is for.
                let more = usize::from(resource.name == "ipaddresses");
                let want = crate::table::columns(resource).len() + more;
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
