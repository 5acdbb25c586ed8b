//! Resources of running containers: what has to change, and what is in force, in the words of the
//! specification (in-place resize, KEP-1287).

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use proto::quantity::{Format, Quantity};

use super::seen;
use crate::runtime::{ContainerState, Resources};

/// The least that the kernel keeps apart: at or below it, what is asked for is what is told.
const MIN_MILLI_LIMIT: i64 = 10;
const MIN_SHARES: i64 = 2;

/// A running container whose resources are not those that are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resize {
    pub(crate) to: Resources,
    /// The container says that it has to start anew to see them.
    pub(crate) restart: bool,
}

/// What has to change for a container to have what is wanted; only CPU and memory can.
pub(crate) fn needed(
    container: &Container,
    seen: &seen::Container,
    wanted: &Resources,
) -> Option<Resize> {
    fn differs<T: PartialEq>(wanted: &Option<T>, actual: &Option<T>) -> bool {
        wanted.is_some() && wanted != actual
    }
    let actual = &seen.status.resources;
    let cpu = differs(&wanted.cpu_shares, &actual.cpu_shares)
        || differs(&wanted.cpu_quota, &actual.cpu_quota)
        || differs(&wanted.cpu_period, &actual.cpu_period);
    let memory = differs(&wanted.memory_limit, &actual.memory_limit);
    if !cpu && !memory {
        return None;
    }
    let mut policies = container.resize_policy.iter().flatten();
    let restart = policies.any(|policy| {
        let changed = match policy.resource_name.as_str() {
            "cpu" => cpu,
            "memory" => memory,
            _ => false,
        };
        changed && policy.restart_policy == "RestartContainer"
    });
    let to = Resources {
        cpu_shares: wanted.cpu_shares,
        cpu_quota: wanted.cpu_quota,
        cpu_period: wanted.cpu_period,
        memory_limit: wanted.memory_limit,
        memory_swap_limit: wanted.memory_swap_limit,
        ..Resources::default()
    };
    Some(Resize { to, restart })
}

/// Resources for the container's status: those of the specification, with CPU and memory as they are
/// in force.
pub(crate) fn in_force(
    container: &Container,
    seen: &seen::Container,
) -> Option<ResourceRequirements> {
    let mut told = container.resources.clone().unwrap_or_default();
    if seen.status.state != ContainerState::Running {
        return Some(told);
    }
    let actual = &seen.status.resources;
    if let Some(limits) = &mut told.limits {
        replace(limits, "cpu", cpu_limit(actual), MIN_MILLI_LIMIT);
        let memory = actual.memory_limit.filter(|m| *m > 0);
        let memory = memory.map(|bytes| Quantity::new(bytes, Format::BinarySi));
        replace(limits, "memory", memory, 0);
    }
    if let Some(requests) = &mut told.requests {
        replace(requests, "cpu", cpu_request(actual), MIN_SHARES);
    }
    Some(told)
}

/// Puts the amount in force in the place of one that differs.
fn replace(
    list: &mut std::collections::BTreeMap<String, Text>,
    name: &str,
    actual: Option<Quantity>,
    least: i64,
) {
    let Some(actual) = actual else { return };
    let told = list
        .get(name)
        .and_then(|text| text.0.parse::<Quantity>().ok());
    let both_small = |told: Quantity| told.milli_value() <= least && actual.milli_value() <= least;
    if told.is_none_or(|told| told == actual || both_small(told)) {
        return;
    }
    list.insert(name.to_owned(), Text(actual.to_string()));
}

fn cpu_limit(actual: &Resources) -> Option<Quantity> {
    let quota = actual.cpu_quota.filter(|q| *q > 0)?;
    let period = i64::try_from(actual.cpu_period?).ok().filter(|p| *p > 0)?;
    let milli = quota.checked_mul(1000)?.checked_div(period)?;
    Some(Quantity::milli(milli, Format::DecimalSi))
}

fn cpu_request(actual: &Resources) -> Option<Quantity> {
    let shares = i64::try_from(actual.cpu_shares.filter(|s| *s > 0)?).ok()?;
    // Rounded up: shares were rounded down.
    let milli = shares.checked_mul(1000)?.checked_add(1023)? / 1024;
    Some(Quantity::milli(milli, Format::DecimalSi))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_back_as_the_request_that_they_were_made_from() {
        for milli in [3_u64, 100, 250, 333, 1000, 1500] {
            let resources = Resources {
                cpu_shares: Some(milli * 1024 / 1000),
                ..Resources::default()
            };
            let read = cpu_request(&resources).unwrap();
            assert_eq!(read.milli_value(), i64::try_from(milli).unwrap());
        }
    }

    #[test]
    fn a_quota_reads_back_as_the_limit() {
        let resources = Resources {
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            ..Resources::default()
        };
        assert_eq!(cpu_limit(&resources).unwrap().to_string(), "500m");
    }
}
