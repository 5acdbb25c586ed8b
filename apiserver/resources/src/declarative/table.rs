//! The rules of all types, read from the catalogue's text.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use proto::{NameId, Value};

use super::formats::{self, Format};
use crate::equal;

pub(super) struct Table {
    pub types: HashMap<&'static str, Vec<Rule>>,
    /// The types of whole objects.
    pub roots: HashSet<&'static str>,
}

pub(super) enum Rule {
    Field(NameId, Vec<Rule>),
    /// Of a struct that is embedded.
    Inline(Vec<Rule>),
    /// Rules that stop each other only.
    Scope(Vec<Rule>),
    Discriminated(Discriminated),
    Check {
        /// If it fails, what follows in the same holder is not looked at.
        stop: bool,
        level: Level,
        check: Check,
    },
}

/// How far a rule has come. One that is in trial stops others, but is not reported.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Alpha,
    Beta,
    Standard,
}

pub(super) struct Discriminated {
    pub field: NameId,
    pub by: NameId,
    pub otherwise: Vec<Rule>,
    pub cases: Vec<(&'static str, Vec<Rule>)>,
}

pub(super) enum Check {
    Optional(Set),
    Required(Set),
    Forbidden(Set),
    Immutable,
    Monotonic,
    MaxItems(usize),
    MinItems(usize),
    MaxProperties(usize),
    MaxLength(usize),
    MinLength(usize),
    MaxBytes(usize),
    Minimum(i64),
    Maximum(i64),
    Format(Format),
    Enum(Vec<&'static str>),
    Unique(Match),
    Each(Match, Box<Check>),
    EachKey(Box<Check>),
    EachValue(Box<Check>),
    Union(Vec<Member>),
    AtMostOne(Vec<Member>),
    Update(Vec<Change>),
    UpdateList(Match, Vec<Change>),
    DependentRequired(NameId, NameId),
    DependentForbidden(NameId, NameId),
    Subfield(NameId, Box<Check>),
    Option {
        name: &'static str,
        on: bool,
        inner: Box<Check>,
    },
    Type(&'static str),
    /// A function that upstream wrote by hand.
    Custom(&'static str),
}

/// When a field is set.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Set {
    /// A pointer: when it is there.
    There,
    /// A value: when it is not zero or empty.
    NotZero,
}

impl Set {
    pub(super) fn is_set(self, value: Option<&Value>) -> bool {
        match (self, value) {
            (_, None) => false,
            (Self::There, Some(_)) => true,
            (Self::NotZero, Some(value)) => match value {
                Value::Null => false,
                Value::String(s) => !s.is_empty(),
                Value::Int(i) => *i != 0,
                Value::Bool(b) => *b,
                Value::List(l) => !l.is_empty(),
                Value::Map(m) => !m.is_empty(),
                _ => true,
            },
        }
    }
}

/// What an update may not do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Change {
    Set,
    Unset,
    Modify,
    AddItem,
    RemoveItem,
}

/// Which elements of two lists are the same.
#[derive(Clone, Copy)]
pub(super) enum Match {
    Never,
    Equal,
    Keys(&'static [NameId]),
}

impl Match {
    pub(super) fn same(self, a: &Value, b: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::Equal => equal::same(a, b),
            Self::Keys(keys) => keys.iter().all(|key| equal::same_at(a, b, &[*key])),
        }
    }
}

/// A member of a union: a field, or the elements of a list that have a key of a value.
pub(super) struct Member {
    pub name: &'static str,
    pub field: NameId,
    pub set: Set,
    pub item: Option<&'static str>,
}

impl Member {
    pub(super) fn is_set(&self, of: Option<&Value>) -> bool {
        let Some(of) = of else { return false };
        match self.item {
            None => self.set.is_set(of.get(self.field).filter(|v| !v.is_null())),
            Some(value) => {
                let mut items = of.as_list().unwrap_or_default().iter();
                items.any(|item| item.get(self.field).and_then(Value::as_str) == Some(value))
            }
        }
    }
}

pub(super) fn get() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| read(proto::catalogue::validations()))
}

/// The catalogue is ours and a test reads all of it: what cannot be read is a defect of the build.
pub(super) fn read(text: &'static str) -> Table {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    let mut lines = lines.peekable();
    let (mut types, mut roots) = (HashMap::new(), HashSet::new());
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("root ") {
            roots.insert(name);
        } else if let Some(name) = line.strip_prefix("type ") {
            types.insert(name, rules(&mut lines, 1));
        } else {
            unreadable(line);
        }
    }
    Table { types, roots }
}

#[allow(
    clippy::panic,
    reason = "the text is part of the program, and a test reads it"
)]
fn unreadable(what: &str) -> ! {
    panic!("validations of the catalogue: {what}")
}

type Lines<I> = std::iter::Peekable<I>;

fn rules<I: Iterator<Item = &'static str>>(lines: &mut Lines<I>, depth: usize) -> Vec<Rule> {
    let mut rules = Vec::new();
    while let Some(line) = lines.next_if(|l| indent(l) == depth) {
        let mut words = line.trim_start().split(' ');
        let first = words.next().unwrap_or_default();
        rules.push(match first {
            "field" => Rule::Field(field(words.next()), self::rules(lines, depth + 1)),
            "inline" => Rule::Inline(self::rules(lines, depth + 1)),
            "scope" => Rule::Scope(self::rules(lines, depth + 1)),
            "discriminated" => {
                let (what, by) = (field(words.next()), field(words.next()));
                Rule::Discriminated(cases(lines, depth + 1, what, by))
            }
            "stop" => Rule::Check {
                stop: true,
                level: level(words.next().unwrap_or_default()),
                check: check(&mut words),
            },
            word => Rule::Check {
                stop: false,
                level: level(word),
                check: check(&mut words),
            },
        });
    }
    rules
}

fn level(word: &str) -> Level {
    match word {
        "alpha" => Level::Alpha,
        "beta" => Level::Beta,
        "standard" => Level::Standard,
        other => unreadable(other),
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn cases<I: Iterator<Item = &'static str>>(
    lines: &mut Lines<I>,
    depth: usize,
    field: NameId,
    by: NameId,
) -> Discriminated {
    let (mut otherwise, mut cases) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next_if(|l| indent(l) == depth) {
        match line.trim_start().split_once(' ') {
            Some(("case", value)) => cases.push((value, rules(lines, depth + 1))),
            _ => otherwise = rules(lines, depth + 1),
        }
    }
    Discriminated {
        field,
        by,
        otherwise,
        cases,
    }
}

fn field(word: Option<&str>) -> NameId {
    let name = word.unwrap_or_default();
    NameId::find(name).unwrap_or_else(|| unreadable(name))
}

fn check(words: &mut std::str::Split<'static, char>) -> Check {
    let rule = words.next().unwrap_or_default();
    let mut word = || words.next().unwrap_or_default();
    let number = |word: &str| word.parse().unwrap_or_else(|_| unreadable(word));
    let length = |word: &str| word.parse().unwrap_or_else(|_| unreadable(word));
    match rule {
        "optional" => Check::Optional(Set::NotZero),
        "optional*" => Check::Optional(Set::There),
        "required" => Check::Required(Set::NotZero),
        "required*" => Check::Required(Set::There),
        "forbidden" => Check::Forbidden(Set::NotZero),
        "forbidden*" => Check::Forbidden(Set::There),
        "immutable" => Check::Immutable,
        "monotonic" => Check::Monotonic,
        "max-items" => Check::MaxItems(length(word())),
        "min-items" => Check::MinItems(length(word())),
        "max-properties" => Check::MaxProperties(length(word())),
        "max-length" => Check::MaxLength(length(word())),
        "min-length" => Check::MinLength(length(word())),
        "max-bytes" => Check::MaxBytes(length(word())),
        "minimum" => Check::Minimum(number(word())),
        "maximum" => Check::Maximum(number(word())),
        "format" => {
            let name = word();
            Check::Format(formats::find(name).unwrap_or_else(|| unreadable(name)))
        }
        "enum" => Check::Enum(word().split('|').collect()),
        "unique" => Check::Unique(keys(word())),
        "each" => Check::Each(keys(word()), Box::new(check(words))),
        "each-key" => Check::EachKey(Box::new(check(words))),
        "each-value" => Check::EachValue(Box::new(check(words))),
        "union" => Check::Union(words.map(member).collect()),
        "at-most-one" => Check::AtMostOne(words.map(member).collect()),
        "update" => Check::Update(changes(word())),
        "update-list" => Check::UpdateList(keys(word()), changes(word())),
        "dependent-required" => Check::DependentRequired(field(words.next()), field(words.next())),
        "dependent-forbidden" => {
            Check::DependentForbidden(field(words.next()), field(words.next()))
        }
        "subfield" => Check::Subfield(field(words.next()), Box::new(check(words))),
        "option" => Check::Option {
            name: word(),
            on: word() == "on",
            inner: Box::new(check(words)),
        },
        "type" => Check::Type(word()),
        "custom" => Check::Custom(word()),
        other => unreadable(other),
    }
}

fn keys(word: &'static str) -> Match {
    match word {
        "(-)" => Match::Never,
        "(*)" => Match::Equal,
        _ => {
            let inner = word.trim_matches(['(', ')']).split(',');
            // As many as the catalogue has lists with keys.
            Match::Keys(Vec::leak(inner.map(|key| field(Some(key))).collect()))
        }
    }
}

fn member(word: &'static str) -> Member {
    if let Some((list, key, value)) = word
        .split_once(':')
        .and_then(|(list, rest)| rest.split_once('=').map(|(key, value)| (list, key, value)))
    {
        // As many as the catalogue has unions of elements: two.
        let name = format!("{list}[{{\"{key}\": \"{value}\"}}]");
        return Member {
            name: Box::leak(name.into_boxed_str()),
            field: field(Some(key)),
            set: Set::There,
            item: Some(value),
        };
    }
    let (name, set) = match word.strip_suffix("[]") {
        Some(name) => (name, Set::NotZero),
        None => (word, Set::There),
    };
    Member {
        name,
        field: field(Some(name)),
        set,
        item: None,
    }
}

fn changes(word: &str) -> Vec<Change> {
    word.split(',')
        .map(|change| match change {
            "NoSet" => Change::Set,
            "NoUnset" => Change::Unset,
            "NoModify" => Change::Modify,
            "NoAddItem" => Change::AddItem,
            "NoRemoveItem" => Change::RemoveItem,
            other => unreadable(other),
        })
        .collect()
}
