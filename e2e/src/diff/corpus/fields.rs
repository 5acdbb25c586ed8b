//! Each field of each kind: set to a wrong type, taken away, put out of range, as upstream's schemas say what it is. Every
//! request is a dry run of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::super::case::{Case, JSON, OF, Phase, Step};
use super::super::later;
use super::super::value::{list, text};
use super::source::{Seed, Source};
use super::target::{Target, area};

/// Requests of one case.
const TOGETHER: usize = 50;
/// Values out of range are tried for a field of a definition in so many kinds; wrong types in all.
const KINDS_OF_A_FIELD: usize = 2;
/// Kinds whose metadata is tried: it is the same for all.
const WITH_METADATA: &[&str] = &["ConfigMap", "Deployment", "Node"];
const LONG: usize = 300;

pub(super) fn cases(source: &Source) -> Vec<Case> {
    let mut all = Vec::new();
    let mut tried = Tried::new();
    for resource in source.whole().filter(|of| of.can("create")) {
        let (Some(seed), Some(document)) =
            (source.seed(resource), source.schemas.get(&resource.version))
        else {
            continue;
        };
        let schemas = &document["components"]["schemas"];
        let Some(root) = definition(schemas, seed) else {
            continue;
        };
        let changes = changes(schemas, root, seed, &mut tried);
        let target = Target::new(seed);
        let step = |change: &Change| {
            let mut object = seed.object.clone();
            change.apply(&mut object);
            let step = Step::new(
                "POST",
                format!("{}?dryRun=All", target.collection),
                &change.about,
            );
            step.body(JSON, &object).cleanup()
        };
        for (index, changes) in changes.chunks(TOGETHER).enumerate() {
            all.push(Case {
                name: format!(
                    "{} {}: fields {}",
                    resource.version,
                    resource.name,
                    index + 1
                ),
                area: area(resource),
                phase: Phase::Beside,
                // What is created elsewhere under the name is in the way.
                lane: (!resource.namespaced).then(|| resource.name.clone()),
                steps: changes.iter().map(step).collect(),
                ..Case::default()
            });
        }
    }
    all
}

/// How often a field of a definition was put out of range.
type Tried = BTreeMap<(String, String), usize>;

/// The name of the schema of a kind.
fn definition<'a>(schemas: &'a Value, seed: &Seed) -> Option<&'a str> {
    let (group, version) = match seed.resource.version.split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", &*seed.resource.version),
    };
    let is_it = |schema: &Value| {
        list(&schema["x-kubernetes-group-version-kind"])
            .iter()
            .any(|of| {
                text(&of["group"]) == group
                    && text(&of["version"]) == version
                    && text(&of["kind"]) == seed.resource.kind
            })
    };
    let all = schemas.as_object()?;
    all.iter()
        .find(|(_, schema)| is_it(schema))
        .map(|(name, _)| name.as_str())
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Field(String),
    /// The first member of a list.
    First,
}

/// What is done to one field.
struct Change {
    path: Vec<Part>,
    /// Nothing takes it away.
    value: Option<Value>,
    about: String,
}

impl Change {
    fn apply(&self, object: &mut Value) {
        let Some((last, before)) = self.path.split_last() else {
            return;
        };
        let mut at = object;
        for part in before {
            at = step(at, part);
        }
        match (&self.value, last) {
            (Some(value), _) => *step(at, last) = value.clone(),
            (None, Part::Field(name)) => {
                at.as_object_mut().map(|fields| fields.remove(name));
            }
            (None, Part::First) => {}
        }
    }
}

/// The field or member, made if it is not there.
fn step<'a>(at: &'a mut Value, part: &Part) -> &'a mut Value {
    match part {
        Part::Field(name) => {
            if !at.is_object() {
                *at = json!({});
            }
            &mut at[name.as_str()]
        }
        Part::First => {
            if at.as_array().is_none_or(Vec::is_empty) {
                *at = json!([null]);
            }
            &mut at[0]
        }
    }
}

fn written(path: &[Part]) -> String {
    let mut out = String::new();
    for part in path {
        match part {
            Part::Field(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Part::First => out.push_str("[]"),
        }
    }
    out
}

/// Walks the schema, each definition once, the shortest way first.
fn changes(schemas: &Value, root: &str, seed: &Seed, tried: &mut Tried) -> Vec<Change> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::from([root.to_owned()]);
    let mut queue = VecDeque::from([(root.to_owned(), Vec::new())]);
    while let Some((name, path)) = queue.pop_front() {
        let schema = &schemas[&name];
        let required: Vec<&str> = list(&schema["required"]).iter().map(text).collect();
        let mut own = |parts: Vec<Part>, value: Option<Value>, what: &str| {
            let about = format!("{}{OF}{what}", written(&parts));
            all.push(Change {
                path: parts,
                value,
                about,
            });
        };
        let with = |field: &str| [&path[..], &[Part::Field(field.to_owned())]].concat();
        own(with("noSuchField"), Some(json!(1)), "unknown");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            if path.is_empty() && matches!(field.as_str(), "apiVersion" | "kind") {
                continue;
            }
            if later::is_expression(field) {
                continue;
            }
            let at = with(field);
            let kind = Kind::of(schemas, property);
            let times = tried.entry((name.clone(), field.clone())).or_default();
            for (value, what, ranged) in kind.values() {
                if !ranged || *times < KINDS_OF_A_FIELD {
                    own(at.clone(), Some(value), &what);
                }
            }
            *times += 1;
            if required.contains(&field.as_str()) {
                own(at.clone(), None, "missing");
            }
            let metadata = path.is_empty() && field == "metadata";
            if metadata && !WITH_METADATA.contains(&&*seed.resource.kind) {
                continue;
            }
            if let Some((inner, further)) = kind.inner(schemas)
                && seen.insert(inner.clone())
            {
                queue.push_back((inner, [&at[..], &further].concat()));
            }
        }
    }
    all
}

/// What a schema says that a field is.
#[derive(Debug, PartialEq)]
enum Kind<'a> {
    Text { schema: &'a Value },
    Whole { bits: u32 },
    Number,
    Truth,
    Quantity,
    IntOrString,
    List { members: &'a Value },
    Map { values: &'a Value },
    Object { definition: String },
    Anything,
}

impl<'a> Kind<'a> {
    fn of(schemas: &'a Value, property: &'a Value) -> Self {
        let reference = || {
            let all = list(&property["allOf"]).iter().chain([property]);
            all.map(|of| text(&of["$ref"]))
                .find(|name| !name.is_empty())
        };
        if let Some(name) = reference() {
            let name = name.trim_start_matches("#/components/schemas/");
            let schema = &schemas[name];
            if name.ends_with(".Quantity") {
                return Self::Quantity;
            }
            if name.ends_with(".IntOrString") {
                return Self::IntOrString;
            }
            if schema["properties"].is_object() {
                return Self::Object {
                    definition: name.to_owned(),
                };
            }
            return Self::of(schemas, schema);
        }
        match (text(&property["type"]), text(&property["format"])) {
            ("string", "int-or-string") => Self::IntOrString,
            ("string", _) => Self::Text { schema: property },
            ("integer", "int64") => Self::Whole { bits: 64 },
            ("integer", _) => Self::Whole { bits: 32 },
            ("number", _) => Self::Number,
            ("boolean", _) => Self::Truth,
            ("array", _) => Self::List {
                members: &property["items"],
            },
            ("object", _) if property["additionalProperties"].is_object() => Self::Map {
                values: &property["additionalProperties"],
            },
            _ => Self::Anything,
        }
    }

    /// Values that are not right, what is wrong with them, and whether it is their range.
    fn values(&self) -> Vec<(Value, String, bool)> {
        let wrong = |values: &[Value]| -> Vec<(Value, String, bool)> {
            let told = |value: &Value| (value.clone(), format!("wrong type {value}"), false);
            values.iter().map(told).collect()
        };
        let ranged = |values: Vec<(Value, &str)>| -> Vec<(Value, String, bool)> {
            values
                .into_iter()
                .map(|(value, what)| (value, what.to_owned(), true))
                .collect()
        };
        let null = (json!(null), "null");
        let (mut all, further) = match self {
            Self::Text { schema } => {
                let mut values = vec![
                    (json!(""), "empty"),
                    (json!("x".repeat(LONG)), "long"),
                    (json!("Bad_Value!"), "bad characters"),
                    null,
                ];
                if schema["enum"].is_array() {
                    values.push((json!("Bogus"), "unknown value"));
                }
                (wrong(&[json!(7), json!({})]), values)
            }
            Self::Whole { bits } => {
                let beyond = if *bits == 64 {
                    json!(9_223_372_036_854_775_808_u64)
                } else {
                    json!(2_147_483_648_u64)
                };
                let values = vec![
                    (json!(-1), "negative"),
                    (json!(0), "zero"),
                    (json!(2_147_483_647), "huge"),
                    null,
                ];
                (wrong(&[json!("7"), json!(1.5), beyond]), values)
            }
            Self::Number => (wrong(&[json!("7")]), vec![(json!(-1.5), "negative"), null]),
            Self::Truth => (wrong(&[json!("true"), json!(1)]), vec![null]),
            Self::Quantity => {
                let values = vec![
                    (json!("-1"), "negative"),
                    (json!("0"), "zero"),
                    (json!(1.5), "a fraction"),
                    null,
                ];
                (wrong(&[json!("1x"), json!(true)]), values)
            }
            Self::IntOrString => {
                let values = vec![
                    (json!(-1), "negative"),
                    (json!("x%"), "a bad share"),
                    (json!("200%"), "a large share"),
                    null,
                ];
                (wrong(&[json!(true), json!({})]), values)
            }
            Self::List { .. } => (
                wrong(&[json!({}), json!("x")]),
                vec![(json!([]), "empty"), (json!([null]), "with null"), null],
            ),
            Self::Map { .. } => {
                let values = vec![
                    (json!({}), "empty"),
                    (json!({"": null}), "empty key"),
                    (json!({"bad key!": null}), "bad key"),
                    null,
                ];
                (wrong(&[json!("x"), json!([])]), values)
            }
            Self::Object { .. } => (
                wrong(&[json!("x"), json!([])]),
                vec![(json!({}), "empty"), null],
            ),
            Self::Anything => (wrong(&[json!("x")]), Vec::new()),
        };
        all.extend(ranged(further));
        all
    }

    /// The definition that is found inside, and how it is reached from here.
    fn inner(&self, schemas: &'a Value) -> Option<(String, Vec<Part>)> {
        let (member, part) = match self {
            Self::Object { definition } => return Some((definition.clone(), Vec::new())),
            Self::List { members } => (members, Part::First),
            Self::Map { values } => (values, Part::Field("key".to_owned())),
            _ => return None,
        };
        let (definition, further) = Kind::of(schemas, member).inner(schemas)?;
        Some((definition, [&[part][..], &further].concat()))
    }
}

#[cfg(test)]
mod tests;
