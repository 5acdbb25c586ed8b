//! Cluster roles whose rules are those of others (`clusterrole-aggregation-controller`).
//!
//! Source: `pkg/controller/clusterroleaggregation`.

use std::sync::Arc;

use component::client::Patch;
use component::controller::Next;
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::selector::Selector;

/// Upstream's number of workers.
const WORKERS: i32 = 5;
const MANAGER: &str = "clusterrole-aggregation-controller";

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("ClusterRoleAggregator");
    let roles = cx.informer::<ClusterRole>();
    let (wake, lister) = (queue.clone(), roles.lister());
    roles.subscribe(move |_, event| {
        // Labels and rules decide; which roles depend on one cannot be known without looking at all.
        let same = matches!(event, Event::Updated { old, new }
            if old.rules == new.rules && old.metadata.labels == new.metadata.labels
                && old.aggregation_rule == new.aggregation_rule);
        if !same {
            for role in lister.list() {
                if role.aggregation_rule.is_some() {
                    wake.add(Key::of(&role.metadata));
                }
            }
        }
    });
    let (context, lister) = (cx.clone(), roles.lister());
    cx.run(WORKERS, &queue, move |key| {
        let (cx, lister) = (context.clone(), lister.clone());
        async move { reconcile(&cx, &lister, &key).await }
    });
    Ok(())
}

async fn reconcile(cx: &Context, roles: &Lister<ClusterRole>, key: &Key) -> Result<Next, Error> {
    let Some(role) = roles.by_key(key).filter(|r| r.aggregation_rule.is_some()) else {
        return Ok(Next::Done);
    };
    let rules = aggregated(&role, &roles.list())?;
    if rules == role.rules.clone().unwrap_or_default() {
        return Ok(Next::Done);
    }
    let wanted = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": key.name()},
        "rules": rules,
    });
    let api = cx.client().await?.all::<ClusterRole>();
    api.patch(key.name(), &Patch::apply(MANAGER, true, &wanted)?)
        .await?;
    Ok(Next::Done)
}

/// The rules of all roles that the role's selectors select, each once.
fn aggregated(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Vec<PolicyRule>, Error> {
    let rule = role.aggregation_rule.as_ref();
    let selectors = rule.and_then(|r| r.cluster_role_selectors.as_deref());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.unwrap_or_default() {
        let selector = Selector::of(selector)?;
        // The cache lists by name.
        let others = all.iter().filter(|other| {
            other.metadata.name != role.metadata.name
                && selector.matches(other.metadata.labels.as_ref())
        });
        for rule in others.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: serde_json::Value, verbs: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<_> = verbs.iter().map(|v| json!({"verbs": [v]})).collect();
        Arc::new(
            proto::typed::from_json_value(
                json!({"metadata": {"name": name, "labels": labels}, "rules": rules}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn rules_are_joined_in_the_order_of_selectors_and_names() {
        let sum: ClusterRole = proto::typed::from_json_value(json!({
            "metadata": {"name": "sum", "labels": {"b": "1"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"b": "1"}}, {"matchLabels": {"a": "1"}}]}
        }))
        .unwrap();
        let all = [
            role("r1", json!({"a": "1"}), &["get", "list"]),
            role("r2", json!({"b": "1"}), &["get"]),
            role("sum", json!({"b": "1"}), &["own"]),
        ];
        let rules = aggregated(&sum, &all).unwrap();
        let verbs: Vec<_> = rules.iter().map(|r| r.verbs.join("")).collect();
        assert_eq!(verbs, ["get", "list"]);
    }
}
