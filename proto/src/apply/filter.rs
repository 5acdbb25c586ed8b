//! Which fields a write to a resource, or to one of its subresources, can own at all.

use super::set::Set;

/// The fields that the server resets on such a write: it takes them, and what is below them, from the
/// stored object whatever the client sends, so they are nobody's.
#[derive(Clone, Debug, Default)]
pub struct Filter(Set);

impl Filter {
    /// Without the fields of dotted paths.
    #[must_use]
    pub fn without(paths: &[&str]) -> Self {
        Self(Set::of_dotted(paths.iter().copied()))
    }

    pub(super) fn apply(&self, set: &mut Set) {
        set.difference_deep(&self.0);
    }
}
