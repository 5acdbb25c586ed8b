//! Eviction thresholds: what is measured, and below which amount something is done.
//!
//! Source: `pkg/kubelet/eviction/{helpers.go,api/types.go}`.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::quantity::{Format, Quantity};

use crate::config;

/// Something that can run out. In the order in which shortages are dealt with: memory first, then
/// whatever comes first by name, as upstream sorts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Signal {
    MemoryAvailable,
    AllocatableMemoryAvailable,
    ContainerfsAvailable,
    ContainerfsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    NodefsAvailable,
    NodefsInodesFree,
    PidAvailable,
}

use Signal::{
    AllocatableMemoryAvailable, ContainerfsAvailable, ContainerfsInodesFree, ImagefsAvailable,
    ImagefsInodesFree, MemoryAvailable, NodefsAvailable, NodefsInodesFree, PidAvailable,
};

/// A condition of the node that says that something is running out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

impl Pressure {
    /// The type of the node's condition.
    #[must_use]
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// Name in files, the resource that messages name, the condition that it leads to.
const SIGNALS: &[(Signal, &str, &str, Pressure)] = &[
    (
        MemoryAvailable,
        "memory.available",
        "memory",
        Pressure::Memory,
    ),
    (
        AllocatableMemoryAvailable,
        "allocatableMemory.available",
        "memory",
        Pressure::Memory,
    ),
    (
        ContainerfsAvailable,
        "containerfs.available",
        "ephemeral-storage",
        Pressure::Disk,
    ),
    (
        ContainerfsInodesFree,
        "containerfs.inodesFree",
        "inodes",
        Pressure::Disk,
    ),
    (
        ImagefsAvailable,
        "imagefs.available",
        "ephemeral-storage",
        Pressure::Disk,
    ),
    (
        ImagefsInodesFree,
        "imagefs.inodesFree",
        "inodes",
        Pressure::Disk,
    ),
    (
        NodefsAvailable,
        "nodefs.available",
        "ephemeral-storage",
        Pressure::Disk,
    ),
    (
        NodefsInodesFree,
        "nodefs.inodesFree",
        "inodes",
        Pressure::Disk,
    ),
    (PidAvailable, "pid.available", "pids", Pressure::Pid),
];

impl Signal {
    fn row(self) -> &'static (Self, &'static str, &'static str, Pressure) {
        SIGNALS
            .iter()
            .find(|row| row.0 == self)
            .expect("the table has a row for each signal")
    }

    /// As files and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The resource that is short.
    #[must_use]
    pub fn resource(self) -> &'static str {
        self.row().2
    }

    #[must_use]
    pub fn pressure(self) -> Pressure {
        self.row().3
    }

    /// Whether amounts are counted and not bytes.
    #[must_use]
    pub fn is_count(self) -> bool {
        matches!(self.resource(), "inodes" | "pids")
    }

    fn of(name: &str) -> Option<Self> {
        SIGNALS.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// An amount, or a part of what there is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Amount {
    Fixed(Quantity),
    /// 0 to 1.
    Part(f32),
}

impl Amount {
    /// The amount in units (bytes, inodes, processes), where there are `capacity` of them.
    #[must_use]
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Fixed(quantity) => quantity.value(),
            // As upstream rounds: towards zero, from doubles.
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            Self::Part(part) => (capacity as f64 * f64::from(part)) as i64,
        }
    }

    /// The same as a quantity, in the format that upstream prints.
    #[must_use]
    pub fn quantity(self, capacity: i64) -> Quantity {
        match self {
            Self::Fixed(quantity) => quantity,
            Self::Part(_) => Quantity::new(self.of(capacity), Format::BinarySi),
        }
    }
}

/// Below which amount of a signal something is done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    pub signal: Signal,
    pub value: Amount,
    /// How long it must be met first; a hard threshold has none.
    pub grace: Duration,
    /// How much more has to be freed before it counts as no longer met.
    pub min_reclaim: Option<Amount>,
}

impl Threshold {
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// The four maps of a configuration that make thresholds.
pub struct Texts<'a> {
    pub hard: Option<&'a config::Texts>,
    pub soft: &'a config::Texts,
    pub grace: &'a config::Texts,
    pub min_reclaim: &'a config::Texts,
}

impl<'a> Texts<'a> {
    #[must_use]
    pub fn of(config: &'a config::KubeletConfiguration) -> Self {
        Self {
            hard: config.eviction_hard.as_ref(),
            soft: &config.eviction_soft,
            grace: &config.eviction_soft_grace_period,
            min_reclaim: &config.eviction_minimum_reclaim,
        }
    }
}

/// What is wrong with one of the maps.
#[derive(Debug)]
pub struct Problem {
    pub field: &'static str,
    pub what: String,
}

/// The thresholds of a configuration.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(texts: &Texts<'_>) -> Result<Vec<Threshold>, Problem> {
    let mut all = match texts.hard {
        Some(hard) => statements("evictionHard", hard)?,
        None => Vec::new(),
    };
    let mut soft = statements("evictionSoft", texts.soft)?;
    let periods = grace_periods(texts.grace)?;
    for threshold in &mut soft {
        let period = periods.get(&threshold.signal);
        threshold.grace = *period.ok_or_else(|| Problem {
            field: "evictionSoftGracePeriod",
            what: format!(
                "grace period must be specified for the soft eviction threshold {}",
                threshold.signal.name()
            ),
        })?;
    }
    all.extend(soft);
    let reclaims = min_reclaims(texts.min_reclaim)?;
    for threshold in &mut all {
        threshold.min_reclaim = reclaims.get(&threshold.signal).copied();
    }
    Ok(all)
}

fn signal(field: &'static str, name: &str) -> Result<Signal, Problem> {
    Signal::of(name).ok_or_else(|| Problem {
        field,
        what: format!("unsupported eviction signal {name}"),
    })
}

fn percentage(text: &str) -> Option<Result<f32, String>> {
    let number = text.strip_suffix('%')?;
    let parsed = number.trim_end_matches('%').parse::<f32>();
    Some(match parsed {
        Ok(value) if value.is_finite() => Ok(value / 100.0),
        _ => Err(format!("{text:?} is no percentage")),
    })
}

fn statements(field: &'static str, texts: &config::Texts) -> Result<Vec<Threshold>, Problem> {
    let mut all = Vec::new();
    for (name, text) in texts {
        let signal = signal(field, name)?;
        let wrong = |what: String| Problem { field, what };
        let value = match percentage(text) {
            // Both mean that there is no threshold.
            Some(_) if text == "0%" || text == "100%" => continue,
            Some(part) => {
                let part = part.map_err(wrong)?;
                if !(0.0..=1.0).contains(&part) {
                    return Err(wrong(format!(
                        "eviction percentage threshold {name} must be between 0% and 100%: {text}"
                    )));
                }
                Amount::Part(part)
            }
            None => {
                let quantity: Quantity = text
                    .parse()
                    .map_err(|e| wrong(format!("{name}: {text:?}: {e}")))?;
                if quantity.signum() <= 0 {
                    return Err(wrong(format!(
                        "eviction threshold {name} must be positive: {text}"
                    )));
                }
                Amount::Fixed(quantity)
            }
        };
        all.push(Threshold {
            signal,
            value,
            grace: Duration::ZERO,
            min_reclaim: None,
        });
    }
    Ok(all)
}

fn grace_periods(texts: &config::Texts) -> Result<BTreeMap<Signal, Duration>, Problem> {
    const FIELD: &str = "evictionSoftGracePeriod";
    let period = |(name, text): (&String, &String)| {
        let parsed = proto::time::parse_duration(text).map_err(|e| Problem {
            field: FIELD,
            what: format!("{name}: {e}"),
        })?;
        Ok((signal(FIELD, name)?, parsed))
    };
    texts.iter().map(period).collect()
}

fn min_reclaims(texts: &config::Texts) -> Result<BTreeMap<Signal, Amount>, Problem> {
    const FIELD: &str = "evictionMinimumReclaim";
    let reclaim = |(name, text): (&String, &String)| {
        let wrong = |what: String| Problem { field: FIELD, what };
        let amount = match percentage(text) {
            Some(part) => {
                let part = part.map_err(wrong)?;
                if part <= 0.0 {
                    return Err(wrong(format!(
                        "eviction percentage minimum reclaim {name} must be positive: {text}"
                    )));
                }
                Amount::Part(part)
            }
            None => {
                let quantity: Quantity = text
                    .parse()
                    .map_err(|e| wrong(format!("{name}: {text:?}: {e}")))?;
                if quantity.signum() < 0 {
                    return Err(wrong(format!(
                        "negative eviction minimum reclaim specified for {name}"
                    )));
                }
                Amount::Fixed(quantity)
            }
        };
        Ok((signal(FIELD, name)?, amount))
    };
    texts.iter().map(reclaim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> config::Texts {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn thresholds(
        hard: &[(&str, &str)],
        soft: &[(&str, &str)],
        grace: &[(&str, &str)],
        reclaim: &[(&str, &str)],
    ) -> Result<Vec<Threshold>, Problem> {
        parse(&Texts {
            hard: Some(&texts(hard)),
            soft: &texts(soft),
            grace: &texts(grace),
            min_reclaim: &texts(reclaim),
        })
    }

    #[test]
    fn hard_ones_come_first_and_soft_ones_need_a_period() {
        let soft = [("memory.available", "300Mi")];
        let all = thresholds(
            &[("memory.available", "150Mi"), ("nodefs.available", "10%")],
            &soft,
            &[("memory.available", "30s")],
            &[("nodefs.available", "1Gi")],
        )
        .unwrap();
        assert_eq!(all.len(), 3);
        assert!(all[0].is_hard() && all[1].is_hard() && !all[2].is_hard());
        assert_eq!(all[1].value.of(1000), 100);
        assert_eq!(all[1].min_reclaim.unwrap().of(0), 1 << 30);
        let problem = thresholds(&[], &soft, &[], &[]).unwrap_err();
        assert_eq!(problem.field, "evictionSoftGracePeriod");
    }

    #[test]
    fn nothing_and_everything_mean_no_threshold() {
        let hard = [("nodefs.available", "0%"), ("imagefs.available", "100%")];
        assert_eq!(thresholds(&hard, &[], &[], &[]).unwrap(), []);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [
            ("memory.free", "1Gi"),
            ("memory.available", "-1Gi"),
            ("memory.available", "0"),
            ("memory.available", "lots"),
            ("memory.available", "101%"),
            ("memory.available", "-1%"),
            ("memory.available", "NaN%"),
        ] {
            assert!(
                thresholds(&[(name, value)], &[], &[], &[]).is_err(),
                "{name} {value}"
            );
        }
    }
}
