//! Names of fields and keys of maps.
//!
//! Every JSON field name of the catalogue is interned at build time; its [`NameId`] is its place in
//! the sorted list of them all. Invariant: a [`Name`] whose text is in the catalogue is always
//! [`Name::Known`], so two names are equal exactly if their representations are, and ids compare as
//! their texts do.

use std::cmp::Ordering;
use std::fmt;

use crate::catalogue;

mod hash;

/// A field name of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub(crate) u16);

impl NameId {
    /// The id of `text`, if the catalogue has a field of that name. One perfect-hash lookup.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let hash = hash::hash(text.as_bytes(), catalogue::NAME_SEED);
        let displacement = catalogue::NAME_DISPLACEMENTS[hash::bucket(hash)];
        let id = catalogue::NAME_SLOTS[hash::slot(hash, displacement)];
        (catalogue::NAMES[usize::from(id)] == text).then_some(Self(id))
    }

    /// The name as it stands in JSON.
    #[must_use]
    pub fn text(self) -> &'static str {
        catalogue::NAMES[usize::from(self.0)]
    }
}

impl fmt::Debug for NameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The name of an entry of a map: a field name of the catalogue, or any other key (labels, data,
/// fields of custom resources).
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Name {
    Known(NameId),
    /// Invariant: not in the catalogue. Make it with [`Name::new`].
    Other(Box<str>),
}

impl Name {
    #[must_use]
    pub fn new(text: &str) -> Self {
        match NameId::find(text) {
            Some(id) => Self::Known(id),
            None => Self::Other(text.into()),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(id) => id.text(),
            Self::Other(text) => text,
        }
    }

    #[must_use]
    pub fn known(&self) -> Option<NameId> {
        match self {
            Self::Known(id) => Some(*id),
            Self::Other(_) => None,
        }
    }
}

impl From<NameId> for Name {
    fn from(id: NameId) -> Self {
        Self::Known(id)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        match NameId::find(&text) {
            Some(id) => Self::Known(id),
            None => Self::Other(text.into_boxed_str()),
        }
    }
}

impl Ord for Name {
    /// The order of the texts by bytes, which is the order in which Go prints the keys of a map.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.cmp(b),
            _ => self.as_str().cmp(other.as_str()),
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a map can be asked with: an id (no text is touched while both sides are known) or a text.
pub trait Key: Copy {
    fn cmp_name(self, name: &Name) -> Ordering;
    fn to_name(self) -> Name;
}

impl Key for NameId {
    fn cmp_name(self, name: &Name) -> Ordering {
        match name {
            Name::Known(id) => self.cmp(id),
            Name::Other(text) => self.text().cmp(text),
        }
    }
    fn to_name(self) -> Name {
        Name::Known(self)
    }
}

impl Key for &str {
    fn cmp_name(self, name: &Name) -> Ordering {
        self.cmp(name.as_str())
    }
    fn to_name(self) -> Name {
        Name::new(self)
    }
}

impl Key for &Name {
    fn cmp_name(self, name: &Name) -> Ordering {
        self.cmp(name)
    }
    fn to_name(self) -> Name {
        self.clone()
    }
}
