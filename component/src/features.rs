//! Feature gates: which of upstream's features are on.
//!
//! Names, stages, defaults and locks are those of [`proto::catalogue::gates`]. A gate that this
//! project does not implement yet is accepted like any other; what reads it decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::catalogue::{Gate, GateStage, gates};

use crate::args;

/// The settings of `--feature-gates` or of a `featureGates` map, in the order given.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Assignments(pub Vec<(String, bool)>);

/// The component that a gate without prefix belongs to.
const COMPONENT: &str = "kube";

impl args::Value for Assignments {
    const TYPE: &'static str = "colonSeparatedMultimapStringString";

    fn parse(given: &[String]) -> Result<Self, String> {
        let mut all = Vec::new();
        for pair in given
            .iter()
            .flat_map(|g| g.split(','))
            .map(str::trim)
            .filter(|p| !p.is_empty())
        {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("missing bool value for {pair}"))?;
            let name = match name.split_once(':') {
                Some((component, name)) if component == COMPONENT => name,
                Some((component, _)) => {
                    return Err(format!("component not registered: {component}"));
                }
                None => name,
            };
            let value = <bool as args::Value>::parse(&[value.trim().to_owned()]).map_err(|_| {
                format!("invalid value of {name}={value}, err: expect true or false")
            })?;
            all.push((name.trim().to_owned(), value));
        }
        Features::defaults()
            .with(all.iter().map(|(n, v)| (n.as_str(), *v)))
            .map_err(|e| e.to_string())?;
        Ok(Self(all))
    }
}

impl From<BTreeMap<String, bool>> for Assignments {
    fn from(map: BTreeMap<String, bool>) -> Self {
        Self(map.into_iter().collect())
    }
}

/// Why gates cannot be set so.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    #[error("cannot set feature gate {gate} to {asked}, feature is locked to {locked}")]
    Locked {
        gate: String,
        asked: bool,
        locked: bool,
    },
}

/// Which features are on; cheap to clone.
#[derive(Clone)]
pub struct Features {
    /// Gates that differ from their defaults.
    changed: Arc<BTreeSet<&'static str>>,
    /// Gates that were named, for the log and for metrics.
    given: Arc<BTreeMap<&'static str, bool>>,
}

impl Default for Features {
    fn default() -> Self {
        Self::defaults()
    }
}

impl Features {
    /// Upstream's defaults.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            changed: Arc::default(),
            given: Arc::default(),
        }
    }

    /// These features with some gates set. `AllAlpha` and `AllBeta` set the gates of their stage that
    /// are not named themselves.
    ///
    /// # Errors
    /// If a gate does not exist, or is locked to the other value.
    pub fn with<'a>(
        &self,
        assignments: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Result<Self, Error> {
        let mut given = (*self.given).clone();
        let mut stages = Vec::new();
        for (name, asked) in assignments {
            if let Some(stage) = whole_stage(name) {
                stages.push((stage, asked));
                continue;
            }
            let gate = find(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
            if gate.locked && gate.default != asked {
                return Err(Error::Locked {
                    gate: name.to_owned(),
                    asked,
                    locked: gate.default,
                });
            }
            if matches!(gate.stage, GateStage::Stable | GateStage::Deprecated) {
                tracing::warn!(
                    gate = name,
                    value = asked,
                    "Setting a feature gate that will be removed"
                );
            }
            given.insert(gate.name, asked);
        }
        for (stage, asked) in stages {
            for gate in gates().iter().filter(|g| g.stage == stage && !g.locked) {
                given.entry(gate.name).or_insert(asked);
            }
        }
        let changed = given
            .iter()
            .filter(|(n, v)| find(n).is_some_and(|g| g.default != **v))
            .map(|(n, _)| *n);
        Ok(Self {
            changed: Arc::new(changed.collect()),
            given: Arc::new(given),
        })
    }

    /// Whether the feature is on. A name that is no gate of this version is off.
    #[must_use]
    pub fn enabled(&self, name: &str) -> bool {
        let gate = find(name);
        debug_assert!(gate.is_some(), "{name} is a gate");
        gate.is_some_and(|g| g.default != self.changed.contains(g.name))
    }

    /// Gates that were set, with their values.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.given.iter().map(|(n, v)| (*n, *v))
    }
}

fn find(name: &str) -> Option<&'static Gate> {
    let i = gates().binary_search_by(|g| g.name.cmp(name)).ok()?;
    gates().get(i)
}

fn whole_stage(name: &str) -> Option<GateStage> {
    match name {
        "AllAlpha" => Some(GateStage::Alpha),
        "AllBeta" => Some(GateStage::Beta),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(stage: GateStage, locked: bool) -> &'static Gate {
        gates()
            .iter()
            .find(|g| g.stage == stage && g.locked == locked)
            .expect("1.37 has one")
    }

    #[test]
    fn a_named_gate_wins_over_its_stage() {
        let alpha = a(GateStage::Alpha, false);
        let features = Features::defaults()
            .with([("AllAlpha", true), (alpha.name, false)])
            .unwrap();
        assert!(!features.enabled(alpha.name));
        let other = gates()
            .iter()
            .find(|g| g.stage == GateStage::Alpha && g.name != alpha.name)
            .unwrap();
        assert!(features.enabled(other.name));
        assert!(!Features::defaults().enabled(other.name));
    }

    #[test]
    fn a_locked_gate_may_only_be_set_to_what_it_is() {
        let locked = a(GateStage::Stable, true);
        assert!(
            Features::defaults()
                .with([(locked.name, locked.default)])
                .is_ok()
        );
        let refused = Features::defaults()
            .with([(locked.name, !locked.default)])
            .err()
            .unwrap();
        assert!(
            refused.to_string().contains("feature is locked to"),
            "{refused}"
        );
    }

    #[test]
    fn a_gate_that_does_not_exist_is_refused_with_its_name() {
        let line = ["kube:NoSuchGate=true".to_owned()];
        let refused = <Assignments as args::Value>::parse(&line).unwrap_err();
        assert_eq!(refused, "unrecognized feature gate: NoSuchGate");
        assert!(<Assignments as args::Value>::parse(&["wardle:X=true".to_owned()]).is_err());
    }
}
