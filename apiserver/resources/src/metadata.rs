//! Metadata as the kinds' own rules check it, besides what the generic registry checks of all.
//!
//! Nearly every validation of upstream begins with `ValidateObjectMeta` of `pkg/apis/core/validation`:
//! the name by the kind's rule, then the metadata, then the finalizers by a stricter rule. Here are the
//! kinds that do otherwise, and those whose updates check the whole new object again.

use proto::Value;
use proto::catalogue::{Resource, names as n};
use proto::meta;
use proto::path::{Errors, Spot};

use super::strategy::Strategy;

/// What a kind's own rules check.
#[derive(Clone, Copy, PartialEq)]
enum Own {
    /// Nothing: only the generic registry does, after all else was found right.
    Nothing,
    /// As `apimachinery` has it.
    Plain,
    /// With the rule that finalizers have a domain.
    Full,
}

/// Of the kinds that are not like most: what is checked, and whether updates check the name again.
static KINDS: &[(&str, &str, Own, bool)] = &[
    ("", "configmaps", Own::Full, true),
    ("", "endpoints", Own::Full, true),
    ("", "events", Own::Nothing, false),
    ("", "limitranges", Own::Full, true),
    ("", "namespaces", Own::Full, true),
    ("", "nodes", Own::Full, true),
    ("", "persistentvolumeclaims", Own::Full, true),
    ("", "persistentvolumes", Own::Full, true),
    ("", "pods", Own::Full, true),
    ("", "secrets", Own::Full, true),
    ("", "serviceaccounts", Own::Full, true),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies",
        Own::Plain,
        true,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
        Own::Plain,
        true,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        Own::Plain,
        true,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        Own::Plain,
        true,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        Own::Plain,
        true,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        Own::Plain,
        true,
    ),
    ("apps", "controllerrevisions", Own::Full, true),
    (
        "certificates.k8s.io",
        "clustertrustbundles",
        Own::Nothing,
        false,
    ),
    ("coordination.k8s.io", "leases", Own::Plain, false),
    ("discovery.k8s.io", "endpointslices", Own::Full, true),
    ("events.k8s.io", "events", Own::Nothing, false),
    (
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        Own::Full,
        true,
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        Own::Full,
        true,
    ),
    ("networking.k8s.io", "ingresses", Own::Full, true),
    ("networking.k8s.io", "ipaddresses", Own::Full, true),
    ("node.k8s.io", "runtimeclasses", Own::Plain, true),
    ("policy", "poddisruptionbudgets", Own::Nothing, false),
    ("resource.k8s.io", "resourceclaims", Own::Full, true),
    ("resource.k8s.io", "resourceclaimtemplates", Own::Full, true),
    ("storage.k8s.io", "csistoragecapacities", Own::Full, true),
    ("storage.k8s.io", "storageclasses", Own::Full, true),
    ("storage.k8s.io", "volumeattachments", Own::Full, true),
    (
        "storagemigration.k8s.io",
        "storageversionmigrations",
        Own::Full,
        true,
    ),
];

fn of(resource: &Resource) -> (Own, bool) {
    let key = (resource.group, resource.name);
    match KINDS.binary_search_by(|(group, name, ..)| (*group, *name).cmp(&key)) {
        Ok(i) => (KINDS[i].2, KINDS[i].3),
        Err(_) => (Own::Full, false),
    }
}

/// What a kind checks of a new object before everything else.
pub fn created(resource: &Resource, strategy: &Strategy, object: &Value, errors: &mut Errors<'_>) {
    let (own, _) = of(resource);
    if own != Own::Nothing {
        // Where declarative rules find the same, theirs counts.
        let name = strategy.name;
        errors.covered(|e| meta::validate_object_meta(object, resource.namespaced, name, e));
    }
    if own == Own::Full {
        finalizers(object, errors);
    }
}

/// What a kind checks of a changed object, or of a part of one, before everything else.
pub fn updated(
    resource: &Resource,
    strategy: &Strategy,
    part: bool,
    object: &Value,
    errors: &mut Errors<'_>,
) {
    let (own, again) = of(resource);
    if own == Own::Full {
        finalizers(object, errors);
    }
    if again && !part {
        meta::validate_object_meta(object, resource.namespaced, strategy.name, errors);
    }
}

/// Upstream's `validateKubeFinalizerName`: finalizers without a domain are Kubernetes' own.
pub fn finalizers(object: &Value, errors: &mut Errors<'_>) {
    let own = |f: &str| {
        f == "kubernetes" || f == meta::FINALIZER_ORPHAN || f == meta::FINALIZER_FOREGROUND
    };
    let path = [n::METADATA, n::FINALIZERS];
    let items = object.at(&path).and_then(Value::as_list);
    for item in items.unwrap_or_default() {
        let text = item.as_str().unwrap_or_default();
        if !text.contains('/') && !own(text) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(Spot::node(item), text, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies;

    fn resource(name: &str) -> &'static Resource {
        let mut all = proto::catalogue::resources().iter();
        all.find(|r| r.name == name && r.group.is_empty()).unwrap()
    }

    fn found(name: &str, finalizer: &str) -> Vec<String> {
        let mut object = Value::object();
        meta::set(&mut object, n::NAME, "UPPER");
        meta::set(&mut object, n::NAMESPACE, "default");
        object.set(&[n::METADATA, n::FINALIZERS], vec![finalizer]);
        let resource = resource(name);
        let mut errors = Errors::new(&object);
        created(resource, strategies::of(resource), &object, &mut errors);
        errors.into_vec().into_iter().map(|e| e.field).collect()
    }

    #[test]
    fn most_kinds_check_name_and_finalizers_first() {
        let both = ["metadata.name", "metadata.finalizers[0]"];
        assert_eq!(found("configmaps", "mine"), both);
        assert_eq!(found("configmaps", "kubernetes"), both[..1]);
        assert_eq!(found("configmaps", "example.com/mine"), both[..1]);
        assert!(found("events", "mine").is_empty());
    }

    #[test]
    fn the_table_is_sorted_and_names_resources_that_exist() {
        assert!(KINDS.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (group, name, ..) in KINDS {
            let mut all = proto::catalogue::resources().iter();
            assert!(all.any(|r| r.group == *group && r.name == *name), "{name}");
        }
    }
}
