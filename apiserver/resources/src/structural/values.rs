//! Values against a schema: `kube-openapi/pkg/validation/validate`, `apiserver/validation`.
//!
//! Every keyword is checked whatever the others find, and all errors are told, each once. Below `anyOf`,
//! `oneOf` and `not` nobody is told anything until it is clear whose errors count: of alternatives that
//! all fail, those of the one in which most checks applied. So alternatives are first tried in silence,
//! and the best is walked again for its errors.
//!
//! Errors that are about several alternatives stand at the object itself and name the field in their
//! text, as upstream's do.

use std::collections::HashSet;

use proto::Value;
use proto::path::{FieldError, Reason, quote};

use super::correlate::Was;
use super::text::{self, Path, show};
use super::{Additional, Checks, Flags, Junctors, Kind, Schema, formats};

impl Schema {
    /// Checks a value against the schema. `at` is the path of the value; empty for a whole object.
    #[must_use]
    pub fn validate(&self, value: &Value, at: &str) -> Vec<FieldError> {
        run(self, value, None, Reading::Definition, at)
    }

    /// Checks a value that replaces another. What did not change is not judged again
    /// (`CRDValidationRatcheting`, KEP-4008): fields correlate by name, items of list-maps by their keys.
    #[must_use]
    pub fn validate_update(&self, value: &Value, old: &Value, at: &str) -> Vec<FieldError> {
        let was = Was::new(old, self);
        run(self, value, Some(&was), Reading::Definition, at)
    }

    /// [`Schema::validate`] of a default. Upstream reads the schema otherwise there: formats that it does
    /// not know are not left out, and an int-or-string has no type of its own.
    pub(super) fn validate_as_default(&self, value: &Value, at: &str) -> Vec<FieldError> {
        run(self, value, None, Reading::Structural, at)
    }

    /// Whether there is a `format` that is not known for the type.
    #[must_use]
    pub fn has_unknown_format(&self) -> bool {
        self.format()
            .is_some_and(|format| Self::is_unknown_format(self.kind.as_ref(), format))
    }

    /// The same of a type and a format by themselves.
    #[must_use]
    pub fn is_unknown_format(kind: Option<&Kind>, format: &str) -> bool {
        !is_known(kind.map_or(Types::Any, Types::One), format)
    }

    /// Of which types a value can be.
    fn types(&self, reading: Reading) -> Types<'_> {
        if self.is_int_or_string() && reading == Reading::Definition {
            Types::IntOrString
        } else {
            self.kind.as_ref().map_or(Types::Any, Types::One)
        }
    }
}

/// From which of upstream's forms of a schema it makes its validator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Definition,
    Structural,
}

#[derive(Clone, Copy)]
enum Types<'a> {
    Any,
    One(&'a Kind),
    IntOrString,
}

impl Types<'_> {
    fn has(self, kind: &Kind) -> bool {
        match self {
            Self::Any => false,
            Self::One(one) => one == kind,
            Self::IntOrString => matches!(kind, Kind::Integer | Kind::String),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Any => String::new(),
            Self::One(kind) => kind.as_str().into(),
            Self::IntOrString => "integer,string".into(),
        }
    }
}

/// Whether values of a type can have a format.
fn is_known(types: Types<'_>, format: &str) -> bool {
    match types {
        Types::Any | Types::IntOrString | Types::One(Kind::String) => {
            formats::find(format).is_some()
        }
        Types::One(Kind::Integer) => matches!(format, "int32" | "int64"),
        Types::One(Kind::Number) => matches!(format, "float" | "double"),
        Types::One(_) => false,
    }
}

fn run(
    schema: &Schema,
    value: &Value,
    was: Option<&Was<'_>>,
    reading: Reading,
    at: &str,
) -> Vec<FieldError> {
    let mut judge = Judge {
        base: at,
        reading,
        silent: false,
        failures: 0,
        found: Vec::new(),
    };
    judge.value(schema, value, &Path::root(""), was, false);
    let mut seen = HashSet::new();
    let mut found = judge.found;
    found.retain(|f| seen.insert(f.message.clone()));
    found.into_iter().map(|f| f.error).collect()
}

struct Failure {
    /// By which upstream tells failures apart.
    message: String,
    error: FieldError,
}

pub(super) struct Judge<'a> {
    base: &'a str,
    reading: Reading,
    /// Failures are counted and not kept.
    silent: bool,
    failures: usize,
    found: Vec<Failure>,
}

impl Judge<'_> {
    /// The field of an error at a path of the value.
    fn field(&self, name: &str) -> String {
        let base = Path::root(self.base);
        match name {
            "" | "." => base.field(),
            name => base.child(name.strip_prefix('.').unwrap_or(name)).field(),
        }
    }

    fn push(&mut self, make: impl FnOnce(&Self) -> Failure) {
        self.failures += 1;
        if !self.silent {
            let failure = make(self);
            self.found.push(failure);
        }
    }

    /// An error at a field: `make` is given its path, and gives reason, value, detail and the message.
    fn fail(
        &mut self,
        at: &Path<'_>,
        make: impl FnOnce(&str) -> (Reason, String, String, Option<String>),
    ) {
        self.push(|judge| {
            let name = at.text();
            let (reason, value, detail, message) = make(&name);
            Failure {
                message: message.unwrap_or_else(|| detail.clone()),
                error: FieldError::new(reason, judge.field(&name), value, detail),
            }
        });
    }

    /// An error whose text says it all: `{path} in body {what}`.
    pub(super) fn invalid(
        &mut self,
        at: &Path<'_>,
        value: impl FnOnce() -> String,
        what: impl FnOnce() -> String,
    ) {
        self.fail(at, |name| {
            let detail = format!("{name} in body {}", what());
            (Reason::Invalid, value(), detail, None)
        });
    }

    pub(super) fn must_be_positive(&mut self, at: &Path<'_>, factor: &str) {
        self.fail(at, |name| {
            let detail =
                format!("factor MultipleOf declared for {name} must be positive: {factor}");
            (Reason::Invalid, factor.to_owned(), detail, None)
        });
    }

    /// An error that stands at the object itself.
    pub(super) fn general(&mut self, message: impl FnOnce() -> String) {
        self.push(|judge| {
            let detail = message();
            Failure {
                message: detail.clone(),
                error: FieldError::new(
                    Reason::Invalid,
                    Path::root(judge.base).field(),
                    quote(""),
                    detail,
                ),
            }
        });
    }

    fn type_invalid(&mut self, at: &Path<'_>, wanted: impl FnOnce() -> String, value: &str) {
        self.fail(at, |name| {
            let detail = format!(
                "{name} in body must be of type {}: {}",
                wanted(),
                quote(value)
            );
            (Reason::TypeInvalid, quote(value), detail, None)
        });
    }

    /// Runs `f` in silence; whether nothing failed, and what it returns.
    fn silently<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> (bool, T) {
        let (silent, failures) = (self.silent, self.failures);
        self.silent = true;
        let result = f(self);
        let valid = self.failures == failures;
        self.silent = silent;
        self.failures = failures;
        (valid, result)
    }

    /// Checks a value and returns how many checks applied. Failures of what did not change are dropped.
    fn value(
        &mut self,
        s: &Schema,
        value: &Value,
        at: &Path<'_>,
        was: Option<&Was<'_>>,
        nested: bool,
    ) -> usize {
        let (failures, found) = (self.failures, self.found.len());
        let count = self.keywords(s, value, at, was, nested);
        if self.failures > failures && was.is_some_and(|was| was.equals(value)) {
            self.failures = failures;
            self.found.truncate(found);
        }
        count
    }

    fn keywords(
        &mut self,
        s: &Schema,
        value: &Value,
        at: &Path<'_>,
        was: Option<&Was<'_>>,
        nested: bool,
    ) -> usize {
        let types = s.types(self.reading);
        let format = self.format_of(s);
        let checks = s.checks.as_deref();
        if value.is_null() {
            let mut count = 1;
            let typed = !matches!(types, Types::Any);
            if typed && !types.has(&Kind::Null) && !s.is_nullable() {
                self.type_invalid(at, || types.text(), "null");
                count = 0;
            }
            if let Some(checks) = checks {
                self.allowed(checks, value, at);
            }
            return count;
        }
        // The schema itself, alternatives, the enumeration.
        let mut count = 3;
        if !matches!(types, Types::Any) || format.is_some() {
            count += 1 + self.type_of(types, format, value, at);
        }
        count += 1 + s.junctors().map_or(0, |j| self.junctors(j, value, at));
        match value {
            Value::String(text) => {
                count += 1;
                if let Some(checks) = checks {
                    self.string(checks, text, at);
                }
                if let Some(format) = format
                    && let Some(check) = formats::find(format)
                {
                    count += 1;
                    if !check(text) {
                        self.type_invalid(at, || format.to_owned(), text);
                    }
                }
            }
            Value::Int(_) | Value::Float(_) => {
                count += 2;
                self.number(s, types, format, value, at);
            }
            Value::List(items) => {
                count += 2 + self.items(s, items, at, was, nested);
            }
            _ => {}
        }
        if let Some(checks) = checks {
            self.allowed(checks, value, at);
        }
        if let Value::Map(map) = value {
            count += 1 + self.object(s, map, at, was, nested);
        }
        count
    }

    /// The format, if it counts: of a definition only those that are known for the type.
    fn format_of<'s>(&self, s: &'s Schema) -> Option<&'s str> {
        let format = s.format()?;
        let counts = self.reading == Reading::Structural || is_known(s.types(self.reading), format);
        counts.then_some(format)
    }

    /// The type of a value; returns how many checks passed.
    fn type_of(
        &mut self,
        types: Types<'_>,
        format: Option<&str>,
        value: &Value,
        at: &Path<'_>,
    ) -> usize {
        let (kind, own) = match value {
            Value::Null => (Kind::Null, ""),
            Value::Bool(_) => (Kind::Boolean, ""),
            Value::Int(_) => (Kind::Integer, "int64"),
            Value::Float(_) => (Kind::Number, "float64"),
            Value::String(_) | Value::Bytes(_) | Value::Raw(_) => (Kind::String, ""),
            Value::List(_) => (Kind::Array, ""),
            Value::Map(_) => (Kind::Object, ""),
        };
        let whole = matches!(value, Value::Float(f) if is_whole(*f));
        let fits = types.has(&kind)
            || whole && types.has(&Kind::Integer)
            || kind == Kind::Integer && types.has(&Kind::Number);
        let textual = matches!(kind, Kind::String | Kind::Array);
        let numeric = types.has(&Kind::Number) || types.has(&Kind::Integer);
        match format {
            Some(format) if !textual && !fits && own != format => {
                self.type_invalid(at, || format.to_owned(), own);
                0
            }
            Some(_) if textual && !numeric => 1,
            _ if fits => 1,
            _ => {
                self.type_invalid(at, || types.text(), kind.as_str());
                0
            }
        }
    }

    fn junctors(&mut self, j: &Junctors, value: &Value, at: &Path<'_>) -> usize {
        let mut count = self.any_of(j, value, at);
        count += self.one_of(j, value, at);
        if !j.all_of.is_empty() {
            let mut validated = 0;
            for schema in &j.all_of {
                let failures = self.failures;
                count += self.value(schema, value, at, None, true);
                validated += usize::from(self.failures == failures);
            }
            if validated < j.all_of.len() {
                let none = if validated == 0 {
                    ". None validated"
                } else {
                    ""
                };
                self.general(|| {
                    let path = quote(&at.text());
                    format!("{path} must validate all the schemas (allOf){none}")
                });
            }
        }
        if let Some(schema) = &j.not
            && self
                .silently(|judge| judge.value(schema, value, at, None, true))
                .0
        {
            self.general(|| {
                let path = quote(&at.text());
                format!("{path} must not validate the schema (not)")
            });
        }
        count
    }

    fn any_of(&mut self, j: &Junctors, value: &Value, at: &Path<'_>) -> usize {
        let mut best: Option<(usize, &Schema)> = None;
        for schema in &j.any_of {
            let (valid, count) = self.silently(|judge| judge.value(schema, value, at, None, true));
            if valid {
                return count;
            }
            if best.is_none_or(|(most, _)| count > most) {
                best = Some((count, schema));
            }
        }
        let Some((count, best)) = best else {
            return 0;
        };
        self.general(|| {
            let path = quote(&at.text());
            format!("{path} must validate at least one schema (anyOf)")
        });
        self.told(best, count, value, at)
    }

    fn one_of(&mut self, j: &Junctors, value: &Value, at: &Path<'_>) -> usize {
        let mut best: Option<(usize, &Schema)> = None;
        let mut validated = Vec::new();
        for schema in &j.one_of {
            let (valid, count) = self.silently(|judge| judge.value(schema, value, at, None, true));
            if valid {
                validated.push(count);
            } else if validated.is_empty() && best.is_none_or(|(most, _)| count > most) {
                best = Some((count, schema));
            }
        }
        match (&validated[..], best) {
            ([count], _) => *count,
            ([], None) => 0,
            (all, best) => {
                self.general(|| {
                    let path = quote(&at.text());
                    let found = match all.len() {
                        0 => "Found none valid".to_owned(),
                        n => format!("Found {n} valid alternatives"),
                    };
                    format!("{path} must validate one and only one schema (oneOf). {found}")
                });
                match best {
                    Some((count, best)) if all.is_empty() => self.told(best, count, value, at),
                    _ => 0,
                }
            }
        }
    }

    /// Tells the errors of an alternative that failed in silence, of which `count` checks applied. Where nobody is told
    /// anything it is not walked again: alternatives nest.
    fn told(&mut self, s: &Schema, count: usize, value: &Value, at: &Path<'_>) -> usize {
        if self.silent {
            return count;
        }
        self.value(s, value, at, None, true)
    }

    /// The first of these that a string fails.
    fn string(&mut self, checks: &Checks, text: &str, at: &Path<'_>) {
        let value = || quote(text);
        if let Some(bounds) = checks.bounds.as_deref() {
            let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            if let Some(max) = bounds.max_length.filter(|max| length() > *max) {
                return self.fail(at, |name| {
                    let error = usize::try_from(max).map_or_else(
                        |_| "value is too long".into(),
                        |max| FieldError::too_long("", max).detail,
                    );
                    let message = format!("{name} in body should be at most {max} chars long");
                    (Reason::TooLong, String::new(), error, Some(message))
                });
            }
            if let Some(min) = bounds.min_length.filter(|min| length() < *min) {
                return self.invalid(at, value, || format!("should be at least {min} chars long"));
            }
        }
        if let Some(pattern) = checks.pattern.as_deref() {
            let text_of = &pattern.text;
            match pattern.compiled() {
                Ok(compiled) if compiled.is_match(text) => {}
                Ok(_) => self.invalid(at, value, || format!("should match '{text_of}'")),
                Err(why) => self.invalid(at, value, || {
                    format!("should match '{text_of}, but pattern is invalid: {why}'")
                }),
            }
        }
    }

    fn items(
        &mut self,
        s: &Schema,
        items: &[Value],
        at: &Path<'_>,
        was: Option<&Was<'_>>,
        nested: bool,
    ) -> usize {
        let mut count = 0;
        if let Some(schema) = &s.items {
            for (i, item) in items.iter().enumerate() {
                let was = was.and_then(|was| was.index(item));
                count += self.value(schema, item, &at.index(i), was.as_ref(), nested);
            }
        }
        if let Some(bounds) = s.bounds() {
            let (min, max) = (bounds.min_items, bounds.max_items);
            self.size(items.len(), min, max, "items", at);
        }
        let repeated = || (1..items.len()).any(|i| items[..i].contains(&items[i]));
        if s.flags.has(Flags::UNIQUE_ITEMS) && repeated() {
            self.invalid(
                at,
                || quote(""),
                || "shouldn't contain duplicates".to_owned(),
            );
        }
        count
    }

    /// How many items or properties (`of`) there are.
    fn size(&mut self, len: usize, min: Option<i64>, max: Option<i64>, of: &str, at: &Path<'_>) {
        let size = i64::try_from(len).unwrap_or(i64::MAX);
        if let Some(min) = min.filter(|min| size < *min) {
            self.invalid(
                at,
                || size.to_string(),
                || format!("should have at least {min} {of}"),
            );
        }
        let Some(max) = max.filter(|max| size > *max) else {
            return;
        };
        self.fail(at, |name| {
            let plural = if max == 1 { "item" } else { "items" };
            let detail = if max < 0 {
                "has too many items".to_owned()
            } else {
                format!("must have at most {max} {plural}")
            };
            let message = format!("{name} in body should have at most {max} {of}");
            (Reason::TooMany, size.to_string(), detail, Some(message))
        });
    }

    /// `enum`.
    fn allowed(&mut self, checks: &Checks, value: &Value, at: &Path<'_>) {
        let allowed = &checks.allowed;
        if allowed.is_empty() || allowed.iter().any(|one| converts_to(value, one)) {
            return;
        }
        self.fail(at, |name| {
            let detail = text::allowed(allowed);
            let message = format!("{name} in body should be one of {}", text::list(allowed));
            (Reason::NotSupported, show(value), detail, Some(message))
        });
    }

    fn object(
        &mut self,
        s: &Schema,
        map: &proto::Map,
        at: &Path<'_>,
        was: Option<&Was<'_>>,
        nested: bool,
    ) -> usize {
        let mut count = 0;
        if let Some(bounds) = s.bounds() {
            let (min, max) = (bounds.min_properties, bounds.max_properties);
            self.size(map.len(), min, max, "properties", at);
        }
        // The structural form has no additional properties below alternatives.
        let hidden = nested && self.reading == Reading::Structural;
        match &s.additional {
            Additional::Allowed(false) if !hidden => {
                for (name, _) in map.iter().filter(|(n, _)| s.property(*n).is_none()) {
                    self.fail(at, |path| {
                        let detail = format!("{path}.{name} in body is a forbidden property");
                        (Reason::Invalid, quote(name.as_str()), detail, None)
                    });
                }
            }
            Additional::Schema(schema) if !hidden => {
                for (name, value) in map.iter().filter(|(n, _)| s.property(*n).is_none()) {
                    let was = self.was(was, name, at);
                    let at = at.dotted(name.as_str());
                    count += self.value(schema, value, &at, was.as_ref(), nested);
                }
            }
            _ => {}
        }
        for (name, schema) in &s.properties {
            if let Some(value) = map.get(name) {
                let was = self.was(was, name, at);
                let at = at.child(name.as_str());
                count += self.value(schema, value, &at, was.as_ref(), nested);
            }
        }
        for name in s.required().iter().filter(|name| !map.contains(*name)) {
            self.fail(&at.dotted(name.as_str()), |path| {
                let message = format!("{path} in body is required");
                (
                    Reason::Required,
                    String::new(),
                    String::new(),
                    Some(message),
                )
            });
        }
        count
    }

    /// What a field was. The kind of an object and its version are not its own: a change of them is not
    /// seen, because both objects were brought to one version.
    fn was<'w>(
        &self,
        was: Option<&Was<'w>>,
        name: &proto::name::Name,
        at: &Path<'_>,
    ) -> Option<Was<'w>> {
        if at.is_root() && matches!(name.as_str(), "apiVersion" | "kind") {
            return None;
        }
        was?.key(name)
    }
}

/// Whether a value is an allowed one once it is converted to its type as Go converts: between numbers
/// with what is lost, and from a number to the character that has it.
fn converts_to(value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (_, Value::Null) | (Value::Null, _) => false,
        #[allow(clippy::cast_precision_loss, reason = "as Go converts")]
        (Value::Int(i), Value::Float(f)) => (*i as f64) == *f,
        (Value::Float(f), Value::Int(i)) => super::number::to_int(*f) == *i,
        (Value::Int(i), Value::String(s)) => {
            let c = u32::try_from(*i).ok().and_then(char::from_u32);
            let mut buffer = [0; 4];
            **s == *c
                .unwrap_or(char::REPLACEMENT_CHARACTER)
                .encode_utf8(&mut buffer)
        }
        (value, allowed) => value == allowed,
    }
}

/// Whether a double is nearly a whole number, of those that JSON can have exactly.
pub(super) fn is_whole(f: f64) -> bool {
    const MAX: f64 = ((1_i64 << 53) - 1) as f64;
    if !f.is_finite() || !(-MAX..=MAX).contains(&f) {
        return false;
    }
    let rounded = f.round();
    let off = (f - rounded).abs();
    off == 0.0 || rounded != 0.0 && off < 1e-9 * rounded.abs()
}

impl Judge<'_> {
    fn number(
        &mut self,
        s: &Schema,
        types: Types<'_>,
        format: Option<&str>,
        value: &Value,
        at: &Path<'_>,
    ) {
        use super::number::{Number, Range};
        let range = match types {
            Types::One(Kind::Integer) => {
                Range::integer(format.filter(|f| matches!(*f, "int32" | "int64")))
            }
            Types::One(Kind::Number) => {
                Range::number(format.filter(|f| matches!(*f, "float" | "double")))
            }
            _ => Range::ANY,
        };
        if let Some(number) = Number::of(value) {
            super::number::check(self, s, range, number, at);
        }
    }
}
