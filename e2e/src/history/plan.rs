//! What is done to a cluster and when: a plan that follows from a seed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::random::Random;

/// How many there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub etcd_members: usize,
    pub api_servers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    KillApiserver,
    PauseApiserver,
    KillEtcd,
    PauseEtcd,
    /// An API server and a member of etcd lose each other's packets.
    CutApiserver,
    /// A member of etcd and the others lose each other's packets.
    CutMember,
    MoveLeader,
    Compact,
    /// An API server loses all connections to etcd and gets no new one; what it misses is compacted before it is back.
    CompactBehind,
    Defragment,
    /// etcd has no space left, raises its alarm and refuses writes.
    Full,
}

const KINDS: &[(&str, Kind)] = &[
    ("kill-apiserver", Kind::KillApiserver),
    ("pause-apiserver", Kind::PauseApiserver),
    ("kill-etcd", Kind::KillEtcd),
    ("pause-etcd", Kind::PauseEtcd),
    ("cut-apiserver", Kind::CutApiserver),
    ("cut-member", Kind::CutMember),
    ("move-leader", Kind::MoveLeader),
    ("compact", Kind::Compact),
    ("compact-behind", Kind::CompactBehind),
    ("defragment", Kind::Defragment),
    ("full", Kind::Full),
];

impl Kind {
    /// Whether a cluster of this shape can bear it.
    fn fits(self, shape: Shape) -> bool {
        match self {
            Self::CutMember | Self::MoveLeader => shape.etcd_members > 1,
            _ => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = KINDS.iter().find(|(_, kind)| kind == self);
        out.write_str(known.map_or("", |(name, _)| name))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = KINDS.iter().find(|(known, _)| *known == name);
        let names = || {
            KINDS
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        };
        known
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("{name} is none of {}", names()))
    }
}

/// Reads `kill-apiserver,compact`; `all` and `none` are what they say.
pub fn parse_kinds(list: &str) -> Result<Vec<Kind>, String> {
    match list {
        "all" => Ok(KINDS.iter().map(|(_, kind)| *kind).collect()),
        "none" => Ok(Vec::new()),
        list => list.split(',').map(str::parse).collect(),
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Since the run began.
    pub at: Duration,
    /// After which it is healed, where it does not heal by itself.
    pub lasts: Duration,
    pub kind: Kind,
    /// The API server that it is done to, counted from zero, where it is done to one.
    pub api_server: usize,
    /// The member of etcd likewise.
    pub member: usize,
}

/// Before the first fault there is something to lose; after the last there is time to heal.
const QUIET: Duration = Duration::from_secs(4);

/// The faults of a run that takes `length`: each kind that fits comes once before any comes again.
pub fn plan(seed: u64, length: Duration, shape: Shape, kinds: &[Kind]) -> Vec<Step> {
    let mut random = Random::new(seed);
    let fitting: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| kind.fits(shape))
        .collect();
    let mut steps = Vec::new();
    let mut turn: Vec<Kind> = Vec::new();
    let mut at = QUIET;
    while !fitting.is_empty() {
        if turn.is_empty() {
            turn.clone_from(&fitting);
        }
        let kind = turn.swap_remove(random.below(turn.len()));
        let lasts = Duration::from_millis(random.between(500, 5000));
        if at + lasts + QUIET > length {
            break;
        }
        steps.push(Step {
            at,
            lasts,
            kind,
            api_server: random.below(shape.api_servers),
            member: random.below(shape.etcd_members),
        });
        at += lasts + Duration::from_millis(random.between(1000, 4000));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Shape = Shape {
        etcd_members: 3,
        api_servers: 3,
    };
    const ONE: Shape = Shape {
        etcd_members: 1,
        api_servers: 1,
    };

    #[test]
    fn a_plan_follows_from_its_seed() {
        let all = parse_kinds("all").unwrap();
        let length = Duration::from_secs(180);
        assert_eq!(plan(7, length, THREE, &all), plan(7, length, THREE, &all));
        assert_ne!(plan(7, length, THREE, &all), plan(8, length, THREE, &all));
        assert_eq!(plan(7, length, THREE, &[]), []);
    }

    #[test]
    fn each_kind_that_fits_comes_and_leaves_time_to_heal() {
        let all = parse_kinds("all").unwrap();
        let length = Duration::from_secs(180);
        for shape in [ONE, THREE] {
            let steps = plan(1, length, shape, &all);
            for kind in &all {
                let comes = steps.iter().any(|step| step.kind == *kind);
                assert_eq!(comes, kind.fits(shape), "{kind}");
            }
            for pair in steps.windows(2) {
                assert!(pair[0].at + pair[0].lasts < pair[1].at);
            }
            assert!(
                steps
                    .iter()
                    .all(|step| step.at + step.lasts + QUIET <= length)
            );
            assert!(steps.iter().all(|step| step.member < shape.etcd_members));
        }
    }

    #[test]
    fn kinds_are_read_by_their_names() {
        assert_eq!(
            parse_kinds("compact,full").unwrap(),
            [Kind::Compact, Kind::Full]
        );
        assert_eq!(parse_kinds("none").unwrap(), []);
        for (name, kind) in KINDS {
            assert_eq!(kind.to_string(), *name);
        }
        assert!(parse_kinds("clock").unwrap_err().contains("kill-etcd"));
    }
}
