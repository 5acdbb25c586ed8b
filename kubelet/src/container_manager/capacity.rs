//! What the node has and what of it pods may have. Pure.
//!
//! Sources: `pkg/kubelet/cm/node_container_manager_linux.go`, `pkg/kubelet/nodestatus/setters.go`
//! (`MachineInfo`).

use std::collections::BTreeMap;

use proto::quantity::{Format, Quantity};

use super::threshold::{Signal, Threshold};
use crate::config;
use crate::node::machine::Machine;

/// Amounts by resource.
pub type Resources = BTreeMap<String, Quantity>;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const STORAGE: &str = "ephemeral-storage";
pub const PODS: &str = "pods";
/// Counted by the kubelet, not by the scheduler.
pub const PIDS: &str = "pid";
pub const HUGE_PAGES: &str = "hugepages-";

/// `systemReserved` and `kubeReserved`.
///
/// # Errors
/// In words that follow the field's name.
pub fn reserved(texts: &config::Texts) -> Result<Resources, String> {
    let one = |(name, text): (&String, &String)| {
        if ![CPU, MEMORY, STORAGE, PIDS].contains(&name.as_str()) {
            return Err(format!("cannot reserve {name:?} resource"));
        }
        let amount: Quantity = text
            .parse()
            .map_err(|e| format!("failed to parse quantity {text:?} for {name:?} resource: {e}"))?;
        if amount.signum() < 0 {
            return Err(format!(
                "resource quantity for {name:?} cannot be negative: {text}"
            ));
        }
        Ok((name.clone(), amount))
    };
    texts.iter().map(one).collect()
}

/// What is kept from pods.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    pub system: Resources,
    pub kube: Resources,
    /// Hard eviction thresholds.
    pub eviction: Vec<Threshold>,
}

/// What pods may not have, as it is told to the scheduler: reservations and eviction thresholds.
#[must_use]
pub fn reservation(capacity: &Resources, reserved: &Reservations) -> Resources {
    let mut kept = reserved.system.clone();
    for (name, amount) in &reserved.kube {
        let sum = kept.entry(name.clone()).or_default();
        *sum = sum.plus(*amount);
    }
    for threshold in &reserved.eviction {
        let name = match threshold.signal {
            Signal::MemoryAvailable => MEMORY,
            Signal::NodefsAvailable => STORAGE,
            _ => continue,
        };
        let of = capacity.get(name).copied().unwrap_or_default().value();
        let sum = kept.entry(name.to_owned()).or_default();
        *sum = sum.plus(threshold.value.quantity(of));
    }
    kept.retain(|name, amount| capacity.contains_key(name) && !amount.is_zero());
    kept
}

/// What of `capacity` is left after `kept`; not below zero. Huge pages are no longer memory.
#[must_use]
pub fn allocatable(capacity: &Resources, kept: &Resources) -> Resources {
    let mut left: Resources = capacity
        .iter()
        .map(|(name, amount)| {
            let taken = kept.get(name).copied();
            let rest = taken.map_or(*amount, |taken| amount.minus(taken));
            (name.clone(), floor(rest))
        })
        .collect();
    let huge = capacity
        .iter()
        .filter(|(name, _)| name.starts_with(HUGE_PAGES));
    for (_, pages) in huge {
        if let Some(memory) = left.get_mut(MEMORY) {
            *memory = floor(memory.minus(*pages));
        }
    }
    left
}

fn floor(amount: Quantity) -> Quantity {
    if amount.signum() < 0 {
        Quantity::new(0, amount.format())
    } else {
        amount
    }
}

/// Limits of the cgroup above all pods: reservations without eviction thresholds, which must be
/// reached before the kernel kills; with the number of processes.
#[must_use]
pub fn enforced(capacity: &Resources, max_pids: Option<i64>, reserved: &Reservations) -> Resources {
    let mut all = capacity.clone();
    if let Some(pids) = max_pids {
        all.insert(PIDS.to_owned(), Quantity::new(pids, Format::DecimalSi));
    }
    for (name, amount) in &mut all {
        for part in [&reserved.system, &reserved.kube] {
            if let Some(taken) = part.get(name) {
                *amount = amount.minus(*taken);
            }
        }
        *amount = floor(*amount);
    }
    all
}

/// How many pods, by `maxPods` and `podsPerCore`.
#[must_use]
pub fn max_pods(config: &config::KubeletConfiguration, cores: u32) -> i64 {
    let most = i64::from(config.max_pods);
    match i64::from(config.pods_per_core) {
        0 => most,
        each => most.min(each.saturating_mul(cores.into())),
    }
}

/// What the machine has, in the formats that upstream prints. `storage` is the size of the file
/// system below the kubelet's root, if it is accounted for.
#[must_use]
pub fn capacity(machine: &Machine, pods: i64, storage: Option<u64>) -> Resources {
    let amount =
        |value: u64, format| Quantity::new(i64::try_from(value).unwrap_or(i64::MAX), format);
    let mut all = Resources::from([
        (
            CPU.to_owned(),
            amount(machine.cores.into(), Format::DecimalSi),
        ),
        (MEMORY.to_owned(), amount(machine.memory, Format::BinarySi)),
        (PODS.to_owned(), Quantity::new(pods, Format::DecimalSi)),
    ]);
    if let Some(bytes) = storage {
        all.insert(STORAGE.to_owned(), amount(bytes, Format::BinarySi));
    }
    for pages in &machine.huge_pages {
        let size = amount(pages.size, Format::BinarySi);
        let bytes = pages.size.saturating_mul(pages.count);
        all.insert(
            format!("{HUGE_PAGES}{size}"),
            amount(bytes, Format::BinarySi),
        );
    }
    all
}

/// Reservations that ask for more than there is.
///
/// # Errors
/// With all that do.
pub fn check(capacity: &Resources, reserved: &Reservations) -> Result<(), String> {
    let kept = reservation(capacity, reserved);
    let problems: Vec<String> = kept
        .iter()
        .filter_map(|(name, amount)| {
            let has = capacity.get(name)?;
            (has.minus(*amount).signum() < 0).then(|| {
                format!(
                    "Resource {name:?} has a reservation of {amount} but capacity of {has}. \
                     Expected capacity >= reservation."
                )
            })
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "invalid Node Allocatable configuration. {}",
            problems.join(" ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container_manager::threshold::Amount;
    use crate::node::machine::HugePages;

    fn machine() -> Machine {
        Machine {
            cores: 4,
            memory: 8 << 30,
            huge_pages: vec![HugePages {
                size: 2 << 20,
                count: 8,
            }],
            ..Machine::default()
        }
    }

    fn texts(all: &Resources) -> Vec<String> {
        all.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    #[test]
    fn reservations_thresholds_and_huge_pages_are_taken_off() {
        let capacity = capacity(&machine(), 110, Some(100 << 30));
        assert_eq!(
            texts(&capacity),
            [
                "cpu=4",
                "ephemeral-storage=100Gi",
                "hugepages-2Mi=16Mi",
                "memory=8Gi",
                "pods=110"
            ]
        );
        let part = |signal, part| Threshold {
            signal,
            value: Amount::Part(part),
            grace: std::time::Duration::ZERO,
            min_reclaim: None,
        };
        let reserved = Reservations {
            system: [(CPU.to_owned(), "500m".parse().unwrap())].into(),
            kube: [(MEMORY.to_owned(), "1Gi".parse().unwrap())].into(),
            eviction: vec![part(Signal::NodefsAvailable, 0.1)],
        };
        let kept = reservation(&capacity, &reserved);
        assert_eq!(
            texts(&allocatable(&capacity, &kept)),
            [
                "cpu=3500m",
                "ephemeral-storage=96636764000",
                "hugepages-2Mi=16Mi",
                "memory=7152Mi",
                "pods=110"
            ]
        );
        let enforced = enforced(&capacity, Some(1000), &reserved);
        assert_eq!(enforced[STORAGE].to_string(), "100Gi");
        assert_eq!(enforced[PIDS].value(), 1000);
        assert!(check(&capacity, &reserved).is_ok());
    }

    #[test]
    fn more_reserved_than_there_is_leaves_nothing_and_is_told() {
        let capacity = capacity(&machine(), 10, None);
        let reserved = Reservations {
            system: [(CPU.to_owned(), "5".parse().unwrap())].into(),
            ..Reservations::default()
        };
        let kept = reservation(&capacity, &reserved);
        assert_eq!(allocatable(&capacity, &kept)[CPU].value(), 0);
        assert!(check(&capacity, &reserved).unwrap_err().contains("\"cpu\""));
    }

    #[test]
    fn pods_per_core_lowers_the_number_of_pods() {
        let mut config = config::KubeletConfiguration::default();
        assert_eq!(max_pods(&config, 2), 110);
        config.pods_per_core = 10;
        assert_eq!(max_pods(&config, 2), 20);
        assert_eq!(max_pods(&config, 50), 110);
    }
}
