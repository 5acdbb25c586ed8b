//! Old secrets with tokens that nobody uses (`legacy-serviceaccount-token-cleaner-controller`): first
//! marked as invalid, removed as long after that.
//!
//! Source: `pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use component::client::Patch;
use component::informer::Lister;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Error;

/// Tokens are counted in days, so one look a day is enough.
const PERIOD: Duration = Duration::from_secs(24 * 3600);
const TYPE: &str = "kubernetes.io/service-account-token";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Where the API server says since when it notes the use of tokens.
const TRACKING: (&str, &str, &str) = (
    "kube-system",
    "kube-apiserver-legacy-service-account-token-tracking",
    "since",
);

struct Cleaner {
    cx: Context,
    secrets: Lister<Secret>,
    accounts: Lister<ServiceAccount>,
    pods: Lister<Pod>,
    after: Duration,
}

/// Starts the controller.
///
/// # Errors
/// If the time of the flag is none.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let after = cx.config().legacy_token_cleaner.clean_up_period.0;
    anyhow::ensure!(
        !after.is_zero(),
        "--legacy-service-account-token-clean-up-period must be positive"
    );
    let cleaner = Cleaner {
        cx: cx.clone(),
        secrets: cx.informer().lister(),
        accounts: cx.informer().lister(),
        pods: cx.informer().lister(),
        after,
    };
    let synced = cx.synced();
    cx.spawn("clean", async move {
        synced.await;
        loop {
            if let Err(e) = cleaner.look().await {
                tracing::warn!(error = e.chain(), "Old tokens cannot be looked at");
            }
            tokio::time::sleep(PERIOD).await;
        }
    });
    Ok(())
}

/// What becomes of a secret.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Stays,
    /// It is marked with the day.
    Marked,
    Goes,
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn label(secret: &Secret, key: &str) -> Option<Date> {
    secret.metadata.labels.as_ref()?.get(key)?.parse().ok()
}

/// Judges a secret of an account that refers to it, and that no pod mounts.
fn judge(secret: &Secret, after: Duration, now: Timestamp) -> Verdict {
    let limit = now - after;
    let has = |key: &str| {
        secret
            .metadata
            .labels
            .as_ref()
            .is_some_and(|l| l.contains_key(key))
    };
    let created = secret.metadata.creation_timestamp.as_ref();
    let young = created.is_none_or(|at| at.0 >= limit);
    let used = has(LAST_USED) && label(secret, LAST_USED).is_none_or(|used| used >= day(limit));
    if young || used || secret.metadata.deletion_timestamp.is_some() {
        return Verdict::Stays;
    }
    match label(secret, INVALID_SINCE) {
        None => Verdict::Marked,
        Some(since) if since >= day(limit) => Verdict::Stays,
        Some(_) => Verdict::Goes,
    }
}

/// The secrets that a pod names anywhere.
fn mounted(pod: &Pod) -> BTreeSet<String> {
    const NAMES: [&str; 2] = ["secretName", "secretRef"];
    fn walk(value: &Value, key: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if matches!(
                    key,
                    "secretRef"
                        | "secretKeyRef"
                        | "secret"
                        | "imagePullSecrets"
                        | "nodePublishSecretRef"
                ) && let Some(Value::String(name)) = map.get("name")
                {
                    found.insert(name.clone());
                }
                for (key, value) in map {
                    walk(value, key, found);
                }
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, key, found)),
            Value::String(name) if NAMES.contains(&key) => {
                found.insert(name.clone());
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    walk(&spec, "", &mut found);
    found
}

impl Cleaner {
    async fn look(&self) -> Result<(), Error> {
        let now = self.cx.now();
        if !self.is_tracked_long_enough(now).await? {
            return Ok(());
        }
        let mut results = Vec::new();
        for secret in self.secrets.list() {
            if secret.type_.as_deref() == Some(TYPE) {
                let verdict = judge(&secret, self.after, now);
                if verdict != Verdict::Stays
                    && self.is_referred_to(&secret)
                    && !self.is_mounted(&secret)
                {
                    results.push(self.act(&secret, &verdict, now).await);
                }
            }
        }
        Error::all(results).map(drop)
    }

    async fn is_tracked_long_enough(&self, now: Timestamp) -> Result<bool, Error> {
        let api = self.cx.client().await?.namespaced::<ConfigMap>(TRACKING.0);
        let map = api.get(TRACKING.1).await?;
        let since = map.data.as_ref().and_then(|d| d.get(TRACKING.2));
        let since: Date = since
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| Error::Unusable(format!("{} does not say since when", TRACKING.1)))?;
        // That day may have been at its end.
        let since = since.saturating_add(1.day());
        Ok(day(now - self.after) >= since)
    }

    /// Whether the secret's account refers to it: then it was made for the account, not by people.
    fn is_referred_to(&self, secret: &Secret) -> bool {
        let annotation = |key: &str| {
            secret
                .metadata
                .annotations
                .as_ref()
                .and_then(|a| a.get(key))
        };
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let name = annotation("kubernetes.io/service-account.name").map_or("", String::as_str);
        let uid = annotation("kubernetes.io/service-account.uid").filter(|u| !u.is_empty());
        let Some(account) = self.accounts.get(namespace, name) else {
            return false;
        };
        let same = uid.is_none_or(|uid| Some(uid) == account.metadata.uid.as_ref());
        let mut secrets = account.secrets.iter().flatten();
        same && secrets.any(|s| s.name == secret.metadata.name)
    }

    fn is_mounted(&self, secret: &Secret) -> bool {
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let pods: Vec<Arc<Pod>> = self.pods.in_namespace(namespace);
        pods.iter().any(|pod| mounted(pod).contains(name))
    }

    async fn act(&self, secret: &Secret, verdict: &Verdict, now: Timestamp) -> Result<(), Error> {
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let api = self.cx.client().await?.namespaced::<Secret>(namespace);
        if *verdict == Verdict::Marked {
            tracing::info!(
                namespace,
                name,
                "A token that nobody uses is marked as invalid"
            );
            let labels = json!({INVALID_SINCE: day(now).to_string()});
            let patch = json!({"metadata": {"uid": secret.metadata.uid, "labels": labels}});
            api.patch(name, &Patch::merge(&patch)?).await?;
            return Ok(());
        }
        tracing::info!(namespace, name, "A token that nobody uses is removed");
        let options = DeleteOptions {
            preconditions: Some(Preconditions {
                resource_version: secret.metadata.resource_version.clone(),
                uid: None,
            }),
            ..DeleteOptions::default()
        };
        match api.delete(name, &options).await {
            Err(e) if !e.is_conflict() && !e.is_not_found() => Err(e.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(created: &str, labels: Value) -> Secret {
        proto::typed::from_json_value(
            json!({"metadata": {"creationTimestamp": created, "labels": labels}}),
        )
        .unwrap()
    }

    #[test]
    fn a_token_is_marked_first_and_goes_as_long_after() {
        let after = Duration::from_secs(10 * 24 * 3600);
        let now = "2026-02-01T12:00:00Z".parse().unwrap();
        let judged = |created: &str, labels: Value| judge(&secret(created, labels), after, now);
        let old = "2026-01-01T00:00:00Z";
        assert_eq!(judged("2026-01-30T00:00:00Z", json!({})), Verdict::Stays);
        assert_eq!(judged(old, json!({})), Verdict::Marked);
        assert_eq!(
            judged(old, json!({LAST_USED: "2026-01-22"})),
            Verdict::Stays
        );
        assert_eq!(
            judged(old, json!({LAST_USED: "2026-01-21"})),
            Verdict::Marked
        );
        assert_eq!(judged(old, json!({LAST_USED: "never"})), Verdict::Stays);
        assert_eq!(
            judged(old, json!({INVALID_SINCE: "2026-01-25"})),
            Verdict::Stays
        );
        assert_eq!(
            judged(old, json!({INVALID_SINCE: "2026-01-21"})),
            Verdict::Goes
        );
    }

    #[test]
    fn secrets_are_found_wherever_a_pod_names_them() {
        let pod: Pod = proto::typed::from_json_value(json!({"metadata": {}, "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "all"}}],
                "env": [{"name": "e", "valueFrom": {"secretKeyRef": {"name": "one", "key": "k"}}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "volume"}},
                        {"name": "w", "projected": {"sources": [{"secret": {"name": "part"}}]}}]
        }}))
        .unwrap();
        let found: Vec<_> = mounted(&pod).into_iter().collect();
        assert_eq!(found, ["all", "one", "part", "pull", "volume"]);
    }
}
