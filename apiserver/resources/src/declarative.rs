//! Declarative validation (KEP-5073): rules that upstream generates from the tags of its types.
//!
//! The rules are facts of the catalogue (`proto/catalogue/validations.txt`); [`table`] reads them once,
//! [`check`] knows each rule, and this walk goes through the new and the old tree along the types. Upstream
//! runs it after a strategy's own validation, so its errors come last. Where both find the same, upstream
//! drops the hand-written error for the declarative one: strategies mark theirs as covered
//! (`Errors::covered`).
//!
//! What an update leaves as it was is not looked at again here. Strategies look, so what is wrong with it
//! they alone say.

use proto::catalogue::{Field, GateId, Gates, Kind, Shape, gate};
use proto::codec::json;
use proto::path::{Errors, FieldError, Spot};
use proto::{MsgId, NameId, Value};

use super::equal;

mod check;
mod formats;
mod table;

#[cfg(test)]
mod tests;

use table::{Check, Level, Match, Rule};

/// The options that rules ask for and that are on for an object and the one it replaces. Upstream's
/// strategies make them of feature gates and of what the old object uses already.
pub type Options = fn(Gates, &Value, Option<&Value>) -> Vec<&'static str>;

/// No rule of the type asks for an option.
pub const NO_OPTIONS: Options = |_, _, _| Vec::new();

/// Those of some gates that are on, whatever the objects are.
#[must_use]
pub fn of_gates(gates: Gates, asked: &[GateId]) -> Vec<&'static str> {
    let on = asked.iter().filter(|gate| gates.has(**gate));
    on.map(|gate| gate.gate().name).collect()
}

/// Validates an object of a message, and what an update makes of the old one.
pub fn validate<'a>(
    gates: Gates,
    message: MsgId,
    new: &'a Value,
    old: Option<&'a Value>,
    options: Options,
    errors: &mut Errors<'a>,
) {
    let table = table::get();
    if !table.roots.contains(message.name()) {
        return;
    }
    let mut walk = Walk {
        errors,
        options: options(gates, new, old),
        update: old.is_some(),
        beta: gates.has(gate::DECLARATIVE_VALIDATION_BETA),
        quiet: false,
        failures: 0,
    };
    walk.typed(
        message.name(),
        &Place {
            at: Spot::node(new),
            new: Some(new),
            old,
            of: Of::One(Kind::Message(message)),
        },
    );
}

const NOTHING: &Value = &Value::Null;

/// What may be at a place.
#[derive(Clone, Copy)]
enum Of {
    /// What a field has, of whatever shape.
    Field(&'static Field),
    /// An object, an element of a list, or a value of a map.
    One(Kind),
    /// What the catalogue has no type for.
    Anything,
}

impl Of {
    /// The message of what is there, if it is one.
    fn message(self) -> Option<MsgId> {
        match self {
            Self::Field(field) if field.shape == Shape::One => Self::One(field.kind).message(),
            Self::One(Kind::Message(of)) => Some(of),
            _ => None,
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Field(field) => Self::One(field.kind),
            _ => Self::Anything,
        }
    }
}

/// A value, where it is, and what it was; none is Go's nil.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: Spot<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
    of: Of,
}

impl<'a> Place<'a> {
    /// A field below. Only an absent one is said by its name: others have an address.
    fn field(&self, name: NameId) -> Self {
        let of = |value: Option<&'a Value>| value?.get(name).filter(|v| !v.is_null());
        let new = of(self.new);
        let field = self.of.message().and_then(|of| of.field(name));
        Place {
            at: new.map_or_else(|| self.at.field(name), Spot::node),
            new,
            old: of(self.old),
            of: field.map_or(Of::Anything, Of::Field),
        }
    }

    /// An element of a list or a value of a map.
    fn item(&self, new: &'a Value, old: Option<&'a Value>) -> Self {
        Place {
            at: Spot::node(new),
            new: Some(new),
            old,
            of: self.of.item(),
        }
    }

    /// Whether it is what it was.
    fn same(&self) -> bool {
        let (now, was) = (self.new.unwrap_or(NOTHING), self.old.unwrap_or(NOTHING));
        match self.of {
            Of::Field(field) => equal::alike_as(self.new, self.old, field),
            Of::One(kind) => equal::single(now, was, kind),
            Of::Anything => equal::same(now, was),
        }
    }

    /// Whether an update left it as it was, `old` being what it was part of.
    fn unchanged(&self, update: bool, old: Option<&Value>) -> bool {
        update && old.is_some() && self.same()
    }
}

struct Walk<'e, 'a> {
    errors: &'e mut Errors<'a>,
    options: Vec<&'static str>,
    update: bool,
    /// Rules of that level are enforced: `DeclarativeValidationBeta`.
    beta: bool,
    /// In a rule that is not enforced: failures count, but are not reported.
    quiet: bool,
    failures: usize,
}

impl<'a> Walk<'_, 'a> {
    fn typed(&mut self, name: &str, place: &Place<'a>) {
        if let Some(rules) = table::get().types.get(name) {
            self.rules(rules, place);
        }
    }

    /// The rules of one holder. Those that may stop come first and are all looked at.
    fn rules(&mut self, rules: &'static [Rule], place: &Place<'a>) {
        let mut stopped = false;
        for rule in rules {
            match rule {
                Rule::Check {
                    stop: true,
                    check,
                    level,
                } => {
                    stopped |= self.fails(check, *level, place);
                }
                _ if stopped => return,
                Rule::Check { check, level, .. } => {
                    self.fails(check, *level, place);
                }
                Rule::Field(name, rules) => {
                    let field = place.field(*name);
                    if !field.unchanged(self.update, place.old) {
                        self.rules(rules, &field);
                    }
                }
                // What is embedded lies in the same map.
                Rule::Inline(rules) | Rule::Scope(rules) => self.rules(rules, place),
                Rule::Discriminated(d) => self.discriminated(d, place),
            }
        }
    }

    /// What a field may be depends on another.
    fn discriminated(&mut self, rule: &'static table::Discriminated, place: &Place<'a>) {
        let (field, by) = (place.field(rule.field), place.field(rule.by));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("").to_owned();
        let case = text(by.new);
        if field.unchanged(self.update, place.old) && case == text(by.old) {
            return;
        }
        let of = rule.cases.iter().find(|(value, _)| *value == case);
        let rules = of.map_or(rule.otherwise.as_slice(), |(_, rules)| rules.as_slice());
        self.rules(rules, &field);
    }

    fn fails(&mut self, check: &'static Check, level: Level, place: &Place<'a>) -> bool {
        let (before, quiet) = (self.failures, self.quiet);
        self.quiet |= match level {
            Level::Alpha => true,
            Level::Beta => !self.beta,
            Level::Standard => false,
        };
        let fails = self.check(check, place);
        self.quiet = quiet;
        fails || self.failures > before
    }

    /// `true` if it fails without an error: an optional field is not there.
    fn check(&mut self, check: &'static Check, place: &Place<'a>) -> bool {
        match check {
            Check::Optional(how) => return !how.is_set(place.new),
            Check::Type(name) => self.typed(name, place),
            Check::Each(of, inner) => self.each(*of, inner, place),
            Check::EachKey(inner) => {
                let was = place.old.and_then(Value::as_map);
                for (key, _) in place
                    .new
                    .and_then(Value::as_map)
                    .into_iter()
                    .flat_map(|m| m.iter())
                {
                    if was.is_none_or(|was| !was.contains(key.as_str())) {
                        for found in check::on_text(inner, key.as_str()) {
                            self.report(place.at, found);
                        }
                    }
                }
            }
            Check::EachValue(inner) => {
                let was = place.old.and_then(Value::as_map);
                for (key, value) in place
                    .new
                    .and_then(Value::as_map)
                    .into_iter()
                    .flat_map(|m| m.iter())
                {
                    let old = was.and_then(|was| was.get(key.as_str()));
                    let mut value = place.item(value, old);
                    if !value.unchanged(self.update, old) {
                        // A key may look like a field.
                        value.at = place.at.key(key.as_str());
                        self.check(inner, &value);
                    }
                }
            }
            Check::Subfield(name, inner) => {
                let field = place.field(*name);
                if !field.unchanged(self.update, place.old) {
                    return self.check(inner, &field);
                }
            }
            Check::Option { name, on, inner } => {
                if self.options.contains(name) == *on {
                    return self.check(inner, place);
                }
            }
            Check::Custom(name) => {
                for found in check::custom(name, place.new) {
                    self.report(place.at, found);
                }
            }
            other => {
                for mut found in check::on_value(other, place.new, place.old, self.update) {
                    if let (Check::Unique(_), Some(text)) = (other, twice(place, found.index)) {
                        found.value = text;
                    }
                    self.report(place.at, found);
                }
            }
        }
        false
    }

    fn each(&mut self, of: Match, inner: &'static Check, place: &Place<'a>) {
        let list = |v: Option<&'a Value>| v.and_then(Value::as_list).unwrap_or_default();
        let was = list(place.old);
        for value in list(place.new) {
            let old = was.iter().find(|old| of.same(old, value));
            let value = place.item(value, old);
            if !value.unchanged(self.update, old) {
                self.check(inner, &value);
            }
        }
    }

    fn report(&mut self, at: Spot<'a>, found: check::Finding) {
        self.failures += 1;
        if self.quiet {
            return;
        }
        let mut at = at;
        if let Some(field) = found.below {
            at = at.field(field);
        }
        if let Some(i) = found.index {
            at = at.index(i);
        }
        let field = self.errors.path(at);
        self.errors.push(FieldError::new(
            found.reason,
            field,
            found.value,
            found.detail,
        ));
    }
}

/// An object that a list has twice, with its fields in the order of the type.
fn twice(list: &Place<'_>, index: Option<usize>) -> Option<String> {
    let item = list.new?.as_list()?.get(index?)?;
    let mut text = Vec::new();
    json::encode(item, list.of.item().message()?, &mut text);
    String::from_utf8(text).ok()
}
