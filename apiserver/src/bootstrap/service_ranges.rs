//! The default service range as an object. Upstream:
//! `pkg/controlplane/controller/defaultservicecidr`; the finalizer and the condition are set by
//! upstream's service-cidr controller and here at once, so that a cluster works before that controller.

use std::sync::Arc;
use std::time::Duration;

use proto::Value;
use proto::catalogue::names as n;
use proto::meta;
use resources::clock::Clock;
use resources::status::Failure;

use super::{Hook, Own};
use crate::server::Server;

pub(super) const HOOK: Hook = Hook {
    name: "start-kubernetes-service-cidr-controller",
    once: |server| Box::pin(async move { ensure(&server).await }),
    keep: Some((Duration::from_secs(10), |server| {
        Box::pin(async move { ensure(&server).await })
    })),
    end: None,
};

/// Upstream's name for it.
const NAME: &str = "kubernetes";

async fn ensure(server: &Arc<Server>) -> Result<(), Failure> {
    let own = Own::new(server, "networking.k8s.io", "servicecidrs", "")?;
    let mut object = Value::object();
    object.set(&[n::METADATA, n::NAME], NAME);
    let ranges: Vec<String> = server
        .config
        .service_ranges
        .iter()
        .map(|r| r.trunc().to_string())
        .collect();
    object.set(&[n::SPEC, n::CIDRS], ranges);
    if own.create_if_absent(object).await? || !is_ready(&own).await? {
        let own = own.managed_by("kubernetes-service-cidr-controller");
        own.apply_status(NAME, &ready()).await?;
    }
    Ok(())
}

/// The configuration that says so, as upstream applies it.
fn ready() -> Value {
    let mut object = Value::object();
    object.set(&["apiVersion"], "networking.k8s.io/v1");
    object.set(&["kind"], "ServiceCIDR");
    object.set(&[n::METADATA, n::NAME], NAME);
    let mut condition = Value::object();
    condition.set(&[n::TYPE], "Ready");
    condition.set(&[n::STATUS], "True");
    condition.set(&[n::MESSAGE], "Kubernetes default Service CIDR is ready");
    condition.set(&[n::LAST_TRANSITION_TIME], Clock::now().text);
    object.set(&[n::STATUS, n::CONDITIONS], vec![condition]);
    object
}

async fn is_ready(own: &Own<'_>) -> Result<bool, Failure> {
    let Some(object) = own.get(NAME).await? else {
        return Ok(false);
    };
    if meta::is_deleting(&object) {
        return Ok(true);
    }
    let conditions = object
        .at(&[n::STATUS, n::CONDITIONS])
        .and_then(Value::as_list)
        .unwrap_or_default();
    Ok(conditions
        .iter()
        .any(|c| c.get(n::TYPE).and_then(Value::as_str) == Some("Ready")))
}
