//! Single rules, on one value and what it was: upstream's `apimachinery/pkg/api/validate`.

use proto::path::{FieldError, Named, Reason, Show};
use proto::{NameId, Value};

use super::table::{Change, Check, Match, Member, Set};

/// What a rule finds at a value, or at an element or a field of it.
pub(super) struct Finding {
    pub reason: Reason,
    pub value: String,
    pub detail: String,
    pub index: Option<usize>,
    pub below: Option<NameId>,
}

impl Finding {
    fn new(reason: Reason, value: String, detail: impl Into<String>) -> Self {
        Self {
            reason,
            value,
            detail: detail.into(),
            index: None,
            below: None,
        }
    }

    pub(super) fn invalid(value: impl Show, detail: impl Into<String>) -> Self {
        Self::new(Reason::Invalid, value.show(), detail)
    }

    pub(super) fn too_long(max: usize) -> Self {
        Self::of(FieldError::too_long("", max))
    }

    /// Upstream gives no value where the change itself is the problem.
    fn change(detail: &str) -> Self {
        Self::invalid(&Value::Null, detail)
    }

    fn of(error: FieldError) -> Self {
        Self::new(error.reason, error.value, error.detail)
    }
}

/// Priorities below are those of Kubernetes' own responders (`pkg/apis/core/v1/validation.go`).
const FIRST_PRIORITY: i64 = 1000;
/// Domains that are Kubernetes' own.
const RESERVED: [&str; 2] = [".k8s.io", ".kubernetes.io"];

/// The hand-written functions that tags name.
pub(super) fn custom(name: &str, value: Option<&Value>) -> Vec<Finding> {
    let Some(value) = value else {
        return Vec::new();
    };
    if name == "EvictionResponder_Priority" {
        let own = value.as_int().filter(|n| (0..FIRST_PRIORITY).contains(n));
        let detail = "priorities 0-999 are reserved for responders with *.k8s.io suffix";
        return own
            .map(|n| Finding::invalid(n, detail))
            .into_iter()
            .collect();
    }
    let text = value.as_str().unwrap_or_default();
    let domain = text.split('/').next().unwrap_or_default().to_lowercase();
    let domain = domain.trim().trim_end_matches('.');
    let is_reserved =
        |suffix: &&str| domain.ends_with(*suffix) || domain == suffix.trim_matches('.');
    if !RESERVED.iter().any(is_reserved) {
        return Vec::new();
    }
    let all: Vec<String> = RESERVED.iter().map(|suffix| format!("*{suffix}")).collect();
    let detail = format!("domain names {} are reserved", all.join(", "));
    vec![Finding::invalid(text, detail)]
}

/// A rule on a key of a map.
pub(super) fn on_text(check: &Check, text: &str) -> Vec<Finding> {
    on_value(check, Some(&Value::from(text)), None, false)
}

pub(super) fn on_value(
    check: &Check,
    new: Option<&Value>,
    old: Option<&Value>,
    update: bool,
) -> Vec<Finding> {
    let text = new.and_then(Value::as_str);
    match check {
        Check::Required(set) if !set.is_set(new) => {
            vec![Finding::new(Reason::Required, String::new(), "")]
        }
        Check::Forbidden(set) if set.is_set(new) => {
            vec![Finding::new(Reason::Forbidden, String::new(), "")]
        }
        Check::Immutable if update => vec![Finding::change("field is immutable")],
        Check::Enum(values) => text.map_or_else(Vec::new, |text| enumeration(text, values)),
        Check::Format(format) => text.map_or_else(Vec::new, format),
        Check::Unique(of) => unique(list(new), *of),
        Check::Union(members) => union(members, true, new, old, update),
        Check::AtMostOne(members) => union(members, false, new, old, update),
        Check::Update(changes) if update => changed(changes, Set::There, new, old),
        Check::UpdateList(of, changes) if update => {
            let mut found = changed(changes, Set::NotZero, new, old);
            found.extend(moved(changes, *of, list(new), list(old)));
            found
        }
        Check::DependentRequired(trigger, field) => {
            dependent(*trigger, *field, true, new, old, update)
        }
        Check::DependentForbidden(trigger, field) => {
            dependent(*trigger, *field, false, new, old, update)
        }
        _ => limits(check, new, old, update),
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_list).unwrap_or_default()
}

fn plural(n: usize, one: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {one}{s}")
}

fn limits(check: &Check, new: Option<&Value>, old: Option<&Value>, update: bool) -> Vec<Finding> {
    let number = new.and_then(Value::as_int);
    let text = new.and_then(Value::as_str).unwrap_or_default();
    let items = list(new).len();
    let entries = new.and_then(Value::as_map).map_or(0, |map| map.len());
    let many = |n: usize, max: usize| {
        let detail = format!("must have at most {}", plural(max, "item"));
        Finding::new(Reason::TooMany, n.to_string(), detail)
    };
    let found = match (check, number) {
        (Check::MaxItems(max), _) if items > *max => many(items, *max),
        (Check::MaxProperties(max), _) if entries > *max => many(entries, *max),
        (Check::MinItems(min), _) if items < *min => {
            let detail = format!("must have at least {}", plural(*min, "item"));
            Finding::new(Reason::TooFew, items.to_string(), detail)
        }
        (Check::MaxLength(max), _) if text.chars().count() > *max => {
            let detail = format!("may not be more than {}", plural(*max, "character"));
            Finding::new(Reason::TooLong, String::new(), detail)
        }
        (Check::MinLength(min), _) if new.is_some() && text.chars().count() < *min => {
            let detail = format!("must be at least {}", plural(*min, "character"));
            Finding::new(Reason::TooShort, String::new(), detail)
        }
        (Check::MaxBytes(max), _) if text.len() > *max => Finding::too_long(*max),
        (Check::Minimum(min), Some(n)) if n < *min => {
            Finding::invalid(n, format!("must be greater than or equal to {min}"))
        }
        (Check::Maximum(max), Some(n)) if n > *max => {
            Finding::invalid(n, format!("must be less than or equal to {max}"))
        }
        (Check::Monotonic, Some(n)) if update => match old.and_then(Value::as_int) {
            Some(was) if n < was => Finding::invalid(n, format!("may not be decreased from {was}")),
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    vec![found]
}

fn enumeration(text: &str, values: &[&str]) -> Vec<Finding> {
    if values.contains(&text) {
        return Vec::new();
    }
    let error = FieldError::not_supported("", Named(text), values);
    vec![Finding::of(error)]
}

/// Elements that are the same as an earlier one.
fn unique(list: &[Value], of: Match) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, item) in list.iter().enumerate() {
        if list[..i].iter().any(|before| of.same(before, item)) {
            let mut finding = Finding::new(Reason::Duplicate, item.show(), "");
            finding.index = Some(i);
            found.push(finding);
        }
    }
    found
}

/// Of some fields, one must be set, or at most one may. An update that sets and clears none of them is
/// as good as what was there.
fn union(
    members: &[Member],
    one: bool,
    new: Option<&Value>,
    old: Option<&Value>,
    update: bool,
) -> Vec<Finding> {
    let kept = |m: &Member| m.is_set(new) == m.is_set(old);
    if update && old.is_some() && members.iter().all(kept) {
        return Vec::new();
    }
    let set: Vec<&str> = members
        .iter()
        .filter(|m| m.is_set(new))
        .map(|m| m.name)
        .collect();
    let all: Vec<String> = members.iter().map(|m| format!("`{}`", m.name)).collect();
    let all = all.join(", ");
    if set.len() > 1 {
        let how = if one { "exactly" } else { "at most" };
        let detail = format!("must specify {how} one of: {all}");
        return vec![Finding::invalid(format!("{{{}}}", set.join(", ")), detail)];
    }
    if one && set.is_empty() {
        return vec![Finding::invalid("", format!("must specify one of: {all}"))];
    }
    Vec::new()
}

/// What an update may not do to a field as a whole.
fn changed(changes: &[Change], set: Set, new: Option<&Value>, old: Option<&Value>) -> Vec<Finding> {
    let (is, was) = (set.is_set(new), set.is_set(old));
    let problem = |change: &Change| match change {
        Change::Set if !was && is => Some("field cannot be set once created"),
        Change::Unset if was && !is => Some("field cannot be cleared once set"),
        Change::Modify if was && is => Some("field cannot be modified once set"),
        _ => None,
    };
    let problems = changes.iter().filter_map(problem);
    problems.map(Finding::change).collect()
}

/// What an update may not do to the elements of a list.
fn moved(changes: &[Change], of: Match, new: &[Value], old: &[Value]) -> Vec<Finding> {
    let mut found = Vec::new();
    for change in changes {
        let (from, into, detail) = match change {
            Change::AddItem => (new, old, "item may not be added"),
            Change::RemoveItem => (old, new, "item may not be removed"),
            _ => continue,
        };
        for (i, item) in from.iter().enumerate() {
            if !into.iter().any(|other| of.same(other, item)) {
                let mut finding = Finding::new(Reason::Forbidden, String::new(), detail);
                // What is gone has no place in the new list.
                finding.index = (*change == Change::AddItem).then_some(i);
                found.push(finding);
            }
        }
    }
    found
}

/// A field that must or may not be set because another is.
fn dependent(
    trigger: NameId,
    field: NameId,
    must: bool,
    new: Option<&Value>,
    old: Option<&Value>,
    update: bool,
) -> Vec<Finding> {
    let set = |of: Option<&Value>, name| of.and_then(|v| v.get(name)).is_some_and(|v| !v.is_null());
    let both = |of| (set(of, trigger), set(of, field));
    if update && old.is_some() && both(new) == both(old) {
        return Vec::new();
    }
    let mut finding = match (both(new), must) {
        ((true, false), true) => {
            let detail = format!("must be set when {} is set", trigger.text());
            Finding::new(Reason::Required, String::new(), detail)
        }
        ((true, true), false) => {
            let detail = format!("may not be set when {} is set", trigger.text());
            Finding::new(Reason::Forbidden, String::new(), detail)
        }
        _ => return Vec::new(),
    };
    finding.below = Some(field);
    vec![finding]
}
