//! What a schema cannot say about a resource: one [`Strategy`] a resource, a table of functions.
//!
//! A strategy is data: the generic registry calls its functions at the points where upstream's
//! `registry/rest` calls the methods of the same names. `..Strategy::DEFAULT` fills in what most
//! resources share.

use component::serving::User;
use proto::Value;
use proto::catalogue::Gates;
use proto::path::{Errors, FieldError};

use crate::before::Deletion;
use crate::options::DeleteOptions;
use crate::status::Failure;

/// What a strategy may know about the request.
pub struct Cx<'a> {
    pub user: &'a User,
    /// The namespace of the path; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Now, in whole seconds, as a canonical time.
    pub now: &'a str,
    /// Unix seconds of `now`.
    pub now_seconds: i64,
    pub dry_run: bool,
    /// The feature gates that are on.
    pub gates: Gates,
    /// `--allow-privileged`.
    pub allow_privileged: bool,
    /// What whoever was asked has against the write; it is told before what the strategy finds.
    pub objections: &'a [FieldError],
}

/// Checks a name; the texts of what is wrong with it. `true` for a prefix (`generateName`).
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// Names one object of a list.
pub type Choice = fn(&[Value]) -> Option<String>;

/// Which of two objects comes first.
pub type Order = fn(&Value, &Value) -> std::cmp::Ordering;

pub struct Strategy {
    pub name: NameRule,
    /// Whether a name is drawn for an object that says what it begins with; else that is its name.
    pub draws_names: bool,
    /// Defaults that depend on other fields; the constant ones come from the catalogue first. Works on
    /// objects of the request's version.
    pub default: fn(Gates, &mut Value),
    pub prepare_create: fn(&Cx<'_>, &mut Value),
    /// New object, old object.
    pub prepare_update: fn(&Cx<'_>, &mut Value, &Value),
    pub validate: for<'a> fn(&Cx<'_>, &'a Value, &mut Errors<'a>),
    pub validate_update: for<'a> fn(&Cx<'_>, &'a Value, &'a Value, &mut Errors<'a>),
    /// Runs the rules of declarative validation after these, with the options that they ask for. What they
    /// find too is covered in `validate`, or left out where upstream says it by them alone.
    pub declarative: Option<super::declarative::Options>,
    /// Whether an error that is found twice is told twice: upstream drops one only where there is declarative
    /// validation.
    pub repeats: bool,
    /// Warnings about a new object as it comes, before it is prepared.
    pub early_warnings: fn(&Value) -> Vec<String>,
    /// Warnings for the client, on create (no old object) and update.
    pub warnings: fn(Gates, &Value, Option<&Value>) -> Vec<String>,
    /// A warning for the client of a deletion with these options.
    pub delete_warning: fn(&DeleteOptions) -> Option<&'static str>,
    /// Brings the object into the form in which it is stored (sorted, deduplicated).
    pub canonicalize: fn(&mut Value),
    /// The rules of `/status`; none where the resource has no such subresource.
    pub status: Option<Part>,
    /// The rules of further subresources of the object's own kind: `ephemeralcontainers`, `resize`,
    /// `approval`, `finalize`.
    pub parts: &'static [(&'static str, Part)],
    /// How `metadata.generation` counts changes outside metadata and status.
    pub generation: Generation,
    /// Decides the grace period of a graceful deletion: sets `grace_period_seconds` and says whether
    /// the deletion is graceful at all. Only for resources with `ResourceFlags::GRACEFUL`.
    pub grace: fn(&Value, &mut DeleteOptions) -> bool,
    /// Decides a deletion before the rules that all resources share, given the time; nothing leaves it to them.
    pub delete: fn(&mut Value, &DeleteOptions, i64) -> Result<Option<Deletion>, Failure>,
    /// Says whether an update that empties the finalizers of a deleted object may remove it.
    pub removable: fn(new: &Value, old: &Value) -> bool,
    /// Brings stored objects of older servers into today's form, on the way into the cache.
    pub on_read: Option<fn(&mut Value)>,
    /// What an object has in every form but the stored one.
    pub complete: Option<fn(&mut Value)>,
    /// What of an object's metadata is part of the whole object only.
    pub own_annotation: Option<&'static str>,
    /// Selectable attributes that are no field: each is the first of these fields that is not empty.
    pub fields: &'static [(&'static str, &'static [&'static str])],
    /// The cells of its table row; none for name and age alone.
    pub cells: Option<crate::table::Cells>,
    /// Of the objects of a list, the name of the one that the list's table marks as the default.
    pub default_among: Option<Choice>,
    /// The order of the rows of a list's table; none for that of the list.
    pub row_order: Option<Order>,
}

/// How changes are counted in `metadata.generation`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    Ignored,
    Counted,
    /// To say nothing of a list, and to say that it is empty, differ (Go's `reflect.DeepEqual`).
    CountedExactly,
}

/// The rules of a subresource that updates a part of the object.
#[derive(Clone, Copy)]
pub struct Part {
    /// Keeps what the subresource may not change: new object, old object.
    pub prepare_update: fn(&Cx<'_>, &mut Value, &Value),
    pub validate_update: for<'a> fn(&Cx<'_>, &'a Value, &'a Value, &mut Errors<'a>),
    /// Warnings for the client about the new object.
    pub warnings: fn(&Value) -> Vec<String>,
}

impl Strategy {
    /// A resource whose objects are what they are: names are DNS subdomains, nothing else is ruled.
    pub const DEFAULT: Self = Self {
        name: proto::meta::names::subdomain_name,
        draws_names: true,
        default: |_, _| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        validate: |_, _, _| {},
        validate_update: |_, _, _, _| {},
        declarative: None,
        repeats: false,
        early_warnings: |_| Vec::new(),
        warnings: |_, _, _| Vec::new(),
        delete_warning: |_| None,
        canonicalize: |_| {},
        status: None,
        parts: &[],
        generation: Generation::Ignored,
        grace: |_, _| false,
        delete: |_, _, _| Ok(None),
        removable: |_, _| true,
        on_read: None,
        complete: None,
        own_annotation: None,
        fields: &[],
        cells: None,
        default_among: None,
        row_order: None,
    };

    /// A resource with spec and status that the usual rules keep apart: a create clears the status, an
    /// update keeps the old one and counts generations, an update of the status keeps everything else.
    pub const WITH_STATUS: Self = Self {
        prepare_create: |_, new| clear_status(new),
        prepare_update: |_, new, old| keep_status(new, old),
        status: Some(Part::STATUS),
        generation: Generation::Counted,
        ..Self::DEFAULT
    };
}

impl Strategy {
    /// The rules of a subresource that is a part of its object.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<Part> {
        match name {
            "status" => self.status,
            other => {
                let mut parts = self.parts.iter();
                parts.find(|(n, _)| *n == other).map(|(_, part)| *part)
            }
        }
    }
}

impl Part {
    /// `/status` as most resources have it.
    pub const STATUS: Self = Self {
        prepare_update: |_, new, old| keep_all_but_status(new, old),
        validate_update: |_, _, _, _| {},
        warnings: |_| Vec::new(),
    };

    /// `/status` as the resources have it whose labels can be changed through it.
    pub const STATUS_AND_METADATA: Self = Self {
        prepare_update: |_, new, old| keep_all_but_metadata_and_status(new, old),
        ..Self::STATUS
    };

    /// `/status` as the resources have it whose metadata cannot be changed through it at all.
    pub const STATUS_ALONE: Self = Self {
        prepare_update: |_, new, old| {
            keep_all_but_metadata_and_status(new, old);
            reset_metadata(new, old);
        },
        ..Self::STATUS
    };
}

/// Creates do not carry a status.
pub fn clear_status(new: &mut Value) {
    new.set(&[proto::catalogue::names::STATUS], Value::object());
}

/// Updates of the object itself do not change its status.
pub fn keep_status(new: &mut Value, old: &Value) {
    use proto::catalogue::names::STATUS;
    new.copy(old, &[STATUS]);
}

/// Updates of the status change nothing else but metadata that the generic registry guards; labels
/// stay as they are, as many of upstream's status strategies have it.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    use proto::catalogue::names::{LABELS, METADATA};
    keep_all_but_metadata_and_status(new, old);
    new.copy(old, &[METADATA, LABELS]);
}

/// Updates of the status that may change metadata too, as the others of upstream's status strategies.
pub fn keep_all_but_metadata_and_status(new: &mut Value, old: &Value) {
    use proto::catalogue::names::{METADATA, STATUS};
    let Some(old) = old.as_map() else { return };
    let new = new.make_map();
    let free = |name: &proto::Name| matches!(name.known(), Some(METADATA | STATUS));
    new.retain(|name, _| free(name) || old.contains(name));
    for (name, value) in old.iter().filter(|(name, _)| !free(name)) {
        new.insert(name, value.clone());
    }
}

/// `ResetObjectMetaForStatus`: an update of the status that changes no metadata.
pub fn reset_metadata(new: &mut Value, old: &Value) {
    use proto::catalogue::names as n;
    for field in [
        n::DELETION_TIMESTAMP,
        n::GENERATION,
        n::SELF_LINK,
        n::LABELS,
        n::ANNOTATIONS,
        n::FINALIZERS,
        n::OWNER_REFERENCES,
    ] {
        new.copy(old, &[n::METADATA, field]);
    }
}
