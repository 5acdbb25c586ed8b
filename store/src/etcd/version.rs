//! What an etcd version can be trusted with.

use std::fmt;

/// An etcd release.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl Version {
    /// Reads `3.5.13` and `3.7.0-rc.1`; a pre-release counts as its release.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut parts = core.split('.').map(|p| p.parse().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
        };
        parts.next().is_none().then_some(version)
    }

    /// A progress answer says how far a watch has got, and tells the truth. Before these releases it
    /// could claim events that had not been delivered (etcd issues 15220 and 17507).
    #[must_use]
    pub fn progress_is_true(self) -> bool {
        let Self {
            major,
            minor,
            patch,
        } = self;
        match (major, minor) {
            (3, 4) => patch >= 31,
            (3, 5) => patch >= 13,
            _ => (major, minor) > (3, 5),
        }
    }

    /// What has to be told to whoever runs this etcd.
    #[must_use]
    pub fn shortcoming(version: Option<Self>) -> Option<Shortcoming> {
        match version {
            None => Some(Shortcoming::Unknown),
            Some(version) if version < Self::OLDEST => Some(Shortcoming::TooOld),
            Some(version) if !version.progress_is_true() => Some(Shortcoming::NoProgress),
            Some(_) => None,
        }
    }

    /// Fragments of responses and progress requests came with it.
    const OLDEST: Self = Self {
        major: 3,
        minor: 4,
        patch: 0,
    };

    /// Large reads can be streamed.
    #[must_use]
    pub fn has_range_stream(self) -> bool {
        (self.major, self.minor) >= (3, 7)
    }
}

/// Where an etcd falls short of what a store makes use of. It is used all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Shortcoming {
    #[error("its version cannot be read; only what etcd 3.4.0 can do is used")]
    Unknown,
    #[error("it is older than 3.4.0, with which nothing was tried: upgrade it")]
    TooOld,
    #[error(
        "it may claim progress that it has not made, so that quiet moments cost reads a request to \
         etcd each: upgrade it to 3.4.31, 3.5.13 or later"
    )]
    NoProgress,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_falls_short_is_told_apart() {
        for (text, expected) in [
            ("3.3.27", Some(Shortcoming::TooOld)),
            ("2.3.8", Some(Shortcoming::TooOld)),
            ("3.4.23", Some(Shortcoming::NoProgress)),
            ("3.5.12", Some(Shortcoming::NoProgress)),
            ("3.4.31", None),
            ("3.7.0", None),
            ("not a version", Some(Shortcoming::Unknown)),
        ] {
            assert_eq!(
                Version::shortcoming(Version::parse(text)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn progress_is_believed_only_from_the_fixed_releases_on() {
        let believed = |text| Version::parse(text).is_some_and(Version::progress_is_true);
        for (text, expected) in [
            ("3.4.23", false),
            ("3.4.30", false),
            ("3.4.31", true),
            ("3.5.0", false),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0-rc.1", true),
            ("3.7.0", true),
            ("4.0.0", true),
            ("3.3.27", false),
            ("x", false),
        ] {
            assert_eq!(believed(text), expected, "{text}");
        }
    }
}
