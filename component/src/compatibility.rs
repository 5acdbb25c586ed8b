//! Which release a daemon behaves like, and which its cluster's oldest server has (KEP-4330).
//!
//! Upstream: `component-base/compatibility`, `apiserver/pkg/util/compatibility`.

use proto::catalogue::{Gate, GateSpec, Release};

use crate::args::{self, Args};
use crate::version;

/// The component that a version or gate without prefix belongs to; there is no other.
pub const COMPONENT: &str = "kube";

/// How far behind may be what is emulated, and what one is compatible with.
const OLDEST: Release = Release::CURRENT.before(3);

/// What a daemon is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EffectiveVersion {
    /// The release whose resources and gates there are.
    pub emulation: Release,
    /// The oldest release that a server of this cluster has, or may go back to.
    pub min_compatibility: Release,
}

impl Default for EffectiveVersion {
    fn default() -> Self {
        Self::emulating(Release::CURRENT)
    }
}

/// Why no daemon can be of such a version.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("could not parse {0:?} as version")]
    Unreadable(String),
    #[error("illegal version string {0:?}")]
    Short(String),
    #[error("patch version not allowed, got: {0}={1}")]
    Patch(String, String),
    #[error("component not registered: {0}")]
    Component(String),
    #[error("duplicate version flag, {COMPONENT}={0} and {COMPONENT}={1}")]
    Twice(Release, Release),
    #[error("emulation version {0} is not between [{OLDEST}, {current}.0]", current = Release::CURRENT)]
    Emulation(Release),
    #[error("minCompatibilityVersion version {0} is not between [{OLDEST}, {1}]")]
    MinCompatibility(Release, Release),
}

impl EffectiveVersion {
    /// Of a release, beside servers that are one older.
    #[must_use]
    pub fn emulating(emulation: Release) -> Self {
        Self {
            emulation,
            min_compatibility: emulation.before(1).max(OLDEST),
        }
    }

    /// What `--emulated-version` and `--min-compatibility-version` say.
    ///
    /// # Errors
    /// If they are no releases, or not among those that can be emulated.
    pub fn from_args(args: &Args) -> Result<Self, Error> {
        let emulated = release(&args.get(&args::EMULATED_VERSION))?;
        let mut version = Self::emulating(emulated.unwrap_or(Release::CURRENT));
        if let Some(least) = release(&args.get(&args::MIN_COMPATIBILITY_VERSION))? {
            version.min_compatibility = least;
        }
        let Self {
            emulation,
            min_compatibility,
        } = version;
        if !(OLDEST..=Release::CURRENT).contains(&emulation) {
            return Err(Error::Emulation(emulation));
        }
        if !(OLDEST..=emulation).contains(&min_compatibility) {
            return Err(Error::MinCompatibility(min_compatibility, emulation));
        }
        Ok(version)
    }

    /// What a gate is in it; nothing before there was such a gate.
    #[must_use]
    pub fn spec(self, gate: &Gate) -> Option<&'static GateSpec> {
        gate.at(self.emulation, self.min_compatibility)
    }

    /// Whether the daemon behaves like another release than its own.
    #[must_use]
    pub fn emulates(self) -> bool {
        self.emulation != Release::CURRENT
    }

    /// What `/version` answers.
    #[must_use]
    pub fn info(self) -> version::Info {
        let (emulation, least) = (self.emulation, self.min_compatibility);
        version::Info {
            emulation_major: emulation.major.to_string(),
            emulation_minor: emulation.minor.to_string(),
            min_compatibility_major: least.major.to_string(),
            min_compatibility_minor: least.minor.to_string(),
            ..version::info()
        }
    }
}

/// The release of our component among those given: `1.36`, `kube=1.36`.
fn release(given: &[String]) -> Result<Option<Release>, Error> {
    let mut found = None;
    for pair in given {
        let (component, text) = match pair.split_once('=') {
            Some((component, text)) => (component.trim(), text.trim()),
            None => (COMPONENT, pair.as_str()),
        };
        let release = read(component, text)?;
        if component != COMPONENT {
            return Err(Error::Component(component.to_owned()));
        }
        match found {
            Some(before) => return Err(Error::Twice(before, release)),
            None => found = Some(release),
        }
    }
    Ok(found)
}

/// Numbers with dots between, behind a `v` or not; what follows them does not count (`version.Parse`).
fn read(component: &str, text: &str) -> Result<Release, Error> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix('v').unwrap_or(trimmed);
    let end = digits.find(|c: char| c != '.' && !c.is_ascii_digit());
    let numbers: Vec<&str> = digits[..end.unwrap_or(digits.len())].split('.').collect();
    // A dot that no number follows belongs to what does not count.
    let count = numbers.iter().take_while(|n| !n.is_empty()).count();
    let number = |i: usize| -> Result<u8, Error> {
        let parsed: Result<u64, _> = numbers[i].parse();
        // What has a zero before its first number is none.
        let odd = i == 0 && numbers[i].len() > 1 && numbers[i].starts_with('0');
        match parsed {
            Ok(n) if !odd => Ok(u8::try_from(n).unwrap_or(u8::MAX)),
            _ => Err(Error::Unreadable(text.to_owned())),
        }
    };
    match count {
        0 => return Err(Error::Unreadable(text.to_owned())),
        1 => return Err(Error::Short(text.to_owned())),
        _ => {}
    }
    if count > 2 && number(2)? != 0 {
        return Err(Error::Patch(
            component.to_owned(),
            numbers[..count].join("."),
        ));
    }
    Ok(Release::new(number(0)?, number(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(line: &[&str]) -> Result<EffectiveVersion, String> {
        let args = Args::parse("demo", "A demo.", &[args::versions()], line).unwrap();
        EffectiveVersion::from_args(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn a_cluster_is_compatible_with_the_release_before() {
        let all = |emulated: &str| {
            let flag = format!("--emulated-version={emulated}");
            let version = version(&[&flag]).unwrap();
            (version.emulation.minor, version.min_compatibility.minor)
        };
        assert_eq!(version(&[]).unwrap(), EffectiveVersion::default());
        assert_eq!(all("1.37"), (37, 36));
        assert_eq!(all("kube=1.35"), (35, 34));
        assert_eq!(all("v1.34.0"), (34, 34));
    }

    #[test]
    fn three_releases_back_is_as_far_as_it_goes() {
        let refused = |line: &[&str], why: &str| assert_eq!(version(line).unwrap_err(), why);
        refused(
            &["--emulated-version=1.33"],
            "emulation version 1.33 is not between [1.34, 1.37.0]",
        );
        refused(
            &["--emulated-version=1.38"],
            "emulation version 1.38 is not between [1.34, 1.37.0]",
        );
        refused(
            &[
                "--emulated-version=1.35",
                "--min-compatibility-version=1.36",
            ],
            "minCompatibilityVersion version 1.36 is not between [1.34, 1.35]",
        );
        assert!(version(&["--min-compatibility-version=1.37"]).is_ok());
    }

    #[test]
    fn what_is_no_release_is_said() {
        for (given, why) in [
            ("abc", "could not parse \"abc\" as version"),
            ("1", "illegal version string \"1\""),
            ("1.36.2", "patch version not allowed, got: kube=1.36.2"),
            ("wardle=1.2", "component not registered: wardle"),
            (
                "1.36,1.35",
                "duplicate version flag, kube=1.36 and kube=1.35",
            ),
        ] {
            let flag = format!("--emulated-version={given}");
            assert_eq!(version(&[&flag]).unwrap_err(), why);
        }
    }
}
