//! What a namespace's conditions say while it goes. Pure.
//!
//! Source: `pkg/controller/namespace/deletion/status_condition_utils.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::discovery::Resource;

/// A condition's type, its reason and message when all is well, and its reason when it is not.
const CONDITIONS: [(&str, &str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
        "DiscoveryFailed",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
        "GroupVersionParsingFailed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
        "ContentDeletionFailed",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
        "SomeResourcesRemain",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
        "SomeFinalizersRemain",
    ),
];

/// What one look at a namespace found.
#[derive(Default, Debug)]
pub(super) struct Findings {
    /// Why not all resources are known.
    pub discovery: Option<String>,
    /// Why content could not be deleted.
    pub failures: Vec<String>,
    items: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Findings {
    /// Groups whose servers do not answer.
    pub(super) fn stale(&mut self, groups: &[String]) {
        if !groups.is_empty() {
            let list: Vec<String> = groups
                .iter()
                .map(|g| format!("{g}: stale GroupVersion discovery: {g}"))
                .collect();
            self.discovery = Some(format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                groups.len(),
                list.join(", ")
            ));
        }
    }

    /// What is left of a resource.
    pub(super) fn left(&mut self, resource: &Resource, items: usize, finalizers: Vec<String>) {
        if items > 0 {
            let (group, name) = resource.group_resource();
            self.items.insert(format!("{name}.{group}"), items);
        }
        for finalizer in finalizers {
            *self.finalizers.entry(finalizer).or_default() += 1;
        }
    }

    pub(super) fn anything_left(&self) -> bool {
        !self.items.is_empty()
    }

    /// Why the namespace cannot go, whatever is left in it.
    pub(super) fn failed(&self) -> Option<String> {
        self.discovery.clone().or_else(|| self.content_failure())
    }

    fn content_failure(&self) -> Option<String> {
        let mut all = self.failures.clone();
        all.sort();
        (!all.is_empty()).then(|| {
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                all.len(),
                all.join(", ")
            )
        })
    }

    fn remaining(&self) -> Option<String> {
        let each = self
            .items
            .iter()
            .map(|(what, n)| format!("{what} has {n} resource instances"));
        let list: Vec<_> = each.collect();
        (!list.is_empty()).then(|| format!("Some resources are remaining: {}", list.join(", ")))
    }

    fn finalizers_remaining(&self) -> Option<String> {
        let each = self
            .finalizers
            .iter()
            .map(|(what, n)| format!("{what} in {n} resource instances"));
        let list: Vec<_> = each.collect();
        (!list.is_empty()).then(|| {
            format!(
                "Some content in the namespace has finalizers remaining: {}",
                list.join(", ")
            )
        })
    }

    /// Brings the conditions up to date; times change with the status alone.
    pub(super) fn tell(&self, status: &mut NamespaceStatus, now: Timestamp) {
        let found = [
            self.discovery.clone(),
            None,
            self.content_failure(),
            self.remaining(),
            self.finalizers_remaining(),
        ];
        let conditions = status.conditions.get_or_insert_default();
        for ((kind, ok_reason, ok_message, bad_reason), found) in CONDITIONS.into_iter().zip(found)
        {
            let new = NamespaceCondition {
                type_: kind.to_owned(),
                status: if found.is_some() { "True" } else { "False" }.to_owned(),
                reason: Some(
                    if found.is_some() {
                        bad_reason
                    } else {
                        ok_reason
                    }
                    .to_owned(),
                ),
                message: Some(found.unwrap_or_else(|| ok_message.to_owned())),
                last_transition_time: Some(Time(now)),
            };
            match conditions.iter_mut().find(|c| c.type_ == kind) {
                None => conditions.push(new),
                Some(old) if old.status == new.status => {
                    old.reason = new.reason;
                    old.message = new.message;
                }
                Some(old) => *old = new,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use component::client::Target;

    fn told(findings: &Findings, status: &mut NamespaceStatus, at: i64) -> Vec<(String, String)> {
        findings.tell(status, Timestamp::from_second(at).unwrap());
        let all = status.conditions.as_ref().unwrap().iter();
        all.map(|c| (c.status.clone(), c.message.clone().unwrap_or_default()))
            .collect()
    }

    fn pods() -> Resource {
        Resource {
            target: Target::new("", "v1", "pods", "Pod"),
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    #[test]
    fn what_is_left_is_told_in_upstreams_words() {
        let mut findings = Findings::default();
        findings.left(&pods(), 2, vec!["a/b".to_owned(), "a/b".to_owned()]);
        let mut status = NamespaceStatus::default();
        let told = told(&findings, &mut status, 10);
        assert_eq!(told.len(), 5);
        let remaining = "Some resources are remaining: pods. has 2 resource instances";
        assert_eq!(told[3], ("True".to_owned(), remaining.to_owned()));
        let finalizers =
            "Some content in the namespace has finalizers remaining: a/b in 2 resource instances";
        assert_eq!(told[4], ("True".to_owned(), finalizers.to_owned()));
        assert_eq!(told[0].0, "False");
        assert!(findings.anything_left() && findings.failed().is_none());
    }

    #[test]
    fn times_change_with_the_status_only() {
        let mut status = NamespaceStatus::default();
        let mut findings = Findings::default();
        findings.left(&pods(), 2, Vec::new());
        told(&findings, &mut status, 10);
        let mut fewer = Findings::default();
        fewer.left(&pods(), 1, Vec::new());
        told(&fewer, &mut status, 20);
        let time = |s: &NamespaceStatus| {
            let condition = &s.conditions.as_ref().unwrap()[3];
            condition
                .last_transition_time
                .as_ref()
                .unwrap()
                .0
                .as_second()
        };
        assert_eq!(time(&status), 10);
        told(&Findings::default(), &mut status, 30);
        assert_eq!(time(&status), 30);
    }

    #[test]
    fn a_group_that_does_not_answer_holds_the_namespace() {
        let mut findings = Findings::default();
        findings.stale(&["metrics.k8s.io/v1beta1".to_owned()]);
        assert!(
            findings
                .failed()
                .unwrap()
                .starts_with("Discovery failed for some groups, 1 failing")
        );
    }
}
