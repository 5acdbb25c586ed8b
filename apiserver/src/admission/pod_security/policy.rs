//! What a namespace asks for: a standard to enforce, one to audit by and one to warn by.
//!
//! Upstream: `pod-security-admission/api/helpers.go`.

use proto::path::FieldError;
use proto::{Value, meta};

/// How strict a standard is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

const LEVELS: [(&str, Level); 3] = [
    ("privileged", Level::Privileged),
    ("baseline", Level::Baseline),
    ("restricted", Level::Restricted),
];

impl Level {
    pub(super) fn named(name: &str) -> Result<Self, &'static str> {
        let known = LEVELS.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, level)| *level)
            .ok_or("must be one of privileged, baseline, restricted")
    }

    pub(super) fn name(self) -> &'static str {
        let known = LEVELS.iter().find(|(_, level)| *level == self);
        known.map_or("", |(name, _)| name)
    }
}

/// A release, 1.`minor`; none is the latest.
pub(super) type Version = Option<u32>;

pub(super) fn version(text: &str) -> Result<Version, &'static str> {
    const PROBLEM: &str = "must be \"latest\" or \"v1.x\"";
    if text == "latest" {
        return Ok(None);
    }
    let minor = text
        .strip_prefix("v1.")
        .filter(|m| *m == "0" || !m.starts_with('0') && m.bytes().all(|b| b.is_ascii_digit()));
    minor.and_then(|m| m.parse().ok()).map(Some).ok_or(PROBLEM)
}

/// A level, as of a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) minor: Version,
}

impl Standard {
    pub(super) const PRIVILEGED: Self = Self {
        level: Level::Privileged,
        minor: None,
    };

    pub(super) fn is_privileged(self) -> bool {
        self.level == Level::Privileged
    }

    /// Whether two standards forbid the same.
    fn is_like(self, other: Self) -> bool {
        self == other || self.is_privileged() && other.is_privileged()
    }
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = self.level.name();
        match self.minor {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

/// The ways to apply a standard, as labels begin with them.
const MODES: [&str; 3] = ["enforce", "audit", "warn"];

impl Policy {
    pub(super) const PRIVILEGED: Self = Self {
        enforce: Standard::PRIVILEGED,
        audit: Standard::PRIVILEGED,
        warn: Standard::PRIVILEGED,
    };

    pub(super) fn is_privileged(&self) -> bool {
        let standards = [self.enforce, self.audit, self.warn];
        standards.iter().all(|standard| standard.is_privileged())
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.enforce.is_like(other.enforce)
            && self.audit.is_like(other.audit)
            && self.warn.is_like(other.warn)
    }

    /// Of the labels of a namespace, and what is wrong with them. What they do not say, the defaults do.
    /// A level that cannot be read enforces the most, and audits and warns of nothing.
    pub(super) fn of<'l>(
        labels: impl Fn(&str) -> Option<&'l str>,
        defaults: Self,
    ) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut read = |mode: &str, standard: &mut Standard, otherwise: Level| {
            let mut problem = |key: &str, value: &str, why: &str| {
                let at = format!("metadata.labels[{key}]");
                errors.push(FieldError::invalid(at, value, why));
            };
            let key = label(mode);
            let level = labels(&key);
            if let Some(text) = level {
                standard.level = Level::named(text).unwrap_or_else(|why| {
                    problem(&key, text, why);
                    otherwise
                });
            }
            let key = version_label(mode);
            let versioned = labels(&key);
            if let Some(text) = versioned {
                standard.minor = version(text).unwrap_or_else(|why| {
                    problem(&key, text, why);
                    None
                });
            }
            (level, versioned.is_some())
        };
        let mut policy = defaults;
        let (enforced, _) = read("enforce", &mut policy.enforce, Level::Restricted);
        read("audit", &mut policy.audit, Level::Privileged);
        let (warned, versioned) = read("warn", &mut policy.warn, Level::Privileged);
        // Who enforces a level should see what his workloads' pods will meet.
        let understood = enforced.is_some_and(|text| Level::named(text).is_ok());
        if warned.is_none() && understood && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !versioned {
                policy.warn.minor = policy.enforce.minor;
            }
        }
        (policy, errors)
    }

    /// The modes that a namespace's labels ask for, where they forbid something.
    pub(super) fn asked(&self, namespace: &Value) -> String {
        let given = |mode: &str| {
            [label(mode), version_label(mode)]
                .iter()
                .any(|key| meta::label(namespace, key).is_some())
        };
        let standards = [self.enforce, self.audit, self.warn];
        let asked = MODES.iter().zip(standards);
        let asked = asked.filter(|(mode, standard)| !standard.is_privileged() && given(mode));
        let asked: Vec<String> = asked
            .map(|(mode, standard)| format!("{mode}={standard}"))
            .collect();
        asked.join(", ")
    }
}

fn label(mode: &str) -> String {
    format!("pod-security.kubernetes.io/{mode}")
}

fn version_label(mode: &str) -> String {
    format!("pod-security.kubernetes.io/{mode}-version")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(labels: &[(&str, &str)]) -> Value {
        let mut namespace = Value::object();
        for (key, value) in labels {
            meta::set_label(&mut namespace, &label(key), value);
        }
        namespace
    }

    fn among<'l>(labels: &'l [(&'l str, &'l str)]) -> impl Fn(&str) -> Option<&'l str> {
        move |key| {
            let found = labels.iter().find(|(mode, _)| label(mode) == key);
            found.map(|(_, value)| *value)
        }
    }

    fn labelled(labels: &[(&str, &str)]) -> ([String; 3], Vec<String>) {
        let (policy, errors) = Policy::of(among(labels), Policy::PRIVILEGED);
        (
            [policy.enforce, policy.audit, policy.warn].map(|s| s.to_string()),
            errors.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn labels_name_the_standard() {
        let privileged = "privileged:latest";
        let standards = |labels: &[(&str, &str)]| {
            let (standards, errors) = labelled(labels);
            assert_eq!(errors, [""; 0]);
            standards
        };
        assert_eq!(standards(&[]), [privileged; 3]);
        assert_eq!(
            standards(&[("enforce", "baseline"), ("enforce-version", "v1.30")]),
            ["baseline:v1.30", privileged, "baseline:v1.30"]
        );
        assert_eq!(
            standards(&[("enforce", "restricted"), ("warn", "privileged")]),
            ["restricted:latest", privileged, privileged]
        );
        assert_eq!(
            standards(&[("audit", "restricted"), ("audit-version", "v1.20")]),
            [privileged, "restricted:v1.20", privileged]
        );
        let (standards, errors) = labelled(&[
            ("enforce", "loose"),
            ("audit-version", "1.30"),
            ("warn", "x"),
        ]);
        assert_eq!(standards, ["restricted:latest", privileged, privileged]);
        assert_eq!(errors.len(), 3);
        let first = r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "loose": must be one of privileged, baseline, restricted"#;
        assert_eq!(errors[0], first);
    }

    #[test]
    fn what_labels_do_not_say_the_defaults_do() {
        let baseline = Standard {
            level: Level::Baseline,
            minor: Some(30),
        };
        let defaults = Policy {
            enforce: baseline,
            audit: baseline,
            warn: baseline,
        };
        let of = |labels: &[(&str, &str)]| Policy::of(among(labels), defaults).0;
        assert_eq!(of(&[]), defaults);
        let stricter = of(&[("enforce", "restricted")]);
        let restricted = Standard {
            level: Level::Restricted,
            ..baseline
        };
        assert_eq!((stricter.enforce, stricter.warn), (restricted, restricted));
        assert_eq!(of(&[("enforce", "privileged")]).warn, baseline);
        assert!(of(&[]).is_like(&defaults) && !stricter.is_like(&defaults));
        assert_eq!(
            stricter.asked(&namespace(&[("enforce", "restricted")])),
            "enforce=restricted:v1.30"
        );
    }

    #[test]
    fn versions_are_read_strictly() {
        assert_eq!(version("latest"), Ok(None));
        assert_eq!(version("v1.0"), Ok(Some(0)));
        for wrong in ["", "1.30", "v1.", "v1.030", "v2.1", "v1.x", "v1.+3"] {
            assert!(version(wrong).is_err(), "{wrong}");
        }
    }
}
