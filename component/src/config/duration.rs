//! `metav1.Duration` in files: Go's syntax.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that reads and prints as `1m30s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let duration: proto::time::Duration = text.parse().map_err(D::Error::custom)?;
        duration
            .to_std()
            .map(Self)
            .ok_or_else(|| D::Error::custom("must not be negative"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX);
        serializer.collect_str(&proto::time::Duration(nanos))
    }
}
