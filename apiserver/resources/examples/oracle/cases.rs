//! What upstream said: documents, and cases that are documents with edits.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

/// All of it, or that of one resource.
pub(crate) struct Answers {
    documents: HashMap<usize, Value>,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Document {
    document: usize,
    value: Value,
}

/// Sets what is at a path; without a value it takes it out.
#[derive(Deserialize)]
pub(crate) struct Edit {
    #[serde(rename = "p")]
    path: Vec<Value>,
    #[serde(rename = "v")]
    value: Option<Value>,
}

/// A document with edits.
#[derive(Deserialize)]
pub(crate) struct Variant {
    document: usize,
    #[serde(default)]
    edits: Vec<Edit>,
}

/// Why upstream does not take a write.
#[derive(Deserialize)]
pub(crate) struct Refusal {
    pub code: u16,
    pub reason: String,
    /// Nothing where the causes say it.
    #[serde(default)]
    pub message: String,
    /// Field, reason, message.
    #[serde(default)]
    pub causes: Vec<[String; 3]>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub group: String,
    pub version: String,
    pub resource: String,
    #[serde(default)]
    pub subresource: String,
    pub verb: String,
    pub seed: String,
    pub change: String,
    pub object: Variant,
    pub old: Option<Variant>,
    pub stored: Option<Variant>,
    pub refused: Option<Refusal>,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Upstream does not give the errors in the same order each time.
    #[serde(default)]
    pub shuffled: bool,
}

impl Case {
    /// `deployments.apps`.
    #[must_use]
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// With the version where it is not the usual one, and the subresource.
    #[must_use]
    pub(crate) fn target(&self) -> String {
        let mut target = self.qualified();
        if self.version != "v1" {
            target = format!("{target}:{}", self.version);
        }
        if !self.subresource.is_empty() {
            target = format!("{target}/{}", self.subresource);
        }
        target
    }
}

/// What a case of a resource contains.
fn field(resource: &str) -> String {
    let name = resource.split('.').next().unwrap_or_default();
    format!("\"resource\":\"{name}\"")
}

impl Answers {
    pub(crate) fn read(path: &Path, only: Option<&str>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (documents, mut lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|l| l.starts_with("{\"document\""));
        if let Some(field) = only.map(field) {
            lines.retain(|line| line.contains(&field)); // reading a case takes longer than trying it
        }
        let documents = documents.into_iter().map(|line| {
            let Document { document, value } = serde_json::from_str(line)?;
            Ok((document, value))
        });
        let mut cases = parse(&lines)?;
        if let Some(only) = only {
            cases.retain(|case| only == case.qualified() || only == case.resource);
        }
        Ok(Self {
            documents: documents.collect::<anyhow::Result<_>>()?,
            cases,
        })
    }

    /// The document of a variant with its edits.
    #[must_use]
    pub(crate) fn value(&self, variant: &Variant) -> Value {
        let mut value = self.documents[&variant.document].clone();
        for edit in &variant.edits {
            apply(&mut value, &edit.path, edit.value.as_ref());
        }
        value
    }
}

/// Reads cases, on all processors: there is much text.
fn parse(lines: &[&str]) -> anyhow::Result<Vec<Case>> {
    let one = |line: &&str| serde_json::from_str(line).with_context(|| (*line).to_owned());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = lines.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = lines
            .chunks(part)
            .map(|lines| scope.spawn(move || lines.iter().map(one).collect::<anyhow::Result<_>>()))
            .collect();
        let mut all = Vec::with_capacity(lines.len());
        for part in parts {
            let cases: Vec<Case> = part.join().expect("reading does not panic")?;
            all.extend(cases);
        }
        Ok(all)
    })
}

fn apply(at: &mut Value, path: &[Value], value: Option<&Value>) {
    let Some((first, rest)) = path.split_first() else {
        *at = value.cloned().unwrap_or_default();
        return;
    };
    match (at, first) {
        (Value::Object(map), Value::String(key)) => match (rest, value) {
            ([], None) => drop(map.remove(key)),
            ([], Some(value)) => drop(map.insert(key.clone(), value.clone())),
            _ => {
                if let Some(below) = map.get_mut(key) {
                    apply(below, rest, value);
                }
            }
        },
        (Value::Array(items), Value::Number(i)) => {
            let i = i.as_u64().and_then(|i| usize::try_from(i).ok());
            if let Some(below) = i.and_then(|i| items.get_mut(i)) {
                apply(below, rest, value);
            }
        }
        _ => {}
    }
}
