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
    /// As `Full`, and nothing where a part is written.
    OfWhole,
    /// As `Full`, and nothing of an object that there is.
    OfNew,
}

/// Whether an update checks the new object's name and metadata as if it were created, and whether that is
/// before the rule of finalizers or after it. Config maps and secrets do so after what must not change.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    Never,
    First,
    Last,
}

/// Of the kinds that are not like most, what is checked.
static KINDS: &[(&str, &str, Own, Again)] = &[
    ("", "endpoints", Own::Full, Again::Last),
    ("", "events", Own::Nothing, Again::Never),
    ("", "limitranges", Own::Full, Again::First),
    ("", "namespaces", Own::Full, Again::First),
    ("", "nodes", Own::Full, Again::First),
    ("", "persistentvolumeclaims", Own::Full, Again::Last),
    ("", "persistentvolumes", Own::Full, Again::First),
    ("", "pods", Own::Full, Again::Last),
    ("", "serviceaccounts", Own::Full, Again::Last),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies",
        Own::Plain,
        Again::Last,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
        Own::Plain,
        Again::Last,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        Own::Plain,
        Again::Last,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        Own::Plain,
        Again::Last,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        Own::Plain,
        Again::Last,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        Own::Plain,
        Again::Last,
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        Own::Plain,
        Again::Never,
    ),
    ("apps", "controllerrevisions", Own::Full, Again::Last),
    ("apps", "statefulsets", Own::OfWhole, Again::Never),
    ("batch", "cronjobs", Own::OfWhole, Again::Never),
    (
        "certificates.k8s.io",
        "clustertrustbundles",
        Own::Nothing,
        Again::Never,
    ),
    (
        "coordination.k8s.io",
        "leasecandidates",
        Own::Plain,
        Again::Never,
    ),
    ("coordination.k8s.io", "leases", Own::Plain, Again::Never),
    (
        "discovery.k8s.io",
        "endpointslices",
        Own::Full,
        Again::First,
    ),
    ("events.k8s.io", "events", Own::Nothing, Again::Never),
    (
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        Own::Full,
        Again::First,
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        Own::Full,
        Again::First,
    ),
    (
        "internal.apiserver.k8s.io",
        "storageversions",
        Own::OfNew,
        Again::Never,
    ),
    ("networking.k8s.io", "ingresses", Own::Full, Again::Last),
    ("networking.k8s.io", "ipaddresses", Own::Full, Again::First),
    ("node.k8s.io", "runtimeclasses", Own::Plain, Again::Last),
    ("policy", "poddisruptionbudgets", Own::Nothing, Again::Never),
    ("resource.k8s.io", "resourceclaims", Own::Full, Again::First),
    (
        "resource.k8s.io",
        "resourceclaimtemplates",
        Own::Full,
        Again::First,
    ),
    ("storage.k8s.io", "csinodes", Own::Full, Again::First),
    (
        "storage.k8s.io",
        "csistoragecapacities",
        Own::Full,
        Again::First,
    ),
    ("storage.k8s.io", "storageclasses", Own::Full, Again::First),
    (
        "storage.k8s.io",
        "volumeattachments",
        Own::Full,
        Again::First,
    ),
    (
        "storagemigration.k8s.io",
        "storageversionmigrations",
        Own::Full,
        Again::First,
    ),
];

fn of(resource: &Resource) -> (Own, Again) {
    let key = (resource.group, resource.name);
    match KINDS.binary_search_by(|(group, name, ..)| (*group, *name).cmp(&key)) {
        Ok(i) => (KINDS[i].2, KINDS[i].3),
        Err(_) => (Own::Full, Again::Never),
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
    if matches!(own, Own::Full | Own::OfWhole | Own::OfNew) {
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
    let again_at = |when| again == when && !part;
    if again_at(Again::First) {
        meta::validate_object_meta(object, resource.namespaced, strategy.name, errors);
    }
    if own == Own::Full || own == Own::OfWhole && !part {
        finalizers(object, errors);
    }
    if again_at(Again::Last) {
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
