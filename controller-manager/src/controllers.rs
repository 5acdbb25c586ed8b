//! The table of controllers, and which of them a command line asks for.
//!
//! One row per controller of upstream's; a row without a start function is one that is missing. Order is the order of the start:
//! the one that mints tokens for the others comes first.

use component::features::Features;

use crate::context::Context;
use crate::{
    attach_detach, bootstrap, certificates, cron_job, daemon_set, deployment, disruption,
    endpoints, endpointslice, endpointslice_mirroring, ephemeral_volume, expand, gc, job,
    legacy_token_cleaner, names, namespace, node_ipam, node_lifecycle, pod_autoscaler, pod_gc,
    policy_status, protection, replicas, resource_claim, resource_quota, role_aggregation, root_ca,
    service_account_tokens, service_accounts, service_cidr, stateful_set, storage_version_migrator,
    taint_eviction, ttl, ttl_after_finished, volume_attributes_class, volume_binder,
};

/// A controller as the manager sees it.
pub struct Entry {
    pub name: &'static str,
    /// The service account in kube-system that it acts as, if it has one of its own; its role is bound to that name.
    pub account: &'static str,
    /// Names that `--controllers` takes besides.
    pub aliases: &'static [&'static str],
    /// Whether `*` stands for it.
    pub default: bool,
    /// Feature gates that must all be on.
    pub gates: &'static [&'static str],
    pub start: Start,
}

/// How a controller begins.
#[derive(Clone, Copy)]
pub enum Start {
    /// Asks for informers, starts tasks, returns; an error ends the process.
    Run(fn(&Context) -> anyhow::Result<()>),
    /// It is not written yet.
    Missing,
}

use Start::{Missing, Run};

const fn on(
    name: &'static str,
    account: &'static str,
    aliases: &'static [&'static str],
    start: Start,
) -> Entry {
    Entry {
        name,
        account,
        aliases,
        default: true,
        gates: &[],
        start,
    }
}

impl Entry {
    const fn off(mut self) -> Self {
        self.default = false;
        self
    }

    const fn gated(mut self, gates: &'static [&'static str]) -> Self {
        self.gates = gates;
        self
    }
}

/// All controllers. Sources: `cmd/kube-controller-manager/app/*.go`.
#[rustfmt::skip]
pub const CONTROLLERS: &[Entry] = &[
    on(names::SERVICE_ACCOUNT_TOKEN, "tokens-controller", &["serviceaccount-token"], Run(service_account_tokens::start)),
    on(names::SERVICE_ACCOUNT, "service-account-controller", &["serviceaccount"], Run(service_accounts::start)),
    on(names::ROOT_CA_PUBLISHER, "root-ca-cert-publisher", &["root-ca-cert-publisher"], Run(root_ca::start)),
    on(names::NAMESPACE, "namespace-controller", &["namespace"], Run(namespace::start)),
    on(names::GARBAGE_COLLECTOR, "generic-garbage-collector", &["garbagecollector"], Run(gc::start)),
    on(names::POD_GARBAGE_COLLECTOR, "pod-garbage-collector", &["podgc"], Run(pod_gc::start)),
    on(names::RESOURCE_QUOTA, "resourcequota-controller", &["resourcequota"], Run(resource_quota::start)),

    on(names::DEPLOYMENT, "deployment-controller", &["deployment"], Run(deployment::start)),
    on(names::REPLICA_SET, "replicaset-controller", &["replicaset"], Run(replicas::start_replica_sets)),
    on(names::REPLICATION_CONTROLLER, "replication-controller", &["replicationcontroller"], Run(replicas::start_replication_controllers)),
    on(names::DAEMON_SET, "daemon-set-controller", &["daemonset"], Run(daemon_set::start)),
    on(names::STATEFUL_SET, "statefulset-controller", &["statefulset"], Run(stateful_set::start)),
    on(names::JOB, "job-controller", &["job"], Run(job::start)),
    on(names::CRON_JOB, "cronjob-controller", &["cronjob"], Run(cron_job::start)),
    on(names::HORIZONTAL_POD_AUTOSCALER, "horizontal-pod-autoscaler", &["horizontalpodautoscaling"], Run(pod_autoscaler::start)),
    on(names::DISRUPTION, "disruption-controller", &["disruption"], Run(disruption::start)),
    on(names::TTL_AFTER_FINISHED, "ttl-after-finished-controller", &["ttl-after-finished"], Run(ttl_after_finished::start)),
    on(names::POD_GROUP_PROTECTION, "podgroup-protection-controller", &[], Missing).gated(&["GenericWorkload"]),

    on(names::ENDPOINTS, "endpoint-controller", &["endpoint"], Run(endpoints::start)),
    on(names::ENDPOINT_SLICE, "endpointslice-controller", &["endpointslice"], Run(endpointslice::start)),
    on(names::ENDPOINT_SLICE_MIRRORING, "endpointslicemirroring-controller", &["endpointslicemirroring"], Run(endpointslice_mirroring::start)),
    on(names::SERVICE_CIDR, "service-cidrs-controller", &[], Run(service_cidr::start)).gated(&["MultiCIDRServiceAllocator"]),

    on(names::NODE_IPAM, "node-controller", &["nodeipam"], Run(node_ipam::start)),
    on(names::NODE_LIFECYCLE, "node-controller", &["nodelifecycle"], Run(node_lifecycle::start)),
    on(names::TAINT_EVICTION, "node-controller", &[], Run(taint_eviction::start)).gated(&["SeparateTaintEvictionController"]),
    on(names::TTL, "ttl-controller", &["ttl"], Run(ttl::start)),
    on(names::DEVICE_TAINT_EVICTION, "device-taint-eviction-controller", &[], Missing).gated(&["DynamicResourceAllocation", "DRADeviceTaints"]),
    on(names::RESOURCE_CLAIM, "resource-claim-controller", &["resource-claim-controller"], Run(resource_claim::start)).gated(&["DynamicResourceAllocation"]),
    on(names::RESOURCE_POOL_STATUS_REQUEST, "resourcepoolstatusrequest-controller", &[], Missing).gated(&["DRAResourcePoolStatus"]),

    on(names::PERSISTENT_VOLUME_BINDER, "persistent-volume-binder", &["persistentvolume-binder"], Run(volume_binder::start)),
    on(names::ATTACH_DETACH, "attachdetach-controller", &["attachdetach"], Run(attach_detach::start)),
    on(names::PERSISTENT_VOLUME_EXPANDER, "expand-controller", &["persistentvolume-expander"], Run(expand::start)),
    on(names::PERSISTENT_VOLUME_CLAIM_PROTECTION, "pvc-protection-controller", &["pvc-protection"], Run(protection::start_claims)),
    on(names::PERSISTENT_VOLUME_PROTECTION, "pv-protection-controller", &["pv-protection"], Run(protection::start_volumes)),
    on(names::VOLUME_ATTRIBUTES_CLASS_PROTECTION, "volumeattributesclass-protection-controller", &[], Run(volume_attributes_class::start)).gated(&["VolumeAttributesClass"]),
    on(names::EPHEMERAL_VOLUME, "ephemeral-volume-controller", &["ephemeral-volume"], Run(ephemeral_volume::start)),
    on(names::SELINUX_WARNING, "selinux-warning-controller", &[], Missing).off().gated(&["SELinuxChangePolicy"]),

    on(names::CERTIFICATE_SIGNING, "certificate-controller", &["csrsigning"], Run(certificates::sign::start)),
    on(names::CERTIFICATE_APPROVING, "certificate-controller", &["csrapproving"], Run(certificates::approve::start)),
    on(names::CERTIFICATE_CLEANER, "certificate-controller", &["csrcleaner"], Run(certificates::clean::start)),
    on(names::POD_CERTIFICATE_CLEANER, "podcertificaterequestcleaner", &[], Run(certificates::clean::start_pods)).gated(&["PodCertificateRequest"]),
    on(names::TRUST_BUNDLE_PUBLISHER, "kube-apiserver-serving-clustertrustbundle-publisher", &[], Run(root_ca::start_bundle)).gated(&["ClusterTrustBundle"]),
    on(names::BOOTSTRAP_SIGNER, "bootstrap-signer", &["bootstrapsigner"], Run(bootstrap::start_signer)).off(),
    on(names::TOKEN_CLEANER, "token-cleaner", &["tokencleaner"], Run(bootstrap::start_cleaner)).off(),
    on(names::LEGACY_TOKEN_CLEANER, "legacy-service-account-token-cleaner", &["legacy-service-account-token-cleaner"], Run(legacy_token_cleaner::start)),

    on(names::CLUSTER_ROLE_AGGREGATION, "clusterrole-aggregation-controller", &["clusterrole-aggregation"], Run(role_aggregation::start)),
    on(names::ADMISSION_POLICY_STATUS, "validatingadmissionpolicy-status-controller", &[], Run(policy_status::start)),
    on(names::STORAGE_VERSION_GARBAGE_COLLECTOR, "storage-version-garbage-collector", &["storage-version-gc"], Missing)
        .gated(&["APIServerIdentity", "StorageVersionAPI"]),
    on(names::STORAGE_VERSION_MIGRATOR, "storage-version-migrator-controller", &["svm"], Run(storage_version_migrator::start)).gated(&["StorageVersionMigrator"]),
];

/// What `--controllers` says, with canonical names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice(Vec<String>);

/// A name in `--controllers` that no controller has.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
#[error("{0:?} is not in the list of known controllers")]
pub struct Unknown(String);

impl Choice {
    /// Reads the items of `--controllers`: `*`, `name`, `-name`; aliases stand for their names.
    ///
    /// # Errors
    /// All names that are not known.
    pub fn new(items: &[String]) -> Result<Self, Vec<Unknown>> {
        let mut canonical = Vec::new();
        let mut unknown = Vec::new();
        for item in items {
            let (minus, name) = match item.strip_prefix('-') {
                Some(name) => ("-", name),
                None => ("", item.as_str()),
            };
            if item == "*" {
                canonical.push(item.clone());
            } else if let Some(entry) = find(name) {
                canonical.push(format!("{minus}{}", entry.name));
            } else {
                unknown.push(Unknown(name.to_owned()));
            }
        }
        if unknown.is_empty() {
            Ok(Self(canonical))
        } else {
            Err(unknown)
        }
    }

    /// Asks for no controller.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether it asks for this controller. The first item that names it decides.
    #[must_use]
    pub fn asks_for(&self, entry: &Entry) -> bool {
        for item in &self.0 {
            if item == entry.name {
                return true;
            }
            if item.strip_prefix('-') == Some(entry.name) {
                return false;
            }
        }
        entry.default && self.0.iter().any(|item| item == "*")
    }

    /// The items.
    #[must_use]
    pub fn items(&self) -> &[String] {
        &self.0
    }
}

/// The controller of a name or alias.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    CONTROLLERS
        .iter()
        .find(|e| e.name == name || e.aliases.contains(&name))
}

/// A gate of the entry that is off, if any.
#[must_use]
pub fn gate_off(entry: &Entry, features: &Features) -> Option<&'static str> {
    entry.gates.iter().copied().find(|g| !features.enabled(g))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn choice(items: &[&str]) -> Choice {
        let items: Vec<String> = items.iter().map(|i| (*i).to_owned()).collect();
        Choice::new(&items).unwrap()
    }

    fn entry(name: &str) -> &'static Entry {
        find(name).unwrap()
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let mut seen = BTreeSet::new();
        for entry in CONTROLLERS {
            assert!(seen.insert(entry.name), "{}", entry.name);
            for alias in entry.aliases {
                assert!(seen.insert(alias), "{alias}");
            }
        }
    }

    #[test]
    fn every_gate_exists() {
        for gate in CONTROLLERS.iter().flat_map(|e| e.gates) {
            assert!(
                proto::catalogue::gates().iter().any(|g| g.name == *gate),
                "{gate}"
            );
        }
    }

    #[test]
    fn a_star_asks_for_what_is_on_by_default() {
        let star = choice(&["*"]);
        assert!(star.asks_for(entry(names::DEPLOYMENT)));
        assert!(!star.asks_for(entry(names::TOKEN_CLEANER)));
        assert!(choice(&["*", "tokencleaner"]).asks_for(entry(names::TOKEN_CLEANER)));
        assert!(!choice(&["*", "-deployment"]).asks_for(entry(names::DEPLOYMENT)));
        assert!(!choice(&["job"]).asks_for(entry(names::DEPLOYMENT)));
        assert!(!choice(&[]).asks_for(entry(names::DEPLOYMENT)));
    }

    #[test]
    fn the_first_item_that_names_a_controller_wins() {
        assert!(!choice(&["-job", "job", "*"]).asks_for(entry(names::JOB)));
        assert!(choice(&["job", "-job"]).asks_for(entry(names::JOB)));
    }

    #[test]
    fn unknown_names_are_refused() {
        let items = ["*", "-nonsense"].map(str::to_owned);
        assert_eq!(
            Choice::new(&items),
            Err(vec![Unknown("nonsense".to_owned())])
        );
    }
}
