//! What preemption has to know: disruption budgets, and the preemptions that are under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::pod::PodInfo;
use crate::selector::Selector;

/// How many pods of a kind may be disrupted now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    namespace: String,
    selector: Selector,
    /// Pods that are counted as disrupted already.
    disrupted: BTreeSet<String>,
    allowed: i32,
}

impl Budget {
    #[must_use]
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let (spec, status) = (budget.spec.as_ref(), budget.status.as_ref());
        let disrupted = status.and_then(|s| s.disrupted_pods.as_ref());
        Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selector: Selector::of(spec.and_then(|s| s.selector.as_ref())),
            disrupted: disrupted
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
            allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
        }
    }

    /// Whether it speaks of a pod. Unlike for evictions, an empty selector speaks of none here.
    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace()
            && !self.selector.is_everything()
            && self.selector.matches(&pod.labels)
            && !self.disrupted.contains(pod.key.name())
    }
}

/// Budgets that are used up pod by pod, in thought.
pub struct Spending<'a> {
    budgets: Vec<(&'a Budget, i32)>,
}

impl Spending<'_> {
    /// Takes a pod away. Says whether that goes against a budget.
    pub fn take(&mut self, pod: &PodInfo) -> bool {
        // Without labels a pod belongs to nobody's budget.
        if pod.labels.is_empty() {
            return false;
        }
        for (budget, left) in &mut self.budgets {
            if budget.covers(pod) {
                *left -= 1;
                if *left < 0 {
                    return true;
                }
            }
        }
        false
    }
}

/// All budgets, and the preemptions that are under way.
#[derive(Default)]
pub struct Disruption {
    budgets: BTreeMap<String, Budget>,
    /// By the uid of the pod that room is made for: the last of its victims, once only that one is left.
    under_way: HashMap<Arc<str>, Option<Arc<str>>>,
}

impl Disruption {
    /// Takes over a budget, by `namespace/name`; none forgets it.
    pub fn set_budget(&mut self, key: &str, budget: Option<Budget>) {
        match budget {
            Some(budget) => drop(self.budgets.insert(key.to_owned(), budget)),
            None => drop(self.budgets.remove(key)),
        }
    }

    /// The budgets as they are now, to be used up in thought.
    #[must_use]
    pub fn spending(&self) -> Spending<'_> {
        Spending {
            budgets: self.budgets.values().map(|b| (b, b.allowed)).collect(),
        }
    }

    /// Victims of a pod begin to be deleted.
    pub fn begin(&mut self, uid: &Arc<str>) {
        self.under_way.insert(Arc::clone(uid), None);
    }

    /// All victims but one were deleted.
    pub fn last(&mut self, uid: &Arc<str>, victim: &Arc<str>) {
        self.under_way
            .insert(Arc::clone(uid), Some(Arc::clone(victim)));
    }

    /// No request for victims of a pod is under way any more.
    pub fn end(&mut self, uid: &str) {
        self.under_way.remove(uid);
    }

    /// Whether victims of a pod are being deleted, and which is the last.
    #[must_use]
    pub fn under_way(&self, uid: &str) -> Option<Option<&str>> {
        self.under_way.get(uid).map(Option::as_deref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::labelled_pod;
    use serde_json::json;

    fn budget(allowed: i32, selector: serde_json::Value, disrupted: serde_json::Value) -> Budget {
        Budget::of(
            &proto::typed::from_json_value(json!({
                "metadata": { "namespace": "default", "name": "b" },
                "spec": { "selector": selector },
                "status": { "disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
                    "disruptedPods": disrupted },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_budget_is_used_up_pod_by_pod_and_counts_no_pod_twice() {
        let mut all = Disruption::default();
        let web = json!({ "matchLabels": { "app": "web" } });
        let gone = json!({ "gone": "2026-01-01T00:00:00Z" });
        all.set_budget("default/b", Some(budget(1, web, gone)));
        let pod = |name: &str| labelled_pod(name, json!({ "app": "web" }), json!({}));
        let mut spending = all.spending();
        assert!(!spending.take(&pod("gone")), "it is counted already");
        assert!(!spending.take(&pod("a")));
        assert!(spending.take(&pod("b")));
        let other = labelled_pod("other", json!({ "app": "db" }), json!({}));
        assert!(!all.spending().take(&other));
        all.set_budget("default/b", None);
        assert!(!all.spending().take(&pod("b")));
    }

    #[test]
    fn an_empty_selector_protects_nobody_from_preemption() {
        let mut all = Disruption::default();
        all.set_budget("default/b", Some(budget(0, json!({}), json!({}))));
        let pod = labelled_pod("p", json!({ "app": "web" }), json!({}));
        assert!(!all.spending().take(&pod));
    }
}
