//! Why volumes are not there, in the words of upstream's events.

/// Something that is tried, and how it is told if it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The event's reason.
    reason: &'static str,
    /// `MountVolume.SetUp failed`
    words: &'static str,
}

impl Step {
    /// One of mounting a file system.
    pub(super) const fn mount(words: &'static str) -> Self {
        Self {
            reason: "FailedMount",
            words,
        }
    }

    /// One of giving a device to containers.
    pub(super) const fn map(words: &'static str) -> Self {
        Self {
            reason: "FailedMapVolume",
            words,
        }
    }
}

pub(super) const SET_UP: Step = Step::mount("MountVolume.SetUp failed");

/// Why one of a pod's volumes is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What the volume is cannot be said: its claim is not bound, or there is nothing that makes it.
    Unprocessed { volume: String, cause: String },
    /// Something that was tried did not work.
    Step {
        /// The pod's name for the volume.
        volume: String,
        /// What the message calls it: persistent volumes have a name of their own.
        name: String,
        step: Step,
        cause: String,
    },
}

impl Failure {
    /// A volume could not be made.
    pub(super) fn set_up(volume: &str, cause: impl Into<String>) -> Self {
        Self::Step {
            volume: volume.to_owned(),
            name: volume.to_owned(),
            step: SET_UP,
            cause: cause.into(),
        }
    }

    fn volume(&self) -> &str {
        match self {
            Self::Unprocessed { volume, .. } | Self::Step { volume, .. } => volume,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unprocessed { cause, .. } => f.write_str(cause),
            Self::Step {
                name, step, cause, ..
            } => write!(f, "{} for volume {name:?} : {cause}", step.words),
        }
    }
}

/// The events about a pod's failures: reasons and messages.
#[must_use]
pub fn events(failures: &[Failure]) -> Vec<(&'static str, String)> {
    let mut events: Vec<_> = failures
        .iter()
        .filter_map(|failure| match failure {
            Failure::Unprocessed { .. } => None,
            Failure::Step { step, .. } => Some((step.reason, failure.to_string())),
        })
        .collect();
    let unprocessed: Vec<_> = failures
        .iter()
        .filter(|f| matches!(f, Failure::Unprocessed { .. }))
        .collect();
    if !unprocessed.is_empty() {
        let names = |failures: &[&Failure]| {
            let mut names: Vec<_> = failures.iter().map(|f| f.volume()).collect();
            names.sort_unstable();
            names.dedup();
            names.join(" ")
        };
        let causes: Vec<_> = unprocessed.iter().map(ToString::to_string).collect();
        let message = format!(
            "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], \
             failed to process volumes=[{}]: {}",
            names(&failures.iter().collect::<Vec<_>>()),
            names(&unprocessed),
            causes.join("; ")
        );
        events.push(("FailedMount", message));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_processed_is_told_in_one_event() {
        let unprocessed = |volume: &str, cause: &str| Failure::Unprocessed {
            volume: volume.into(),
            cause: cause.into(),
        };
        let failures = [
            unprocessed("b", "error processing PVC ns/c: PVC is not bound"),
            Failure::set_up("a", "no"),
            unprocessed("c", "no such plugin"),
        ];
        let said = events(&failures);
        assert_eq!(
            said,
            [
                (
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"a\" : no".to_owned()
                ),
                (
                    "FailedMount",
                    "Unable to attach or mount volumes: unmounted volumes=[a b c], unattached \
                     volumes=[], failed to process volumes=[b c]: error processing PVC ns/c: PVC is \
                     not bound; no such plugin"
                        .to_owned()
                ),
            ]
        );
    }

    #[test]
    fn devices_have_a_reason_of_their_own() {
        let failure = Failure::Step {
            volume: "v".into(),
            name: "pv".into(),
            step: Step::map("MapVolume.MapPodDevice failed"),
            cause: "so".into(),
        };
        let message = "MapVolume.MapPodDevice failed for volume \"pv\" : so".to_owned();
        assert_eq!(events(&[failure]), [("FailedMapVolume", message)]);
    }
}
