//! `NamespaceLifecycle`: nothing is created in a namespace that is not there or is on its way out, and
//! the namespaces that every cluster needs are not deleted.
//!
//! Upstream: `apiserver/pkg/admission/plugin/namespace/lifecycle`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::catalogue::names as n;
use proto::{Value, meta};
use resources::status::Failure;

use super::{Attributes, CHANGES, CREATE, Operation, Plugin, newest};
use crate::bootstrap::Own;
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "NamespaceLifecycle",
    on_by_default: true,
    operations: CHANGES,
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    ..Plugin::OFF
};

/// The older plugin that makes the namespace of what is created.
pub(super) const AUTO_PROVISION: Plugin = Plugin {
    name: "NamespaceAutoProvision",
    operations: CREATE,
    mutate: Some(|server, write| Box::pin(provision(server, write))),
    ..Plugin::OFF
};

/// The older plugin that only looks whether the namespace is there.
pub(super) const EXISTS: Plugin = Plugin {
    name: "NamespaceExists",
    operations: CHANGES,
    validate: Some(|server, write| Box::pin(exists(server, write))),
    ..Plugin::OFF
};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Namespaces that were deleted through this server lately: the cache may still call them active.
#[derive(Default)]
pub(super) struct Doomed(Mutex<HashMap<Box<str>, Instant>>);

impl Doomed {
    /// Longer than any cache lags.
    const REMEMBERED: Duration = Duration::from_secs(30);
    const AT_MOST: usize = 100;

    fn add(&self, namespace: &str, now: Instant) {
        let mut known = self.0.lock();
        known.retain(|_, until| *until > now);
        if known.len() >= Self::AT_MOST
            && let Some(oldest) = known
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(name, _)| name.clone())
        {
            known.remove(&oldest);
        }
        known.insert(namespace.into(), now + Self::REMEMBERED);
    }

    fn has(&self, namespace: &str, now: Instant) -> bool {
        self.0
            .lock()
            .get(namespace)
            .is_some_and(|until| *until > now)
    }
}

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let doomed = &server.admission.state.doomed;
    if write.is_any("", "namespaces") {
        if write.operation == Operation::Delete {
            if IMMORTAL.contains(&write.name) {
                return Err(write.forbid("this namespace may not be deleted"));
            }
            doomed.add(write.name, Instant::now());
        }
        return Ok(());
    }
    // Review of access must not tell which namespaces there are.
    let is_review = write.is_any("authorization.k8s.io", "localsubjectaccessreviews");
    if write.namespace.is_empty()
        || is_review
        || matches!(write.operation, Operation::Update | Operation::Delete)
    {
        return Ok(());
    }
    let name = write.namespace;
    let cached = server.lookup_entry("", "namespaces", "", name).await?;
    let mut phase = cached.map(|namespace| namespace.field(PHASE).unwrap_or_default().to_owned());
    if phase.as_deref() == Some("Active") && doomed.has(name, Instant::now()) {
        let newest = newest(server, "", "namespaces", name).await?;
        phase = newest.map(|namespace| phase_of(&namespace).to_owned());
    }
    let phase = phase.ok_or_else(|| Failure::not_found("", "namespaces", name))?;
    if write.operation == Operation::Create && phase == "Terminating" {
        let why = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        let cause = format!("namespace {name} is being terminated");
        return Err(write.forbid(&why).with_cause(
            "NamespaceTerminating",
            &cause,
            "metadata.namespace",
        ));
    }
    Ok(())
}

async fn provision(server: &Arc<Server>, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let name = write.namespace;
    if write.dry_run() || name.is_empty() || write.is_any("", "namespaces") {
        return Ok(());
    }
    let mut namespace = Value::object();
    meta::set(&mut namespace, n::NAME, name);
    let own = Own::new(server, "", "namespaces", name)?;
    match own.create_if_absent(namespace).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.code() == 403 => Err(failure),
        Err(failure) => Err(write.forbid(failure.message())),
    }
}

async fn exists(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    let name = write.namespace;
    if name.is_empty()
        || write.is_any("", "namespaces")
        || server.lookup("", "namespaces", "", name).await?.is_some()
    {
        return Ok(());
    }
    Err(Failure::not_found("", "namespaces", name))
}

/// Among the selectable fields.
const PHASE: &str = "status.phase";

fn phase_of(namespace: &Value) -> &str {
    namespace
        .at(&[n::STATUS, n::PHASE])
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_deletions_are_remembered_for_a_while() {
        let doomed = Doomed::default();
        let start = Instant::now();
        for i in 0..=Doomed::AT_MOST {
            doomed.add(&format!("ns-{i}"), start + Duration::from_millis(i as u64));
        }
        let now = start + Duration::from_secs(1);
        assert!(!doomed.has("ns-0", now), "the oldest made room");
        assert!(doomed.has("ns-1", now) && doomed.has("ns-100", now));
        assert!(!doomed.has("ns-100", now + Doomed::REMEMBERED));
    }
}
