//! Where the decoder is, and what it tells: strict problems and errors of type, with the paths and in
//! the words of `sigs.k8s.io/json`.

use std::borrow::Cow;
use std::fmt::Write;

use super::super::DecodeError;
use super::Strictness;
use crate::catalogue::{Field, Flags, Kind, MsgId, Shape};
use crate::name::Name;
use crate::path::quote;
use crate::value::Value;

/// Upstream stops collecting here.
const MAX_PROBLEMS: usize = 100;

/// One level of nesting.
pub(super) enum Step<'a> {
    Field(MsgId, &'static Field),
    Key(Cow<'a, str>),
    Index(usize),
}

pub(super) struct Problems<'a> {
    wanted: bool,
    way: Vec<Step<'a>>,
    /// With the place in the text: keys given twice are found when their map ends.
    found: Vec<(usize, String)>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(strictness: Strictness) -> Self {
        Self {
            wanted: strictness == Strictness::Strict,
            way: Vec::with_capacity(16),
            found: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, step: Step<'a>) {
        self.way.push(step);
    }

    pub(super) fn pop(&mut self) {
        self.way.pop();
    }

    pub(super) fn depth(&self) -> usize {
        self.way.len()
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted
    }

    /// Stops looking for problems; returns what [`Problems::resume`] wants back.
    pub(super) fn suspend(&mut self) -> bool {
        std::mem::replace(&mut self.wanted, false)
    }

    pub(super) fn resume(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    pub(super) fn unknown(&mut self, key: &str, at: usize) {
        self.problem("unknown field", key, at);
    }

    pub(super) fn duplicate(&mut self, key: &str, at: usize) {
        self.problem("duplicate field", key, at);
    }

    /// Reports the later ones of equal names; `offsets` are the places of the entries.
    pub(super) fn duplicate_keys(&mut self, entries: &[(Name, Value)], offsets: &[usize]) {
        if !self.wanted || entries.is_sorted_by(|a, b| a.0 < b.0) {
            return;
        }
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|a, b| entries[*a].0.cmp(&entries[*b].0));
        for pair in order.windows(2) {
            let later = &entries[pair[1]].0;
            if entries[pair[0]].0 == *later {
                self.duplicate(later.as_str(), offsets[pair[1]]);
            }
        }
    }

    fn problem(&mut self, what: &str, key: &str, at: usize) {
        if !self.wanted || self.found.len() >= MAX_PROBLEMS {
            return;
        }
        let mut path = String::new();
        for step in &self.way {
            match step {
                Step::Field(_, field) => push_dotted(&mut path, field.name.text()),
                Step::Key(key) => push_dotted(&mut path, key),
                Step::Index(i) => {
                    let _ = write!(path, "[{i}]");
                }
            }
        }
        push_dotted(&mut path, key);
        let text = format!("{what} {}", quote(&path));
        if self.found.iter().all(|(_, other)| *other != text) {
            self.found.push((at, text));
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, text)| text).collect()
    }

    /// The message around this place.
    pub(super) fn message(&self) -> Option<MsgId> {
        self.way.iter().rev().find_map(|step| match step {
            Step::Field(message, _) => Some(*message),
            _ => None,
        })
    }

    /// `json: cannot unmarshal <given> into Go struct field <Struct>.<path> of type <target>`. Lists
    /// and maps leave no trace in the path, embedded structs do.
    pub(super) fn type_error(&self, given: String, target: &str) -> DecodeError {
        let Some(message) = self.message() else {
            return DecodeError::Type(Box::new((given, format!("value of type {target}"))));
        };
        let mut path = String::new();
        for step in &self.way {
            if let Step::Field(message, field) = step {
                push_embedding(&mut path, *message, field);
                push_dotted(&mut path, field.name.text());
            }
        }
        let name = bare_name(message);
        DecodeError::Type(Box::new((
            given,
            format!("struct field {name}.{path} of type {target}"),
        )))
    }
}

fn push_dotted(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// The names of the embedded structs that hold `field` in `message`.
fn push_embedding(path: &mut String, message: MsgId, field: &Field) {
    let own = || message.fields_by_tag();
    if own().any(|f| std::ptr::eq(f, field)) {
        return;
    }
    for inline in own().filter(|f| f.has(Flags::INLINE)) {
        if let Kind::Message(inner) = inline.kind
            && inner
                .field(field.name)
                .is_some_and(|f| std::ptr::eq(f, field))
        {
            push_dotted(path, bare_name(inner));
            return push_embedding(path, inner, field);
        }
    }
    // Embedded, and not in protobuf.
    push_dotted(path, "TypeMeta");
}

/// `PodSpec` of `core/v1.PodSpec`.
fn bare_name(message: MsgId) -> &'static str {
    message.name().rsplit('.').next().unwrap_or_default()
}

/// The Go type of a message: `v1.PodSpec` of `core/v1.PodSpec`.
pub(super) fn go_name(message: MsgId) -> String {
    message
        .name()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The Go type of a field, or of one element of it.
pub(super) fn go_type(field: &Field, whole: bool) -> String {
    if let Some(named) = field.go_type() {
        let element = match field.shape {
            _ if whole => Some(named),
            Shape::One => Some(named),
            Shape::List => named.strip_prefix("[]"),
            Shape::Map => named
                .strip_prefix("map[")
                .and_then(|of| of.split_once(']'))
                .map(|(_, of)| of),
        };
        if let Some(element) = element {
            return element
                .trim_start_matches(if whole { "" } else { "*" })
                .to_owned();
        }
    }
    let element = match field.kind {
        Kind::String => "string".into(),
        Kind::Bool => "bool".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Float64 => "float64".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Time => "v1.Time".into(),
        Kind::MicroTime => "v1.MicroTime".into(),
        Kind::Quantity => "resource.Quantity".into(),
        Kind::IntOrString => "intstr.IntOrString".into(),
        Kind::RawExtension => "runtime.RawExtension".into(),
        Kind::FieldsV1 => "v1.FieldsV1".into(),
        Kind::Json => "v1.JSON".into(),
        Kind::Strings => "[]string".into(),
        Kind::SchemaOrBool => "v1.JSONSchemaPropsOrBool".into(),
        Kind::SchemaOrArray => "v1.JSONSchemaPropsOrArray".into(),
        Kind::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".into(),
        Kind::Message(message) => go_name(message),
    };
    let pointer = if field.has(Flags::ELEMENT_POINTER) {
        "*"
    } else {
        ""
    };
    match (whole, field.shape) {
        (true, Shape::List) => format!("[]{pointer}{element}"),
        (true, Shape::Map) => format!("map[string]{pointer}{element}"),
        _ => element,
    }
}
