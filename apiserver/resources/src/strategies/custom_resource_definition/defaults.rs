//! Whether defaults keep the rules of their schemas: the last part of `schema/defaulting/validation.go`, with what
//! it needs of `schema/cel/validation.go`.
//!
//! A default is judged twice: as a value that takes its own place, and as one that takes none's.

use cel::{Activation, Error, Outcome, PER_CALL_LIMIT, Program, Root};
use proto::Value;
use proto::path::{FieldError, Reason, push_field};

use super::props::Props;
use super::rules::{Compiler, MESSAGE, RULE, RULES};
use crate::structural::Schema;
use crate::structural::text::{Path, show};

const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What is wrong with the defaults in the schema of a whole resource.
pub(super) fn validate(schema: Props<'_>, at: &Path<'_>) -> Vec<FieldError> {
    let mut judge = Judge {
        left: Some(cel::RUNTIME_BUDGET),
        errors: Vec::new(),
    };
    judge.defaults(schema, at, true);
    judge.errors
}

struct Judge {
    /// What rules may cost yet; none: no more are asked.
    left: Option<u64>,
    errors: Vec<FieldError>,
}

/// A value with its schema, and whether it takes its own place.
#[derive(Clone, Copy)]
struct Judged<'v> {
    schema: Props<'v>,
    value: &'v Value,
    has_old: bool,
    is_resource: bool,
}

impl<'v> Judged<'v> {
    fn below(schema: Props<'v>, value: &'v Value, has_old: bool) -> Self {
        Self {
            schema,
            value,
            has_old,
            is_resource: schema.flag("x-kubernetes-embedded-resource"),
        }
    }
}

impl Judge {
    /// Additional properties have no defaults.
    fn defaults(&mut self, schema: Props<'_>, at: &Path<'_>, is_resource: bool) {
        let has_rules = |s: Props<'_>| !s.list(RULES).is_empty();
        if let Some(default) = schema.get("default").filter(|_| schema.has(has_rules)) {
            let value = &match default {
                Value::Raw(json) => proto::codec::json::parse(json).unwrap_or_default(),
                other => other.clone(),
            };
            let at = at.child("default");
            let (left, errors) = (self.left, self.errors.len());
            let judged = Judged {
                schema,
                value,
                has_old: true,
                is_resource,
            };
            self.value(judged, &at);
            if self.errors.len() == errors {
                let after = std::mem::replace(&mut self.left, left);
                let has_old = false;
                self.value(Judged { has_old, ..judged }, &at);
                self.left = self.left.min(after);
            }
        }
        let is_embedded = |s: Props<'_>| s.flag("x-kubernetes-embedded-resource");
        if let Some(items) = schema.schema("items") {
            self.defaults(items, &at.child("items"), is_embedded(items));
        }
        let properties = at.child("properties");
        for (name, property) in schema.entries("properties") {
            let at = properties.key(name.as_str());
            self.defaults(property, &at, is_embedded(property));
        }
    }

    fn value(&mut self, judged: Judged<'_>, at: &Path<'_>) {
        let Judged {
            schema,
            value,
            has_old,
            ..
        } = judged;
        if value.is_null() || self.left.is_none() {
            return;
        }
        self.rules(judged, at);
        match value {
            Value::List(items) => {
                let has_old = has_old && schema.text("x-kubernetes-list-type") == "map";
                if let Some(of) = schema.schema("items") {
                    for (i, item) in items.iter().enumerate() {
                        self.value(Judged::below(of, item, has_old), &at.index(i));
                    }
                }
            }
            Value::Map(map) => {
                let matched = matches!(
                    schema.opt_text("x-kubernetes-map-type"),
                    None | Some("granular" | "atomic")
                );
                let (properties, has_old) = (schema.map("properties"), has_old && matched);
                for (name, value) in map.iter() {
                    if let Some(of) = schema.schema("additionalProperties") {
                        self.value(Judged::below(of, value, has_old), &at.key(name.as_str()));
                    }
                    if let Some(of) = properties.get(name) {
                        self.value(
                            Judged::below(Props(of), value, has_old),
                            &at.child(name.as_str()),
                        );
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, judged: Judged<'_>, at: &Path<'_>) {
        let rules = judged.schema.list(RULES);
        let root = if judged.is_resource {
            Root::Resource
        } else {
            Root::Part
        };
        if rules.is_empty() {
            return;
        }
        // Where the language has no type for a value, no rule is asked.
        let Some(schema) = cel::Schema::from_openapi(judged.schema.0, root) else {
            return;
        };
        let schema = schema.named("selfType");
        let mut compiler = Compiler::new(&schema);
        // An optional value can only be made by an expression.
        let itself = compiler.compile_any("optional.of(self)");
        let plain = Selves {
            judged,
            schema: &schema,
            optional: None,
        };
        let some = itself.map(|program| program.evaluate(&plain, PER_CALL_LIMIT).outcome);
        let none = Some(Ok(cel::Value::Optional(None)));
        let optional = Selves {
            optional: some.filter(|_| judged.has_old).or(none),
            ..plain
        };
        for rule in rules.iter().map(Props) {
            let is_optional = rule.flag("optionalOldSelf");
            match compiler.compile(rule.text("rule"), &RULE, true, is_optional) {
                Err(why) => self.invalid(judged, at, format!("rule compile error: {why}")),
                Ok(program) => {
                    let uses_old = program.variables().any(|v| v == "oldSelf");
                    if uses_old && !judged.has_old && !is_optional {
                        continue;
                    }
                    let selves = if is_optional { &optional } else { &plain };
                    if self.keeps(judged, at, rule, &program, selves) == Some(false) {
                        let message = self.message(rule, &mut compiler, &plain);
                        self.broken(judged, at, rule, message);
                    }
                }
            }
            if self.left.is_none() {
                return;
            }
        }
    }

    fn invalid(&mut self, judged: Judged<'_>, at: &Path<'_>, why: impl Into<String>) {
        let error = FieldError::invalid(at.field(), judged.schema.kind(), why);
        self.errors.push(error);
    }

    /// Takes away what something cost; says whether there was as much.
    fn pay(&mut self, cost: u64) -> bool {
        self.left = self.left.and_then(|left| left.checked_sub(cost));
        self.left.is_some()
    }

    /// None: nobody can say, and that is an error.
    fn keeps(
        &mut self,
        judged: Judged<'_>,
        at: &Path<'_>,
        rule: Props<'_>,
        program: &Program,
        selves: &Selves<'_>,
    ) -> Option<bool> {
        let evaluated = program.evaluate(selves, PER_CALL_LIMIT);
        if self.left == Some(0) || !self.pay(evaluated.cost) {
            self.left = None;
            self.invalid(judged, at, SPENT);
            return None;
        }
        let text = said(rule);
        let why = match evaluated.outcome {
            Ok(value) => return Some(value.as_bool() == Some(true)),
            Err(Error::OverBudget) => {
                self.left = None;
                let error = Error::OverBudget;
                format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {text}"
                )
            }
            Err(error) if error.to_string().starts_with("no such overload") => format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {text}"
            ),
            Err(error) => format!("{error} evaluating rule: {text}"),
        };
        self.invalid(judged, at, why);
        None
    }

    /// What an expression says of a rule that is broken.
    fn message(
        &mut self,
        rule: Props<'_>,
        compiler: &mut Compiler<'_>,
        selves: &Selves<'_>,
    ) -> Option<String> {
        let text = rule.text("messageExpression");
        let optional = rule.flag("optionalOldSelf");
        let program = compiler.compile(text, &MESSAGE, true, optional).ok()?;
        let evaluated = program.evaluate(selves, PER_CALL_LIMIT);
        self.pay(evaluated.cost);
        let value = evaluated.outcome.ok()?;
        let said = value.as_str()?.trim();
        let fits = !said.is_empty() && said.len() <= cel::MAX_MESSAGE && !said.contains('\n');
        fits.then(|| said.to_owned())
    }

    fn broken(
        &mut self,
        judged: Judged<'_>,
        at: &Path<'_>,
        rule: Props<'_>,
        message: Option<String>,
    ) {
        let detail = message.unwrap_or_else(|| match rule.text("message") {
            "" => format!("failed rule: {}", said(rule)),
            message => message.trim().to_owned(),
        });
        let mut field = at.field();
        let path = rule.text("fieldPath");
        let structural = Schema::lenient(judged.schema.0);
        if let Ok(found) = structural.follow(path, true)
            && !found.text.is_empty()
        {
            push_field(&mut field, &found.text);
        }
        let value = match judged.schema.kind() {
            "object" | "array" => String::new(),
            _ => show(judged.value),
        };
        let (reason, value, detail) = match rule.text("reason") {
            "FieldValueForbidden" => (Reason::Forbidden, String::new(), detail),
            "FieldValueRequired" => (Reason::Required, String::new(), detail),
            "FieldValueDuplicate" => (Reason::Duplicate, value, String::new()),
            _ => (Reason::Invalid, value, detail),
        };
        self.errors
            .push(FieldError::new(reason, field, value, detail));
    }
}

/// What a rule is called in errors.
fn said(rule: Props<'_>) -> &str {
    match rule.text("message") {
        "" => rule.text("rule").trim(),
        message => message.trim(),
    }
}

/// The variables of a rule.
struct Selves<'v> {
    judged: Judged<'v>,
    schema: &'v cel::Schema,
    /// What `oldSelf` is where it is optional.
    optional: Option<Outcome<'v>>,
}

impl Activation for Selves<'_> {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        let itself = || cel::Value::typed(self.judged.value, self.schema);
        match (name, &self.optional) {
            ("self", _) => Some(itself()),
            ("oldSelf", Some(optional)) => Some(optional.clone()),
            ("oldSelf", None) => self.judged.has_old.then(itself),
            _ => None,
        }
    }
}
