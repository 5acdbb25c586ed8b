//! Where two JSON values differ, by path.
//!
//! Lists of objects that have names (conditions, containers, causes of a refusal) are compared by name where their members are
//! not the same ones in the same order: one missing member is one difference, not a shift of all that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

/// Longest part of a value that is shown.
const SHOWN: usize = 80;

/// One place at which two values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As `.spec.containers[0].name`; a member that was found by its name has that between the brackets.
    pub path: String,
    pub kind: Kind,
    /// The beginning of ours; `none` where it is missing.
    pub ours: String,
    pub theirs: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Ours has it not.
    Missing,
    /// Only ours has it.
    Extra,
    Value,
    /// A text instead of a number, and the like.
    Type,
    /// The same members in another order.
    Order,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Value => "value",
            Self::Type => "type",
            Self::Order => "order",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} | {}", self.path, self.ours, self.theirs)
    }
}

/// A path without what tells one member of a list from another.
pub fn pattern(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut depth = 0_usize;
    for letter in path.chars() {
        match letter {
            '[' => {
                if depth == 0 {
                    out.push_str("[]");
                }
                depth += 1;
            }
            ']' if depth > 0 => depth -= 1,
            _ if depth == 0 => out.push(letter),
            _ => {}
        }
    }
    out
}

/// All places at which the two differ.
pub fn differences(ours: &Value, theirs: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    differ(ours, theirs, "", &mut found);
    found
}

fn differ(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                either(a.get(key), b.get(key), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) => members(a, b, path, found),
        _ if ours == theirs => {}
        (a, b) => {
            let kind = if std::mem::discriminant(a) == std::mem::discriminant(b) {
                Kind::Value
            } else {
                Kind::Type
            };
            found.push(difference(kind, Some(a), Some(b), path));
        }
    }
}

fn either(ours: Option<&Value>, theirs: Option<&Value>, path: &str, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Some(a), Some(b)) => differ(a, b, path, found),
        (None, theirs) => found.push(difference(Kind::Missing, None, theirs, path)),
        (ours, None) => found.push(difference(Kind::Extra, ours, None, path)),
    }
}

fn members(ours: &[Value], theirs: &[Value], path: &str, found: &mut Vec<Difference>) {
    if ours == theirs {
        return;
    }
    if let (Some(a), Some(b)) = (named(ours), named(theirs)) {
        let order = |names: &[(String, &Value)], of: &BTreeMap<String, &Value>| -> Vec<String> {
            let names = names.iter().map(|(name, _)| name.clone());
            names.filter(|name| of.contains_key(name)).collect()
        };
        let [by_a, by_b]: [BTreeMap<String, &Value>; 2] =
            [&a, &b].map(|names| names.iter().cloned().collect());
        if a.iter()
            .map(|(name, _)| name)
            .eq(b.iter().map(|(name, _)| name))
        {
            return by_index(ours, theirs, path, found);
        }
        for name in by_a.keys().chain(by_b.keys()).collect::<BTreeSet<_>>() {
            let [a, b] = [&by_a, &by_b].map(|of| of.get(name).copied());
            either(a, b, &format!("{path}[{name}]"), found);
        }
        let [a, b] = [order(&a, &by_b), order(&b, &by_a)].map(Value::from);
        if a != b {
            found.push(difference(Kind::Order, Some(&a), Some(&b), path));
        }
        return;
    }
    if ours.len() == theirs.len() && !sorted(ours).eq(&sorted(theirs)) {
        return by_index(ours, theirs, path, found);
    }
    let (only_ours, only_theirs) = left_over(ours, theirs);
    if only_ours.is_empty() && only_theirs.is_empty() {
        let [a, b] = [ours, theirs].map(|of| Value::from(of.to_vec()));
        found.push(difference(Kind::Order, Some(&a), Some(&b), path));
    }
    let path = format!("{path}[]");
    let extra = only_ours
        .into_iter()
        .map(|value| difference(Kind::Extra, Some(value), None, &path));
    found.extend(extra);
    let missing = only_theirs.into_iter();
    found.extend(missing.map(|value| difference(Kind::Missing, None, Some(value), &path)));
}

fn by_index(ours: &[Value], theirs: &[Value], path: &str, found: &mut Vec<Difference>) {
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        differ(a, b, &format!("{path}[{index}]"), found);
    }
}

/// What is in one list and not in the other, as often as it is.
fn left_over<'a>(ours: &'a [Value], theirs: &'a [Value]) -> (Vec<&'a Value>, Vec<&'a Value>) {
    let mut theirs: Vec<&Value> = theirs.iter().collect();
    let only_ours = ours.iter().filter(|value| {
        let at = theirs.iter().position(|other| other == value);
        at.map(|at| theirs.remove(at)).is_none()
    });
    (only_ours.collect(), theirs)
}

fn sorted(list: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = list.iter().map(Value::to_string).collect();
    texts.sort_unstable();
    texts
}

/// The fields that name a member of a list, by the first that it has.
const NAMES: &[&[&str]] = &[
    &["field", "reason"],
    &["manager", "operation"],
    &["groupVersion"],
    &["name", "in"],
    &["name"],
    &["kind", "version", "group"],
    &["responseKind"],
    &["resource"],
    &["type"],
    &["key"],
];

/// Each member with its name, if all have names and no two the same.
fn named(list: &[Value]) -> Option<Vec<(String, &Value)>> {
    let mut seen = BTreeSet::new();
    let name = |value| {
        let name = name_of(value)?;
        seen.insert(name.clone()).then_some((name, value))
    };
    list.iter().map(name).collect()
}

fn name_of(value: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        Value::Object(_) | Value::Array(_) => Some(String::new()),
        other => Some(other.to_string()),
    };
    let object = value.as_object()?;
    let own = object
        .get("metadata")
        .or_else(|| object.get("object")?.get("metadata"));
    if let Some(name) = own.and_then(|meta| text(&meta["name"])) {
        let namespace = own.and_then(|meta| text(&meta["namespace"]));
        return Some(namespace.map_or_else(|| name.clone(), |of| format!("{of}/{name}")));
    }
    NAMES.iter().find_map(|fields| {
        let parts: Option<Vec<String>> = fields.iter().map(|of| text(object.get(*of)?)).collect();
        parts.map(|parts| parts.join(" "))
    })
}

fn difference(kind: Kind, ours: Option<&Value>, theirs: Option<&Value>, path: &str) -> Difference {
    Difference {
        path: path.to_owned(),
        kind,
        ours: short(ours),
        theirs: short(theirs),
    }
}

/// The beginning of a value.
pub fn short(value: Option<&Value>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| value.to_string().chars().take(SHOWN).collect(),
    )
}

/// The members of a list; none where there is none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(ours: &Value, theirs: &Value) -> Vec<String> {
        differences(ours, theirs)
            .iter()
            .map(Difference::to_string)
            .collect()
    }

    #[test]
    fn differences_are_told_by_path() {
        let a = json!({"a": [1, {"b": 2}], "c": 1});
        let b = json!({"a": [1, {"b": 3}], "d": null});
        assert_eq!(
            told(&a, &b),
            [".a[1].b: 2 | 3", ".c: 1 | none", ".d: none | null"]
        );
    }

    #[test]
    fn members_with_names_are_compared_by_name() {
        let a = json!([{"name": "a", "x": 1}, {"name": "c"}]);
        let b = json!([{"name": "b"}, {"name": "a", "x": 2}, {"name": "c"}]);
        assert_eq!(
            told(&a, &b),
            ["[a].x: 1 | 2", r#"[b]: none | {"name":"b"}"#]
        );
    }

    #[test]
    fn another_order_is_a_difference_by_itself() {
        let [a, b] = [json!(["x", "y"]), json!(["y", "x"])];
        assert_eq!(differences(&a, &b)[0].kind, Kind::Order);
        let [a, b] = [[1, 2], [2, 1]].map(|of| json!(of.map(|n| json!({"name": n.to_string()}))));
        assert_eq!(differences(&a, &b)[0].kind, Kind::Order);
        assert_eq!(
            told(&json!(["x"]), &json!(["x", "y"])),
            [r#"[]: none | "y""#]
        );
    }

    #[test]
    fn a_pattern_forgets_which_member_it_was() {
        assert_eq!(pattern(".a[0].b[x[1]].c"), ".a[].b[].c");
        assert_eq!(pattern(".a]"), ".a]");
    }
}
