//! `x-kubernetes-validations`: what rules must be, whether they compile, and what they may cost.

use std::cell::OnceCell;
use std::sync::LazyLock;

use cel::{Environment, Program, Rejected, Root, Type, Version};
use proto::Value;
use proto::path::{FieldError, Named};

use super::cost::{self, too_much};
use super::props::Props;
use super::schema::{Node, Walk};
use super::shown::Shown;
use crate::structural::text::Path;

pub(super) const RULES: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// What rules know at a schema (`CELSchemaContext`).
pub(super) struct Scope<'p> {
    around: Option<&'p Scope<'p>>,
    schema: Props<'p>,
    /// It is the metadata of a resource that is embedded here.
    is_metadata: bool,
    /// There are rules here or around.
    has_rules: bool,
    /// How often what the schema is of can be there; none: there is no limit.
    times: Option<u64>,
    /// Made when it is first asked for; none where the language has no type for it.
    known: OnceCell<Option<cel::Schema>>,
}

impl<'p> Scope<'p> {
    pub(super) fn root(schema: Props<'p>) -> Self {
        Self {
            around: None,
            schema,
            is_metadata: false,
            has_rules: !schema.list(RULES).is_empty(),
            times: Some(1),
            known: OnceCell::new(),
        }
    }

    /// `property`: its name, if the schema is that of a property.
    pub(super) fn below<'q>(&'q self, schema: Props<'q>, property: Option<&str>) -> Scope<'q> {
        let entries = cost::entries(self.schema);
        Scope {
            around: Some(self),
            schema,
            is_metadata: property == Some("metadata") && self.is_resource(),
            has_rules: self.has_rules || !schema.list(RULES).is_empty(),
            times: self.times.zip(entries).map(|(a, b)| a.saturating_mul(b)),
            known: OnceCell::new(),
        }
    }

    /// Whether it is the schema of a whole resource.
    fn is_resource(&self) -> bool {
        self.around.is_none() || self.schema.flag("x-kubernetes-embedded-resource")
    }

    /// The description of values. Where there are rules around it, what is around has one, too.
    fn known(&self) -> Option<&cel::Schema> {
        let make = || {
            let around = self.around.filter(|around| around.has_rules);
            if around.is_some_and(|around| around.known().is_none()) {
                return None;
            }
            let root = if self.is_resource() {
                Root::Resource
            } else {
                Root::Part
            };
            let names = around
                .filter(|_| self.is_metadata)
                .and_then(names_of_metadata);
            let schema = names.as_ref().unwrap_or(self.schema.0);
            let schema = cel::Schema::from_openapi(schema, root)?;
            Some(schema.named("selfType"))
        };
        self.known.get_or_init(make).as_ref()
    }

    /// What all evaluations of an expression cost together.
    fn cost(&self, of: Option<&Program>) -> u64 {
        let once = of.map_or(0, |program| program.estimate().max);
        let times = self.times;
        let times = times.unwrap_or_else(|| cost::most(self.schema, self.is_resource()));
        once.saturating_mul(times)
    }
}

/// What rules know of the metadata of a resource that they know too: its names, and nothing else. None where the
/// resource describes itself whole (`WithTypeAndObjectMeta` of `schema/cel/model`).
fn names_of_metadata(resource: &Scope<'_>) -> Option<Value> {
    const LONGEST: i64 = 253;
    let of = |path: &[&str]| resource.schema.0.at(&[&["properties"], path].concat());
    let kind = |path: &[&str]| of(path).map_or("", |s| Props(s).kind());
    let name = |field| ["metadata", "properties", field];
    let is_whole = kind(&["kind"]) == "string"
        && kind(&["apiVersion"]) == "string"
        && kind(&["metadata"]) == "object"
        && kind(&name("name")) == "string"
        && kind(&name("generateName")) == "string";
    if is_whole {
        return None;
    }
    let mut names = Value::object();
    names.set(&["type"], "object");
    // What is appended to a generated name is at least one byte.
    for (field, longest) in [("name", LONGEST), ("generateName", LONGEST - 1)] {
        let own = of(&name(field))
            .and_then(|s| s.get("maxLength"))
            .and_then(Value::as_int);
        names.set(&["properties", field, "type"], "string");
        let longest = own.map_or(longest, |own| own.clamp(0, longest));
        names.set(&["properties", field, "maxLength"], longest);
    }
    Some(names)
}

/// Compiles the expressions of one schema.
pub(super) struct Compiler<'s> {
    schema: &'s cel::Schema,
    made: Vec<((Version, bool), Environment)>,
}

impl<'s> Compiler<'s> {
    pub(super) fn new(schema: &'s cel::Schema) -> Self {
        Self {
            schema,
            made: Vec::new(),
        }
    }

    /// An expression that may give anything.
    pub(super) fn compile_any(&mut self, expression: &str) -> Option<Program> {
        let environment = self.environment(Version::STORED, false);
        environment.compile(expression).ok()
    }

    /// `kept`: the old definition had the expression; `optional`: there may be no old value.
    pub(super) fn compile(
        &mut self,
        expression: &str,
        of: &Use,
        kept: bool,
        optional: bool,
    ) -> Result<Program, String> {
        let version = if kept {
            Version::STORED
        } else {
            Version::DEFAULT
        };
        let compiled = self.environment(version, optional).compile(expression);
        let program = compiled.map_err(|rejected| of.told(rejected))?;
        if *program.result_type() == of.gives {
            Ok(program)
        } else {
            Err(of.wrong.into())
        }
    }

    fn environment(&mut self, version: Version, optional: bool) -> &Environment {
        static BASES: LazyLock<[Environment; 2]> =
            LazyLock::new(|| [Version::DEFAULT, Version::STORED].map(Environment::new));
        let key = (version, optional);
        let found = self.made.iter().position(|(made, _)| *made == key);
        let index = found.unwrap_or_else(|| {
            let base = &BASES[usize::from(version == Version::STORED)];
            let own = self.schema.ty().clone();
            let old = if optional { Type::optional(own) } else { own };
            let environment = { base.clone() }
                .with_schema("self", self.schema)
                .with_variable("oldSelf", old)
                .with_sizes(self.schema);
            self.made.push((key, environment));
            self.made.len() - 1
        });
        &self.made[index].1
    }
}

/// What an expression is for.
pub(super) struct Use {
    gives: Type,
    /// Begins what is told of it.
    name: &'static str,
    /// Why it is refused if it gives something else.
    wrong: &'static str,
}

pub(super) const RULE: Use = Use {
    gives: Type::Bool,
    name: "",
    wrong: "cel expression must evaluate to a bool",
};
pub(super) const MESSAGE: Use = Use {
    gives: Type::String,
    name: "messageExpression ",
    wrong: "messageExpression must evaluate to a string",
};

impl Use {
    /// Why an expression is refused.
    fn told(&self, rejected: Rejected) -> String {
        match rejected {
            Rejected::Issues(issues) => format!("{}compilation failed: {issues}", self.name),
            Rejected::Program(why) => {
                let name = if self.name.is_empty() {
                    "program "
                } else {
                    self.name
                };
                format!("{name}instantiation failed: {why}")
            }
        }
    }
}

impl Walk<'_> {
    /// `before`: how many errors there were before the schema.
    pub(super) fn rules(&mut self, node: Node<'_>, before: usize) {
        let rules = node.props.list(RULES);
        if rules.is_empty() {
            return;
        }
        let at = node.at.child(RULES);
        for (i, rule) in rules.iter().enumerate() {
            self.rule(node, Props(rule), &at.index(i));
        }
        let Some(scope) = node.scope.filter(|_| self.found.schemas.len() == before) else {
            return;
        };
        let Some(schema) = scope.known() else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            let error = FieldError::new(
                proto::path::Reason::Internal,
                at.field(),
                String::new(),
                why,
            );
            return self.found.rules.push(error);
        };
        let mut compiler = Compiler::new(schema);
        for (i, rule) in rules.iter().enumerate() {
            self.expressions(node, rule, &at.index(i), scope, &mut compiler);
        }
    }

    /// What can be said of a rule without compiling it.
    fn rule(&mut self, node: Node<'_>, rule: Props<'_>, at: &Path<'_>) {
        let broken = |text: &str| text.contains(['\n', '\r']);
        let (text, message) = (rule.text("rule").trim(), rule.text("message"));
        let invalid = |name: &str, why: &str| {
            FieldError::invalid(at.child(name).field(), rule.text(name), why)
        };
        let required = |name: &str, why: &str| FieldError::required(at.child(name).field(), why);
        const EMPTY: &str = "must be non-empty if specified";
        const BROKEN: &str = "must not contain line breaks";
        let mut found = Vec::new();
        if text.is_empty() {
            found.push(required("rule", "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            found.push(invalid("message", EMPTY));
        } else if broken(message.trim()) {
            found.push(invalid("message", BROKEN));
        } else if broken(text) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            found.push(required("message", why));
        }
        let expression = rule.text("messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            found.push(required("messageExpression", why));
        }
        if let Some(reason) = rule.opt_text("reason").filter(|r| !REASONS.contains(r)) {
            let at = at.child("reason").field();
            found.push(FieldError::not_supported(at, Named(reason), &REASONS));
        }
        let path = rule.text("fieldPath");
        if !path.is_empty() {
            if path.trim().is_empty() {
                found.push(invalid("fieldPath", EMPTY));
            }
            if broken(path) {
                found.push(invalid("fieldPath", BROKEN));
            }
            let structural = crate::structural::Schema::new(node.props.0);
            if structural.is_ok_and(|s| s.follow(path, true).is_err()) {
                found.push(invalid("fieldPath", "must be a valid path"));
            }
        }
        self.found.schemas.extend(found);
    }

    fn expressions(
        &mut self,
        node: Node<'_>,
        rule: &Value,
        at: &Path<'_>,
        scope: &Scope<'_>,
        compiler: &mut Compiler<'_>,
    ) {
        let props = Props(rule);
        let (text, optional) = (props.text("rule"), props.flag("optionalOldSelf"));
        let kept = self.asked.kept_rules.contains(text);
        let compiled = compiler.compile(text, &RULE, kept, optional);
        let rule_at = at.child("rule").field();
        let cost = scope.cost(compiled.as_ref().ok());
        if cost > cost::LIMIT && !self.same {
            let why = too_much("estimated rule cost", cost, cost::LIMIT);
            self.found.rules.push(FieldError::forbidden(&*rule_at, why));
        }
        self.total.add(rule_at.clone(), cost);
        match &compiled {
            Err(why) => {
                let error = FieldError::invalid(&*rule_at, Shown::rule(rule), why.as_str());
                self.found.rules.push(error);
            }
            Ok(_) => self.message(rule, at, optional, compiler),
        }
        let uses_old = compiled.is_ok_and(|program| program.variables().any(|v| v == "oldSelf"));
        self.old_self(node, props, at, uses_old);
    }

    /// A rule that compares old and new needs an old value, and only such a rule may do without one.
    fn old_self(&mut self, node: Node<'_>, rule: Props<'_>, at: &Path<'_>, is_used: bool) {
        let given = rule.get("optionalOldSelf").and_then(Value::as_bool);
        match (is_used, node.standing.unmatched, given) {
            (true, Some(list), _) => {
                let list = list.text();
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                let at = at.child("rule").field();
                let error = FieldError::invalid(at, rule.text("rule"), why);
                self.found.rules.push(error);
            }
            (false, _, Some(given)) => {
                let why = "may not be set if oldSelf is not used in rule";
                let at = at.child("optionalOldSelf").field();
                self.found.rules.push(FieldError::invalid(at, given, why));
            }
            _ => {}
        }
    }

    fn message(
        &mut self,
        rule: &Value,
        at: &Path<'_>,
        optional: bool,
        compiler: &mut Compiler<'_>,
    ) {
        const FIELD: &str = "messageExpression";
        let text = Props(rule).text(FIELD);
        if text.is_empty() {
            return;
        }
        let kept = self.asked.kept_messages.contains(text);
        let compiled = compiler.compile(text, &MESSAGE, kept, optional);
        let at = at.child(FIELD).field();
        match compiled {
            Err(why) => {
                let error = FieldError::invalid(at, Shown::rule(rule), why);
                self.found.rules.push(error);
            }
            Ok(program) => {
                let cost = program.estimate().max;
                if cost > cost::LIMIT && !self.same {
                    let why = too_much("estimated messageExpression cost", cost, cost::LIMIT);
                    self.found.rules.push(FieldError::forbidden(&*at, why));
                }
                self.total.add(at, cost);
            }
        }
    }
}
