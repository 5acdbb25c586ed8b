//! Feature gates: which of upstream's features are on.
//!
//! Names, stages, defaults and locks are those of [`proto::catalogue::gates`], in the release that is emulated.
//! A gate that this project does not implement yet is accepted like any other; what reads it decides.
//!
//! Upstream: `component-base/featuregate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::catalogue::{GateId, GateStage, Gates, Release};

use crate::args::{self, Args};
use crate::compatibility::{self, COMPONENT, EffectiveVersion};

/// The settings of `--feature-gates` or of a `featureGates` map, in the order given.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Assignments(pub Vec<(String, bool)>);

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
            let name = name.trim();
            // What a gate may be set to depends on the release, which other flags say.
            if whole_stage(name).is_none() && GateId::find(name).is_none() {
                return Err(Error::Unknown(name.to_owned()).to_string());
            }
            all.push((name.to_owned(), value));
        }
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
    #[error(
        "cannot set feature gate {gate} to {asked}, feature is PreAlpha at emulated version {emulation}, min compatibility version {min_compatibility}"
    )]
    PreAlpha {
        gate: String,
        asked: bool,
        emulation: Release,
        min_compatibility: Release,
    },
    #[error("{gate} is enabled, but depends on features that are disabled: [{}]", .off.join(" "))]
    Needs {
        gate: &'static str,
        off: Vec<&'static str>,
    },
    #[error(transparent)]
    Version(#[from] compatibility::Error),
}

/// Which features are on; cheap to clone.
#[derive(Clone)]
pub struct Features {
    version: EffectiveVersion,
    on: Gates,
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
        Self::of(EffectiveVersion::default())
    }

    /// The defaults of a release.
    #[must_use]
    pub fn of(version: EffectiveVersion) -> Self {
        Self {
            version,
            on: Gates::at(version.emulation, version.min_compatibility),
            given: Arc::default(),
        }
    }

    /// What `--emulated-version`, `--min-compatibility-version` and `--feature-gates` say.
    ///
    /// # Errors
    /// If there is no such release, or a gate cannot be set so in it.
    pub fn from_args(args: &Args) -> Result<Self, Error> {
        let asked = args.get(&args::FEATURE_GATES);
        let asked = asked.0.iter().map(|(gate, on)| (gate.as_str(), *on));
        let features = Self::of(EffectiveVersion::from_args(args)?).with(asked)?;
        let version = features.version;
        let of_stage = of_stage(version, GateStage::Alpha);
        let alpha: Vec<_> = of_stage.filter(|id| features.on.has(*id)).collect();
        if version.emulates() && !alpha.is_empty() {
            tracing::warn!(features = ?alpha, "Alpha features are on in an emulated version, which is unsupported");
        }
        Ok(features)
    }

    /// These features with some gates set. `AllAlpha` and `AllBeta` set the gates of their stage that
    /// are not named themselves.
    ///
    /// # Errors
    /// If a gate does not exist, or not yet in the release that is emulated, or is locked to the other value, or
    /// needs one that is off.
    pub fn with<'a>(
        &self,
        assignments: impl IntoIterator<Item = (&'a str, bool)>,
    ) -> Result<Self, Error> {
        let version = self.version;
        let mut given = (*self.given).clone();
        let mut stages = Vec::new();
        for (name, asked) in assignments {
            if let Some(stage) = whole_stage(name) {
                stages.push((stage, asked));
                continue;
            }
            let gate = GateId::find(name).map(GateId::gate);
            let gate = gate.ok_or_else(|| Error::Unknown(name.to_owned()))?;
            let Some(spec) = version.spec(gate) else {
                return Err(Error::PreAlpha {
                    gate: name.to_owned(),
                    asked,
                    emulation: version.emulation,
                    min_compatibility: version.min_compatibility,
                });
            };
            if spec.locked && spec.default != asked {
                return Err(Error::Locked {
                    gate: name.to_owned(),
                    asked,
                    locked: spec.default,
                });
            }
            if matches!(spec.stage, GateStage::Stable | GateStage::Deprecated) {
                tracing::warn!(
                    gate = name,
                    value = asked,
                    "Setting a feature gate that will be removed"
                );
            }
            given.insert(gate.name, asked);
        }
        for (stage, asked) in stages {
            let unnamed = of_stage(version, stage).map(|id| id.gate().name);
            for name in unnamed.filter(|name| whole_stage(name).is_none()) {
                given.entry(name).or_insert(asked);
            }
        }
        let set = |all: Gates, (name, on): (&&str, &bool)| {
            GateId::find(name).map_or(all, |id| all.with(id, *on))
        };
        let on = given.iter().fold(self.on, set);
        needs_met(on)?;
        Ok(Self {
            version: self.version,
            on,
            given: Arc::new(given),
        })
    }

    /// Whether the feature is on. A name that is no gate of this version is off.
    #[must_use]
    pub fn enabled(&self, name: &str) -> bool {
        let gate = GateId::find(name);
        debug_assert!(gate.is_some(), "{name} is a gate");
        gate.is_some_and(|gate| self.on.has(gate))
    }

    /// All that are on.
    #[must_use]
    pub fn gates(&self) -> Gates {
        self.on
    }

    /// The release that they are of.
    #[must_use]
    pub fn version(&self) -> EffectiveVersion {
        self.version
    }

    /// Gates that were set, with their values.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.given.iter().map(|(n, v)| (*n, *v))
    }
}

/// What is on has what it needs.
fn needs_met(on: Gates) -> Result<(), Error> {
    for gate in GateId::all().filter(|id| on.has(*id)).map(GateId::gate) {
        let missing = gate.needs.iter().filter(|other| !on.has(**other));
        let off: Vec<_> = missing.map(|other| other.gate().name).collect();
        if !off.is_empty() {
            let gate = gate.name;
            return Err(Error::Needs { gate, off });
        }
    }
    Ok(())
}

/// The gates that are of a stage in a version.
fn of_stage(version: EffectiveVersion, stage: GateStage) -> impl Iterator<Item = GateId> {
    let is = move |id: &GateId| {
        version
            .spec(id.gate())
            .is_some_and(|spec| spec.stage == stage)
    };
    GateId::all().filter(is)
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
    use proto::catalogue::{Gate, gates};

    use super::*;

    fn a(stage: GateStage, locked: bool) -> &'static Gate {
        let fits = |gate: &&Gate| {
            let spec = gate.now();
            gate.needs.is_empty() && spec.is_some_and(|s| s.stage == stage && s.locked == locked)
        };
        gates().iter().find(fits).expect("1.37 has one")
    }

    fn refused(features: &Features, gates: &[(&str, bool)]) -> String {
        let refused = features.with(gates.iter().copied()).err();
        refused.expect("it cannot be").to_string()
    }

    #[test]
    fn a_named_gate_wins_over_its_stage() {
        let alpha = a(GateStage::Alpha, false);
        let features = Features::defaults()
            .with([("AllAlpha", true), ("AllBeta", true), (alpha.name, false)])
            .unwrap();
        assert!(!features.enabled(alpha.name));
        let of_stage = |g: &&Gate| g.now().is_some_and(|s| s.stage == GateStage::Alpha);
        let mut others = gates().iter().filter(of_stage);
        let other = others.find(|g| g.name != alpha.name && whole_stage(g.name).is_none());
        let other = other.unwrap();
        assert!(features.enabled(other.name));
        assert!(!Features::defaults().enabled(other.name));
    }

    #[test]
    fn a_locked_gate_may_only_be_set_to_what_it_is() {
        let locked = a(GateStage::Stable, true);
        let default = locked.now().unwrap().default;
        let features = Features::defaults();
        assert!(features.with([(locked.name, default)]).is_ok());
        let refused = refused(&features, &[(locked.name, !default)]);
        assert!(refused.contains("feature is locked to"), "{refused}");
    }

    #[test]
    fn a_gate_that_does_not_exist_is_refused_with_its_name() {
        let line = ["kube:NoSuchGate=true".to_owned()];
        let refused = <Assignments as args::Value>::parse(&line).unwrap_err();
        assert_eq!(refused, "unrecognized feature gate: NoSuchGate");
        assert!(<Assignments as args::Value>::parse(&["wardle:X=true".to_owned()]).is_err());
    }

    #[test]
    fn an_emulated_release_has_its_own_gates() {
        let old = Features::of(EffectiveVersion::emulating(Release::new(1, 34)));
        let now = Features::defaults();
        assert!(now.enabled("ClusterTrustBundle") && !old.enabled("ClusterTrustBundle"));
        assert!(now.with([("InPlacePodVerticalScaling", false)]).is_err());
        let off = [("InPlacePodVerticalScaling", false), ("AllBeta", false)];
        assert!(old.with(off).is_ok());
        assert_eq!(
            refused(&old, &[("NodeDeclaredFeatures", true)]),
            "cannot set feature gate NodeDeclaredFeatures to true, feature is PreAlpha at emulated version 1.34, \
             min compatibility version 1.34"
        );
    }

    #[test]
    fn a_gate_does_not_go_without_what_it_needs() {
        let features = Features::defaults();
        assert_eq!(
            refused(&features, &[("PodGroupPreemptionPolicy", true)]),
            "PodGroupPreemptionPolicy is enabled, but depends on features that are disabled: [GenericWorkload]"
        );
        let both = [
            ("PodGroupPreemptionPolicy", true),
            ("GenericWorkload", true),
        ];
        assert!(features.with(both).is_ok());
    }

    #[test]
    fn the_defaults_of_every_release_go_together() {
        for minor in 34..=37 {
            let version = EffectiveVersion::emulating(Release::new(1, minor));
            assert_eq!(needs_met(Features::of(version).on), Ok(()), "1.{minor}");
        }
    }
}
