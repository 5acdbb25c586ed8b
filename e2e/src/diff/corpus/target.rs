//! Where an object of a case lies, and what all cases about objects have in common.

use serde_json::{Value, json};

use super::super::case::{Body, Case, JSON, MERGE, Namespace, Phase, Step, name};
use super::super::resource::Resource;
use super::source::Seed;

/// What changes how other requests are answered, by group or resource.
const FAR_REACHING: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "clusterrolebindings",
    "flowcontrol.apiserver.k8s.io",
    "ingressclasses",
    "priorityclasses",
    "servicecidrs",
    "storageclasses",
];

/// An object of one case.
pub(super) struct Target<'a> {
    pub resource: &'a Resource,
    pub object: &'a Value,
    /// Where it is created and listed.
    pub collection: String,
    pub item: String,
    /// Selects it in a list of the collection, which has others too if it is of no namespace.
    pub only: String,
}

impl<'a> Target<'a> {
    pub(super) fn new(seed: &'a Seed) -> Self {
        let collection = seed.resource.path(Some("${ns}"));
        let name = name(&seed.object);
        Self {
            resource: &seed.resource,
            object: &seed.object,
            item: format!("{collection}/{}", encoded(name)),
            only: format!("fieldSelector=metadata.name%3D{}", encoded(name)),
            collection,
        }
    }

    /// A case about this object.
    pub(super) fn case(&self, name: impl Into<String>, steps: Vec<Step>) -> Case {
        case(self.resource, name, steps)
    }

    pub(super) fn create(&self) -> Step {
        Step::new("POST", &self.collection, "create")
            .body(JSON, self.object)
            .label("made")
    }

    /// Takes the object away, whatever holds it.
    pub(super) fn remove(&self) -> Vec<Step> {
        let no_finalizers = json!({"metadata": {"finalizers": null}});
        let at_once = json!({"gracePeriodSeconds": 0});
        let delete = || {
            Step::new("DELETE", &self.item, "delete")
                .body(JSON, &at_once)
                .cleanup()
        };
        let free = Step::new("PATCH", &self.item, "remove finalizers");
        let mut all = vec![
            free.body(MERGE, &no_finalizers).cleanup(),
            delete(),
            delete(),
        ];
        if self.resource.kind == "Namespace" {
            let ending = Step::get(&self.item, "read what ends").label("ending");
            let none = Body::Answer(
                "ending".to_owned(),
                Some(json!({"spec": {"finalizers": []}})),
            );
            let finalize = Step::new("PUT", format!("{}/finalize", self.item), "finalize");
            all.extend([ending.cleanup(), finalize.with(JSON, none).cleanup()]);
        }
        all
    }
}

/// The kind, with its version: what differences are counted under.
pub(super) fn area(resource: &Resource) -> String {
    format!("{} {}", resource.version, resource.kind)
}

/// A case about objects of a resource.
pub(super) fn case(resource: &Resource, name: impl Into<String>, steps: Vec<Step>) -> Case {
    let far = |what: &&str| *what == resource.group() || *what == resource.name;
    let far = FAR_REACHING.iter().any(far);
    Case {
        name: format!("{} {}: {}", resource.version, resource.name, name.into()),
        area: area(resource),
        by_hand: false,
        refused: false,
        phase: if far { Phase::Alone } else { Phase::Beside },
        namespace: if resource.namespaced {
            Namespace::Own
        } else {
            Namespace::Shared
        },
        // Objects of no namespace have one name in all cases.
        lane: (!resource.namespaced).then(|| resource.name.clone()),
        steps,
    }
}

/// A part of a path or of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~${}".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
