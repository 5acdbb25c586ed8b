//! What a deployment's spec says about a rollout.

use k8s_openapi::api::apps::v1::{Deployment, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proto::view::IntOrStr;

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.paused.unwrap_or(false)
}

fn kind(deployment: &Deployment) -> &str {
    let strategy = deployment.spec.strategy.as_ref();
    strategy
        .and_then(|s| s.type_.as_deref())
        .unwrap_or("RollingUpdate")
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    kind(deployment) == "RollingUpdate"
}

/// After how many seconds without progress it has failed; none if never.
pub(super) fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.progress_deadline_seconds;
    seconds.filter(|s| *s != i32::MAX)
}

/// How many old replica sets are kept; none if all.
pub(super) fn history_limit(deployment: &Deployment) -> Option<i32> {
    let limit = deployment.spec.revision_history_limit;
    limit.filter(|l| *l != i32::MAX)
}

fn rolling(deployment: &Deployment) -> RollingUpdateDeployment {
    let strategy = deployment.spec.strategy.as_ref();
    strategy
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default()
}

/// A number, or that part of `total`. What validation would have refused counts as 0.
pub(crate) fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    let scaled = match value {
        None => Ok(0),
        Some(IntOrString::Int(n)) => Ok(i64::from(*n)),
        Some(IntOrString::String(text)) => IntOrStr::Str(text).scaled(total.into(), round_up),
    };
    i32::try_from(scaled.unwrap_or(0)).unwrap_or(i32::MAX)
}

/// Surge and unavailability together: if both come out as 0, one pod may be unavailable, or nothing would move.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let total = replicas(deployment);
    let rolling = rolling(deployment);
    let surge = scaled(rolling.max_surge.as_ref(), total, true);
    let unavailable = scaled(rolling.max_unavailable.as_ref(), total, false);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

/// The pods beyond the wanted number that a rollout may have.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) {
        fenceposts(deployment).0
    } else {
        0
    }
}

/// The pods that a rollout may lack.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    if !is_rolling(deployment) || replicas(deployment) == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(replicas(deployment))
}
