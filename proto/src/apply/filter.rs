//! Which fields a write to a resource, or to one of its subresources, can own at all.

use super::set::{Node, Set};

/// Taken from what the server resets on such a write: a field that it takes from the stored object
/// whatever the client sends is nobody's.
#[derive(Clone, Debug, Default)]
pub enum Filter {
    #[default]
    All,
    /// Not these, nor what is below them.
    Without(Set),
    /// Only these and what is below and above them; a star stands for any element.
    Only(&'static [&'static [&'static str]]),
}

impl Filter {
    /// Without the fields of dotted paths.
    #[must_use]
    pub fn without(paths: &[&str]) -> Self {
        if paths.is_empty() {
            Self::All
        } else {
            Self::Without(Set::of_dotted(paths.iter().copied()))
        }
    }

    pub(super) fn apply(&self, set: &mut Set) {
        match self {
            Self::All => {}
            Self::Without(fields) => set.difference_deep(fields),
            Self::Only(paths) => keep(set, paths),
        }
    }
}

fn keep(set: &mut Set, paths: &[&[&str]]) {
    if paths.iter().any(|p| p.is_empty()) {
        return;
    }
    set.nodes.retain_mut(|node| {
        let below: Vec<&[&str]> = paths
            .iter()
            .filter(|path| matches(node, path[0]))
            .map(|path| &path[1..])
            .collect();
        if below.is_empty() {
            return false;
        }
        keep(&mut node.below, &below);
        node.member || !node.below.is_empty()
    });
}

fn matches(node: &Node, step: &str) -> bool {
    step == "*" || node.element.is_field().is_some_and(|n| n.as_str() == step)
}
