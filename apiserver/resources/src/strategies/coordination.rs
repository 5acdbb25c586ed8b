//! Leases and who could hold them. Upstream: `pkg/registry/coordination`, `pkg/apis/coordination/validation`.

use std::cmp::Ordering;

use proto::catalogue::{gate, names as n};
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::view::coordination_v1::Lease;
use proto::view::coordination_v1beta1::LeaseCandidate;
use proto::view::{Node, View};
use proto::{Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::gated::{self, Gated};
use crate::rules;
use crate::strategy::Strategy;
use crate::table::age;

pub static LEASE: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    prepare_create: |cx, new| gated::drop_unused(cx.gates, new, None, COORDINATED),
    prepare_update: |cx, new, old| gated::drop_unused(cx.gates, new, Some(old), COORDINATED),
    validate: |_, object, e| lease(object, e),
    validate_update: |_, new, _, e| lease(new, e),
    cells: Some(|object, now| {
        let holder = Lease::of(Node::new(object))
            .spec()
            .holder_identity()
            .unwrap_or_default();
        vec![
            meta::name(object).into(),
            holder.into(),
            age(meta::creation_timestamp(object), now).into(),
        ]
    }),
    ..Strategy::DEFAULT
};

const COORDINATED: &[Gated] = &[
    (gate::COORDINATED_LEADER_ELECTION, &[n::SPEC, n::STRATEGY]),
    (
        gate::COORDINATED_LEADER_ELECTION,
        &[n::SPEC, n::PREFERRED_HOLDER],
    ),
];

fn lease(object: &Value, e: &mut Errors<'_>) {
    let spec = Lease::of(Node::new(object)).spec();
    rules::positive(e, spec, n::LEASE_DURATION_SECONDS);
    rules::not_negative(e, spec, n::LEASE_TRANSITIONS);
    let strategy = spec.strategy();
    if let Some(strategy) = strategy {
        strategy_name(strategy, Spot::of(spec).field(n::STRATEGY), e);
    }
    let preferred = spec.preferred_holder().unwrap_or_default();
    if !preferred.is_empty() && strategy.is_none_or(str::is_empty) {
        let detail = "may only be specified if `strategy` is defined";
        e.forbidden(Spot::of(spec).field(n::PREFERRED_HOLDER), detail);
    }
}

/// `ValidateCoordinatedLeaseStrategy`. Upstream names the field twice in the path.
fn strategy_name(strategy: &str, at: Spot<'_>, e: &mut Errors<'_>) {
    let at = at.field(n::STRATEGY);
    if strategy.contains('/') {
        let problems = names::label_key_problems(strategy);
        e.invalid_each(at, Named(strategy), problems);
    } else if strategy != OLDEST {
        e.not_supported(at, Named(strategy), &[OLDEST]);
    }
}

const OLDEST: &str = "OldestEmulationVersion";

/// Who could hold a lease. Its columns are name and age.
pub static LEASE_CANDIDATE: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    // A dash at the end of a prefix is part of it.
    name: |name, _| names::config_map_key_problems(name),
    validate: |_, object, e| candidate(object, e),
    validate_update: |_, new, old, e| {
        candidate(new, e);
        let name = |object| {
            let spec = LeaseCandidate::of(Node::new(object)).spec();
            (Spot::of(spec).field(n::LEASE_NAME), spec.lease_name())
        };
        let ((at, now), (_, was)) = (name(new), name(old));
        if now != was {
            e.invalid(at, now, rules::IMMUTABLE);
        }
    },
    ..Strategy::DEFAULT
};

/// `ValidateLeaseCandidateSpec`.
fn candidate(object: &Value, e: &mut Errors<'_>) {
    let spec = LeaseCandidate::of(Node::new(object)).spec();
    let at = |field| Spot::of(spec).field(field);
    const NO_VERSION: &str = "must be a valid semantic version";
    rules::required(e, spec, n::LEASE_NAME);
    let (emulation, binary) = (spec.emulation_version(), spec.binary_version());
    let emulated = Version::parse(emulation);
    if !emulation.is_empty() && emulated.is_none() {
        e.invalid(at(n::EMULATION_VERSION), emulation, NO_VERSION);
    }
    let runs = Version::parse(binary);
    if rules::required(e, spec, n::BINARY_VERSION) && runs.is_none() {
        e.invalid(at(n::BINARY_VERSION), binary, NO_VERSION);
    }
    // What is no version counts as the zero one.
    let emulated = emulated.unwrap_or_default();
    if !binary.is_empty() && !emulation.is_empty() && runs.unwrap_or_default() < emulated {
        let detail = "must be greater than or equal to `emulationVersion`";
        e.invalid(at(n::BINARY_VERSION), binary, detail);
    }
    let strategy = spec.strategy();
    if strategy.is_empty() {
        return e.required(at(n::STRATEGY), "");
    }
    if strategy == OLDEST && emulated == Version::default() {
        let detail = "must be specified when `strategy` is 'OldestEmulationVersion'";
        e.required(at(n::EMULATION_VERSION), detail);
    }
    strategy_name(strategy, at(n::STRATEGY), e);
}

/// A version of <https://semver.org>; what is built is not compared.
#[derive(Default, PartialEq, Eq, Debug)]
struct Version {
    numbers: [u64; 3],
    before: Vec<Identifier>,
}

/// A part of what stands behind the dash; numbers come before texts.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let released = |v: &Self| v.before.is_empty();
        let numbers = self.numbers.cmp(&other.numbers);
        let whole = numbers.then(released(self).cmp(&released(other)));
        Some(whole.then_with(|| self.before.cmp(&other.before)))
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let (rest, built) = rest
            .split_once('+')
            .map_or((rest, None), |(r, b)| (r, Some(b)));
        let (patch, before) = rest
            .split_once('-')
            .map_or((rest, None), |(r, b)| (r, Some(b)));
        let word = |part: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !part.is_empty() && part.bytes().all(byte)
        };
        if built.is_some_and(|built| !built.split('.').all(word)) {
            return None;
        }
        let identifier = |part: &str| -> Option<Identifier> {
            if part.bytes().all(|b| b.is_ascii_digit()) {
                number(part).map(Identifier::Number)
            } else {
                word(part).then(|| Identifier::Text(part.to_owned()))
            }
        };
        let before: Option<Vec<Identifier>> = match before {
            Some(before) => before.split('.').map(identifier).collect(),
            None => Some(Vec::new()),
        };
        Some(Self {
            numbers: [number(major)?, number(minor)?, number(patch)?],
            before: before?,
        })
    }
}

/// Digits without leading zeros.
fn number(text: &str) -> Option<u64> {
    let plain = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (plain && digits).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semver_says() {
        let ordered = [
            "0.9.0",
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0",
            "1.0.10",
            "1.2.0",
        ];
        for pair in ordered.windows(2) {
            assert!(
                Version::parse(pair[0]) < Version::parse(pair[1]),
                "{pair:?}"
            );
        }
        assert_eq!(Version::parse("1.0.0+a"), Version::parse("1.0.0+b"));
        for bad in [
            "", "1", "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3", "1.2.x",
        ] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
