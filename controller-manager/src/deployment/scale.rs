//! How many replicas each replica set gets. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::replica_set::{self as set, available, by_age, max_before, wanted};
use super::strategy::{is_rolling, max_surge, max_unavailable, replicas};

/// A set and the replicas that it gets.
pub(super) type Size = (Arc<ReplicaSet>, i32);

/// Sums up over sets.
pub(super) fn sum<'s>(
    sets: impl IntoIterator<Item = &'s Arc<ReplicaSet>>,
    of: impl Fn(&ReplicaSet) -> i32,
) -> i32 {
    sets.into_iter()
        .fold(0, |total: i32, set| total.saturating_add(of(set)))
}

/// The replicas that the newest set gets now, when it has `has` of all sets' `total`.
pub(super) fn newest(deployment: &Deployment, has: i32, total: i32) -> i32 {
    let all = replicas(deployment);
    if !is_rolling(deployment) {
        return all;
    }
    let most = all.saturating_add(max_surge(deployment));
    if total >= most {
        return has;
    }
    has + (most - total).min(all - has)
}

/// The sets when nothing is rolled out: the deployment was scaled, or is paused. Sets that keep their size are listed
/// only where they have to remember the deployment's.
pub(super) fn resized(
    deployment: &Deployment,
    newest: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
) -> (Vec<Size>, bool) {
    let active: Vec<_> = old
        .iter()
        .chain(newest)
        .filter(|s| wanted(s) > 0)
        .cloned()
        .collect();
    let all = replicas(deployment);
    if active.len() < 2 {
        let youngest = || old.iter().max_by(|a, b| by_age(a, b));
        let one = active.first().or(newest).or_else(youngest);
        let one = one.filter(|s| wanted(s) != all);
        return (
            one.map(|s| (Arc::clone(s), all)).into_iter().collect(),
            false,
        );
    }
    if newest.is_some_and(|s| is_saturated(deployment, s)) {
        let rest = old.iter().filter(|s| wanted(s) > 0);
        return (rest.map(|s| (Arc::clone(s), 0)).collect(), false);
    }
    if is_rolling(deployment) {
        return (proportional(deployment, active), true);
    }
    (Vec::new(), false)
}

/// The newest set has all pods, available, and was told the deployment's size.
fn is_saturated(deployment: &Deployment, newest: &ReplicaSet) -> bool {
    let all = replicas(deployment);
    wanted(newest) == all && set::desired(newest) == Some(all) && available(newest) == all
}

/// Spreads what is to be added or taken away over the active sets by their sizes, so that scaling does not hasten the
/// rollout; what is left by rounding goes to the largest.
fn proportional(deployment: &Deployment, mut active: Vec<Arc<ReplicaSet>>) -> Vec<Size> {
    let all = replicas(deployment);
    let allowed = if all > 0 {
        all.saturating_add(max_surge(deployment))
    } else {
        0
    };
    let to_add = allowed - sum(&active, wanted);
    // Of equal sets the newer grows first, the older shrinks first.
    active.sort_by(|a, b| {
        let by_size = wanted(b).cmp(&wanted(a));
        by_size.then_with(|| {
            if to_add > 0 {
                by_age(b, a)
            } else {
                by_age(a, b)
            }
        })
    });
    let mut added = 0;
    let mut sizes: Vec<Size> = Vec::with_capacity(active.len());
    for set in active {
        let share = share(deployment, &set, to_add, added);
        added += share;
        let size = wanted(&set) + share;
        sizes.push((set, size));
    }
    if let Some((_, largest)) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    sizes
}

/// One set's part of what is to be added (or, negative, taken away).
fn share(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if wanted(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, set);
    if to_add > 0 {
        fraction.min(to_add - added)
    } else {
        fraction.max(to_add - added)
    }
}

/// How much a set grows if it keeps its part of the deployment.
#[allow(
    clippy::cast_possible_truncation,
    reason = "floats saturate, and sizes are far below"
)]
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let all = replicas(deployment);
    if all == 0 {
        return -wanted(set);
    }
    let most = all.saturating_add(max_surge(deployment));
    let status = deployment.status.as_ref();
    let seen = || status.and_then(|s| s.replicas).unwrap_or(0);
    let before = max_before(set).filter(|n| *n > 0).unwrap_or_else(seen);
    if before == 0 {
        return 0;
    }
    let size = f64::from(wanted(set)) * f64::from(most) / f64::from(before);
    (size.round() as i32) - wanted(set)
}

/// The old sets when the newest has what it gets for now: first what is not available goes, oldest set first, then
/// what the available ones allow.
pub(super) fn old_shrunk(
    deployment: &Deployment,
    newest: &ReplicaSet,
    newest_wanted: i32,
    old: &[Arc<ReplicaSet>],
) -> Vec<Size> {
    let mut old: Vec<_> = old.iter().filter(|s| wanted(s) > 0).cloned().collect();
    if old.is_empty() {
        return Vec::new();
    }
    old.sort_by(|a, b| by_age(a, b));
    let minimum = replicas(deployment) - max_unavailable(deployment);
    let total = sum(&old, wanted).saturating_add(newest_wanted);
    let newest_unavailable = newest_wanted - available(newest);
    let most = total - minimum - newest_unavailable;
    if most <= 0 {
        return Vec::new();
    }
    let mut sizes: Vec<Size> = old.iter().map(|s| (Arc::clone(s), wanted(s))).collect();
    let mut gone = 0;
    for (set, size) in &mut sizes {
        if gone >= most {
            break;
        }
        let unhealthy = (*size - available(set)).max(0).min(most - gone);
        *size -= unhealthy;
        gone += unhealthy;
    }
    let available_now = sum(&old, available).saturating_add(available(newest));
    let mut may_go = (available_now - minimum).max(0);
    for (_, size) in &mut sizes {
        let healthy = may_go.min(*size);
        *size -= healthy;
        may_go -= healthy;
    }
    sizes.retain(|(set, size)| wanted(set) != *size);
    sizes
}
