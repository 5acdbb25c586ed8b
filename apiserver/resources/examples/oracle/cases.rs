//! What upstream said: documents, and cases that are documents with edits; and what it says of them under other gates.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::Context;
use proto::catalogue::{GateId, Gates};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One of so many cases that other gates change nothing of is tried under them all the same.
const SAMPLE: usize = 10;

/// As much of a line as tells what resource its case is of.
const HEAD: usize = 200;

/// All of it, or that of one resource.
pub(crate) struct Answers {
    documents: HashMap<usize, Value>,
    /// By number.
    cases: BTreeMap<usize, Case>,
    passes: Vec<Pass>,
}

/// A setting of gates under which cases are tried.
pub(crate) struct Pass {
    /// Empty for the gates as they are by default.
    pub name: String,
    pub gates: Gates,
    /// Of the cases of another pass some are all that this one is asked; every case if there is none.
    among: Option<usize>,
    /// What is said otherwise than by default, by the number of the case.
    said: BTreeMap<usize, Said>,
    /// The cases that are asked with each gate alone.
    alone: BTreeSet<usize>,
}

/// A line before the answers of a pass.
#[derive(Deserialize)]
struct Setting {
    pass: String,
    gates: BTreeMap<String, bool>,
    #[serde(default)]
    among: String,
}

/// What is said of a case under a pass.
#[derive(Deserialize)]
struct Answer {
    case: usize,
    under: String,
    #[serde(default)]
    alone: bool,
    said: Said,
}

/// A case under a pass, and what upstream says of it there.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub pass: &'a Pass,
    pub case: &'a Case,
    pub said: &'a Said,
}

impl Question<'_> {
    /// The target of the case, after the pass if that is not the default one.
    #[must_use]
    pub(crate) fn target(&self) -> String {
        match self.pass.name.as_str() {
            "" => self.case.target(),
            pass => format!("{pass}/{}", self.case.target()),
        }
    }
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
    pub said: Said,
}

/// What upstream makes of a case.
#[derive(Deserialize)]
pub(crate) struct Said {
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

/// The number that a line begins with.
fn number(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(',')?.0.parse().ok()
}

/// What a case of a resource contains.
fn field(resource: &str) -> String {
    let name = resource.split('.').next().unwrap_or_default();
    format!("\"resource\":\"{name}\"")
}

impl Answers {
    pub(crate) fn read(path: &Path, only: Option<&str>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let starts = |with: &'static str| move |line: &&str| line.starts_with(with);
        let (documents, lines): (Vec<_>, Vec<_>) = text.lines().partition(starts("{\"document\""));
        let (settings, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(starts("{\"pass\""));
        let (mut answers, lines): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(starts("{\"case\""));
        let mut lines: Vec<_> = lines.into_iter().enumerate().collect();
        if let Some(field) = only.map(field) {
            // Reading a case takes longer than trying it.
            lines.retain(|(_, line)| line.get(..HEAD).unwrap_or(line).contains(&field));
        }
        let documents: Vec<Document> = parse(&documents)?;
        let texts: Vec<_> = lines.iter().map(|(_, line)| *line).collect();
        let numbers = lines.iter().map(|(number, _)| *number);
        let mut cases: BTreeMap<usize, Case> = numbers.zip(parse(&texts)?).collect();
        if let Some(only) = only {
            cases.retain(|_, case| only == case.qualified() || only == case.resource);
            // The same of what is said under other gates.
            answers.retain(|line| number(line).is_none_or(|case| cases.contains_key(&case)));
        }
        let mut passes = passes(&parse(&settings)?)?;
        for answer in parse::<Answer>(&answers)? {
            let Answer {
                case, under, said, ..
            } = answer;
            let pass = passes.iter_mut().find(|pass| pass.name == under);
            let pass = pass.context(under)?;
            pass.said.insert(case, said);
            if answer.alone {
                pass.alone.insert(case);
            }
        }
        Ok(Self {
            documents: documents
                .into_iter()
                .map(|d| (d.document, d.value))
                .collect(),
            cases,
            passes,
        })
    }

    /// Every case by default, and those under other passes that tell most: what is said otherwise there, and of the rest
    /// one in so many where all were asked. If `deep`, everything that upstream was asked.
    #[must_use]
    pub(crate) fn questions(&self, deep: bool) -> Vec<Question<'_>> {
        let mut all = Vec::new();
        for pass in &self.passes {
            let alone = pass.among.map(|among| &self.passes[among].alone);
            let asked = |number: &usize| match alone {
                Some(alone) => deep && alone.contains(number),
                None => deep || pass.name.is_empty() || number.is_multiple_of(SAMPLE),
            };
            for (number, case) in &self.cases {
                let otherwise = pass.said.get(number);
                if otherwise.is_some() || asked(number) {
                    let said = otherwise.unwrap_or(&case.said);
                    all.push(Question { pass, case, said });
                }
            }
        }
        all
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

/// The default one, and those that lines tell of.
fn passes(settings: &[Setting]) -> anyhow::Result<Vec<Pass>> {
    let mut all = vec![Pass {
        name: String::new(),
        gates: Gates::defaults(),
        among: None,
        said: BTreeMap::new(),
        alone: BTreeSet::new(),
    }];
    for setting in settings {
        let mut gates = Gates::defaults();
        for (name, on) in &setting.gates {
            let gate = GateId::find(name).with_context(|| format!("{name} is no gate"))?;
            gates = gates.with(gate, *on);
        }
        let among = match setting.among.as_str() {
            "" => None,
            name => Some(
                all.iter()
                    .position(|pass| pass.name == name)
                    .context(setting.pass.clone())?,
            ),
        };
        all.push(Pass {
            name: setting.pass.clone(),
            gates,
            among,
            said: BTreeMap::new(),
            alone: BTreeSet::new(),
        });
    }
    Ok(all)
}

/// Reads lines, on all processors: there is much text.
fn parse<T: DeserializeOwned + Send>(lines: &[&str]) -> anyhow::Result<Vec<T>> {
    let one = |line: &&str| serde_json::from_str(line).with_context(|| (*line).to_owned());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = lines.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = lines
            .chunks(part)
            .map(|lines| {
                scope.spawn(move || lines.iter().map(one).collect::<anyhow::Result<Vec<T>>>())
            })
            .collect();
        let mut all = Vec::with_capacity(lines.len());
        for part in parts {
            all.extend(part.join().expect("reading does not panic")?);
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
