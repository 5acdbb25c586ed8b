//! Feature gates: their histories, and sets of them.

use std::fmt;

use super::GATES;

/// A minor release, such as 1.37.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Release {
    pub major: u8,
    pub minor: u8,
}

impl Release {
    /// The one whose behaviour the catalogue has.
    pub const CURRENT: Self = Self::new(1, 37);
    /// That of the oldest servers beside which one without flags can be.
    pub const COMPATIBLE: Self = Self::CURRENT.before(1);

    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// So many minor releases before, of the same major one.
    #[must_use]
    pub const fn before(self, count: u8) -> Self {
        Self::new(self.major, self.minor.saturating_sub(count))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A feature gate, by its place in [`gates`]: `gate::POD_LEVEL_RESOURCES`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateId(pub(crate) u8);

impl GateId {
    /// Every gate, in the order of [`gates`].
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).zip(GATES).map(|(i, _)| Self(i))
    }

    /// The gate of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let i = GATES.binary_search_by(|g| g.name.cmp(name)).ok()?;
        u8::try_from(i).ok().map(Self)
    }

    #[must_use]
    pub fn gate(self) -> &'static Gate {
        &GATES[usize::from(self.0)]
    }
}

impl fmt::Debug for GateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.gate().name)
    }
}

/// A feature gate.
pub struct Gate {
    pub name: &'static str,
    /// The oldest stage first.
    pub history: &'static [GateSpec],
    /// What has to be on where this one is.
    pub needs: &'static [GateId],
}

/// What a gate is from one release on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GateSpec {
    pub since: Release,
    /// The oldest server that such a cluster may have.
    pub min_compatibility: Option<Release>,
    pub stage: GateStage,
    pub default: bool,
    /// Whether it can be nothing else than its default.
    pub locked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateStage {
    Alpha,
    Beta,
    Stable,
    Deprecated,
}

impl Gate {
    /// What the gate is in a release, in a cluster that has servers as old as `min_compatibility`; nothing
    /// before there was such a gate. Upstream: `featureSpecAtEmulationAndMinCompatVersion`.
    #[must_use]
    pub fn at(&self, release: Release, min_compatibility: Release) -> Option<&'static GateSpec> {
        let fits = |spec: &&GateSpec| {
            spec.since <= release
                && spec
                    .min_compatibility
                    .is_none_or(|least| least <= min_compatibility)
        };
        self.history.iter().rev().find(fits)
    }

    /// What the gate is in a server without flags.
    #[must_use]
    pub fn now(&self) -> Option<&'static GateSpec> {
        self.at(Release::CURRENT, Release::COMPATIBLE)
    }
}

/// Every feature gate, sorted by name.
#[must_use]
pub fn gates() -> &'static [Gate] {
    GATES
}

/// A set of feature gates; small enough to be handed on by value.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Gates([u64; 4]);

impl Gates {
    /// Those that are on in a server without flags.
    #[must_use]
    pub fn defaults() -> Self {
        Self::at(Release::CURRENT, Release::COMPATIBLE)
    }

    /// Those that are on by default in a release; see [`Gate::at`].
    #[must_use]
    pub fn at(release: Release, min_compatibility: Release) -> Self {
        GateId::all().fold(Self::default(), |all, id| {
            let spec = id.gate().at(release, min_compatibility);
            all.with(id, spec.is_some_and(|spec| spec.default))
        })
    }

    #[must_use]
    pub const fn has(self, gate: GateId) -> bool {
        self.0[(gate.0 / 64) as usize] & 1 << (gate.0 % 64) != 0
    }

    /// The same with one gate on or off.
    #[must_use]
    pub const fn with(mut self, gate: GateId, on: bool) -> Self {
        let (word, bit) = ((gate.0 / 64) as usize, 1 << (gate.0 % 64));
        if on {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
        self
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = GateId::all().filter(|id| self.has(*id));
        f.debug_set().entries(on).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate;
    use super::*;

    const CURRENT: Release = Release::CURRENT;

    #[test]
    fn a_gate_is_what_its_history_says_of_the_release() {
        let spec = |id: GateId, minor| {
            let release = Release::new(1, minor);
            id.gate().at(release, release.before(1))
        };
        let bundle = |minor| spec(gate::CLUSTER_TRUST_BUNDLE, minor).map(|s| (s.stage, s.default));
        assert_eq!(bundle(26), None);
        assert_eq!(bundle(36), Some((GateStage::Beta, false)));
        assert_eq!(bundle(37), Some((GateStage::Stable, true)));
        assert!(spec(gate::IN_PLACE_POD_VERTICAL_SCALING, 37).is_some_and(|s| s.locked));
        assert!(spec(gate::IN_PLACE_POD_VERTICAL_SCALING, 34).is_some_and(|s| !s.locked));
    }

    #[test]
    fn a_stage_waits_until_no_server_is_older_than_it_says() {
        let id = gate::DRA_FRACTIONAL_CAPACITY_RANGE;
        assert!(!Gates::defaults().has(id));
        assert!(Gates::at(CURRENT, CURRENT).has(id));
    }

    #[test]
    fn a_set_holds_each_gate_by_itself() {
        assert_eq!(GateId::all().count(), GATES.len());
        for id in GateId::all() {
            let one = Gates::default().with(id, true);
            let all = GateId::all().filter(|other| one.has(*other));
            assert_eq!(all.count(), 1, "{id:?}");
            assert_eq!(one.with(id, false), Gates::default());
            assert_eq!(GateId::find(id.gate().name), Some(id));
        }
    }
}
