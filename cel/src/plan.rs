//! From a checked tree to steps (cel-go `interpreter/planner.go`, `decorators.go`): constants are
//! made once, variables of comprehensions become slots, patterns are compiled.
//!
//! Costs are counted where upstream counts them, so steps have its shape: a chain of fields and
//! indexes is one step with qualifiers, and what a condition chooses between is part of such a chain.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ast::{Ast, Id, Literal, Node};
use crate::check::{Checked, Reference};
use crate::cost::{self, CostEstimate};
use crate::error::Error;
use crate::library::{Functions, Pattern, Patterns, Refused, RegexFunction};
use crate::parser::operators as op;
use crate::program::{Inner, Program};
use crate::value::{Key, Octets, Text, Value, double_to_int};

/// What all steps of a program share.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) functions: Arc<Functions>,
    /// How many slots there are for variables of comprehensions. Each has its own: none runs inside
    /// itself.
    pub(crate) slots: usize,
}

/// One step of an evaluation.
#[derive(Debug)]
pub(crate) enum Step {
    Const(Value<'static>),
    Attribute(Box<Attribute>),
    /// `has(...)`: the last qualifier is only looked for.
    Test(Box<Attribute>),
    Logic {
        /// The value that decides without the other side.
        decisive: bool,
        sides: Box<[Step; 2]>,
    },
    Equal {
        negated: bool,
        cost: cost::Rule,
        sides: Box<[Step; 2]>,
    },
    /// Anything but false: what lets a comprehension go on.
    NotStrictlyFalse(Box<Step>),
    Call(Box<Call>),
    /// `x in [constants]`
    OneOf {
        element: Box<Step>,
        set: Arc<BTreeSet<Key<'static>>>,
    },
    /// `or`, `orValue`: the second side only where the first has no value.
    Or {
        value: bool,
        sides: Box<[Step; 2]>,
    },
    List(Vec<Entry>),
    Map(Vec<(Step, Entry)>),
    Object {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Entry)>,
    },
    Fold(Box<Fold>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) value: Step,
    pub(crate) optional: bool,
}

/// A variable, or the value of a step, and what is selected of it.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) base: Base,
    pub(crate) qualifiers: Vec<Qualifier>,
}

#[derive(Debug)]
pub(crate) enum Base {
    Variable(Arc<str>),
    Slot(usize),
    /// A slot whose value nobody needs afterwards: taken, so that it can grow in place.
    Taken(usize),
    Value(Step),
    Choice {
        condition: Step,
        yes: Box<Attribute>,
        no: Box<Attribute>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Qualifier {
    pub(crate) by: Arc<By>,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) enum By {
    Const(Value<'static>),
    Attribute(Attribute),
    Value(Step),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: Arc<str>,
    /// If the types leave one only.
    pub(crate) overload: Option<Arc<str>>,
    pub(crate) cost: cost::Rule,
    pub(crate) args: Vec<Step>,
    /// A function with a pattern, which is compiled already if it is a constant.
    pub(crate) regex: Option<(RegexFunction, Option<Pattern>)>,
    /// The first argument that fails ends it; otherwise all are evaluated before.
    pub(crate) lazy: bool,
    /// It makes text of any length, at a cost that does not go by it.
    pub(crate) amplifies: bool,
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: Step,
    pub(crate) init: Step,
    pub(crate) condition: Step,
    pub(crate) step: Step,
    pub(crate) result: Step,
    pub(crate) accu: usize,
    pub(crate) iter: usize,
    pub(crate) iter2: Option<usize>,
}

/// A program, or why a constant part of it cannot be evaluated.
pub(crate) fn plan(
    checked: &Checked,
    functions: &Arc<Functions>,
    estimate: CostEstimate,
    patterns: Patterns,
) -> Result<Program, String> {
    let mut planner = Planner {
        checked,
        functions,
        patterns,
        slots: 0,
        scope: Vec::new(),
        variables: BTreeSet::new(),
    };
    let root = planner.step(checked.root)?;
    Ok(Program::new(Inner {
        plan: Plan {
            functions: functions.clone(),
            slots: planner.slots,
        },
        root,
        result: checked.ty(checked.root).clone(),
        estimate,
        variables: planner.variables.into_iter().collect(),
    }))
}

struct Planner<'c> {
    checked: &'c Checked,
    functions: &'c Arc<Functions>,
    patterns: Patterns,
    slots: usize,
    scope: Vec<(Arc<str>, usize)>,
    variables: BTreeSet<Box<str>>,
}

type Planned<T = Step> = Result<T, String>;

/// Functions that make another type of a constant when the program is made.
const CONVERSIONS: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "dyn",
    "duration",
    "int",
    "string",
    "timestamp",
    "type",
    "uint",
];

impl<'c> Planner<'c> {
    fn ast(&self) -> &'c Ast {
        &self.checked.ast
    }

    fn step(&mut self, id: Id) -> Planned {
        match self.checked.reference(id) {
            Reference::Type(ty) if !matches!(self.ast().node(id), Node::Struct { .. }) => {
                return Ok(Step::Const(Value::Type(ty.clone())));
            }
            Reference::Variable { name, global } => {
                return Ok(attribute(self.variable(name, *global)));
            }
            _ => {}
        }
        match self.ast().node(id) {
            Node::Bad => Err("expression was not understood".into()),
            Node::Literal(literal) => Ok(Step::Const(constant(literal))),
            Node::Ident(name) => Ok(attribute(self.variable(name, false))),
            Node::Select {
                operand,
                field,
                test_only,
            } => {
                let mut of = self.step(*operand).map(into_attribute)?;
                let by = By::Const(Value::String(Text::Shared(field.clone())));
                qualify(&mut of, by, false);
                Ok(if *test_only {
                    Step::Test(Box::new(of))
                } else {
                    Step::Attribute(Box::new(of))
                })
            }
            Node::Call {
                function,
                target,
                args,
            } => self.call(id, function, *target, args),
            Node::List { elements } => {
                let entries = elements
                    .iter()
                    .map(|element| self.entry(element.value, element.optional));
                let entries = entries.collect::<Planned<Vec<_>>>()?;
                Ok(fold_constant(Step::List(entries), self.functions))
            }
            Node::Map { entries } => {
                let mut planned = Vec::with_capacity(entries.len());
                for entry in entries {
                    let key = self.step(entry.key)?;
                    planned.push((key, self.entry(entry.value, entry.optional)?));
                }
                Ok(fold_constant(Step::Map(planned), self.functions))
            }
            Node::Struct { name, fields } => {
                let name = match self.checked.reference(id) {
                    Reference::Type(ty) => ty.name().into(),
                    _ => name.clone(),
                };
                let mut planned = Vec::with_capacity(fields.len());
                for field in fields {
                    planned.push((field.name.clone(), self.entry(field.value, field.optional)?));
                }
                let fields = planned;
                Ok(Step::Object { name, fields })
            }
            Node::Fold(fold) => self.fold(fold),
        }
    }

    fn entry(&mut self, value: Id, optional: bool) -> Planned<Entry> {
        let value = self.step(value)?;
        Ok(Entry { value, optional })
    }

    fn variable(&mut self, name: &Arc<str>, global: bool) -> Attribute {
        let slot = self.scope.iter().rfind(|(local, _)| local == name);
        let base = match slot {
            Some((_, slot)) if !global => Base::Slot(*slot),
            _ => {
                self.variables.insert((**name).into());
                Base::Variable(name.clone())
            }
        };
        Attribute {
            base,
            qualifiers: Vec::new(),
        }
    }

    fn call(&mut self, id: Id, function: &Arc<str>, target: Option<Id>, args: &[Id]) -> Planned {
        let mut steps = Vec::with_capacity(args.len() + 1);
        for arg in target.iter().chain(args) {
            steps.push(self.step(*arg)?);
        }
        let name: &str = function;
        match (name, steps.len()) {
            (op::AND | op::OR, 2) => {
                return Ok(Step::Logic {
                    decisive: name == op::OR,
                    sides: pair(steps),
                });
            }
            (op::CONDITIONAL, 3) => return Ok(conditional(steps)),
            (op::EQUALS | op::NOT_EQUALS, 2) => {
                let negated = name == op::NOT_EQUALS;
                let overload = if negated { "not_equals" } else { "equals" };
                return Ok(Step::Equal {
                    negated,
                    cost: cost::rule(name, overload, 2),
                    sides: pair(steps),
                });
            }
            (op::INDEX | op::OPTIONAL_INDEX | op::OPTIONAL_SELECT, 2) => {
                let by = steps.pop().map(index);
                let of = steps.pop().map(into_attribute);
                if let (Some(mut of), Some(by)) = (of, by) {
                    if let By::Const(value) = &by {
                        qualifies(value).map_err(|e| e.to_string())?;
                    }
                    qualify(&mut of, by, name != op::INDEX);
                    return Ok(Step::Attribute(Box::new(of)));
                }
                return Err("an index lacks its arguments".into());
            }
            (op::NOT_STRICTLY_FALSE, 1) => {
                let arg = steps.pop().map(Box::new);
                return arg.map(Step::NotStrictlyFalse).ok_or_else(String::new);
            }
            ("or" | "orValue", 2) => {
                return Ok(Step::Or {
                    value: name == "orValue",
                    sides: pair(steps),
                });
            }
            _ => {}
        }
        let overload = match self.checked.overloads(id) {
            [one] => Some(one.clone()),
            _ => None,
        };
        if name == op::IN
            && overload.as_deref() == Some("in_list")
            && let [_, Step::Const(Value::List(list))] = &steps[..]
        {
            if list.is_empty() {
                return Ok(Step::Const(Value::Bool(false)));
            }
            if let Some(set) = members(list) {
                steps.truncate(1);
                let element = Box::new(steps.swap_remove(0));
                let set = Arc::new(set);
                return Ok(Step::OneOf { element, set });
            }
        }
        self.function(function, overload, steps)
    }

    fn function(
        &mut self,
        function: &Arc<str>,
        overload: Option<Arc<str>>,
        args: Vec<Step>,
    ) -> Planned {
        if CONVERSIONS.contains(&&**function)
            && let [Step::Const(arg)] = &args[..]
        {
            let called = self
                .functions
                .get(function)
                .map(|f| f.call(function, overload.as_deref(), std::slice::from_ref(arg)));
            return match called {
                Some(Ok(value)) => Ok(Step::Const(value)),
                Some(Err(error)) => Err(error.to_string()),
                None => Err(format!("no such overload: {function}(arg)")),
            };
        }
        let regex = match (RegexFunction::of(function), args.get(1)) {
            (Some(of), Some(Step::Const(Value::String(pattern)))) => {
                let compiled = self
                    .patterns
                    .get(pattern)
                    .map_err(|refused| match refused {
                        Refused::Wrong(why) => why,
                        Refused::TooMany => "regular expressions are too large".to_owned(),
                    })?;
                Some((of, Some(compiled)))
            }
            (of, _) => of.map(|of| (of, None)),
        };
        let is_operator = function.starts_with(['_', '@', '!', '-']);
        let lazy = args.len() > 2
            || matches!(regex, Some((_, Some(_))))
            || (overload.is_none() && !is_operator)
            || &**function == "format";
        Ok(Step::Call(Box::new(Call {
            function: function.clone(),
            cost: cost::rule(function, overload.as_deref().unwrap_or(""), args.len()),
            overload,
            args,
            regex,
            lazy,
            amplifies: matches!(&**function, "replace" | "format"),
        })))
    }

    fn fold(&mut self, fold: &crate::ast::Fold) -> Planned {
        let init = self.step(fold.init)?;
        let range = self.step(fold.range)?;
        let depth = self.scope.len();
        let accu = self.declare(&fold.accu);
        let iter = self.declare(&fold.iter);
        let iter2 = fold.iter2.as_ref().map(|name| self.declare(name));
        let condition = self.step(fold.condition)?;
        let mut step = self.step(fold.step)?;
        take_accumulator(&mut step, accu);
        self.scope.truncate(depth + 1);
        let result = self.step(fold.result)?;
        self.scope.truncate(depth);
        Ok(Step::Fold(Box::new(Fold {
            range,
            init,
            condition,
            step,
            result,
            accu,
            iter,
            iter2,
        })))
    }

    fn declare(&mut self, name: &Arc<str>) -> usize {
        let slot = self.slots;
        self.slots += 1;
        self.scope.push((name.clone(), slot));
        slot
    }
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(Octets::Shared(bytes.clone())),
    }
}

fn attribute(of: Attribute) -> Step {
    Step::Attribute(Box::new(of))
}

/// A chain that begins with the step, or the one that it is.
fn into_attribute(step: Step) -> Attribute {
    match step {
        Step::Attribute(of) => *of,
        other => Attribute {
            base: Base::Value(other),
            qualifiers: Vec::new(),
        },
    }
}

fn pair(steps: Vec<Step>) -> Box<[Step; 2]> {
    // Callers have counted.
    let pair: Result<[Step; 2], _> = steps.try_into();
    Box::new(pair.expect("two steps, the caller counted them"))
}

/// What is selected of a choice is selected of both that it chooses between.
fn qualify(of: &mut Attribute, by: By, optional: bool) {
    let by = Arc::new(by);
    push(of, &Qualifier { by, optional });
}

fn push(of: &mut Attribute, qualifier: &Qualifier) {
    match &mut of.base {
        Base::Choice { yes, no, .. } => {
            push(yes, qualifier);
            push(no, qualifier);
        }
        _ => of.qualifiers.push(qualifier.clone()),
    }
}

fn conditional(steps: Vec<Step>) -> Step {
    let mut steps = steps.into_iter();
    let (Some(condition), Some(yes), Some(no)) = (steps.next(), steps.next(), steps.next()) else {
        return Step::Const(Value::Null);
    };
    attribute(Attribute {
        base: Base::Choice {
            condition,
            yes: Box::new(chosen(yes)),
            no: Box::new(chosen(no)),
        },
        qualifiers: Vec::new(),
    })
}

/// A side of a choice.
fn chosen(step: Step) -> Attribute {
    into_attribute(step)
}

fn index(step: Step) -> By {
    match step {
        Step::Const(value) => By::Const(value),
        Step::Attribute(of) => By::Attribute(*of),
        other => By::Value(other),
    }
}

/// Whether something can be looked up by a value.
pub(crate) fn qualifies(value: &Value<'_>) -> Result<(), Error> {
    match value {
        Value::String(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_) => {
            Ok(())
        }
        other => Err(Error::new(format!(
            "invalid qualifier type: {}",
            other.go_type()
        ))),
    }
}

/// A list or map of constants only is a constant.
fn fold_constant(step: Step, functions: &Arc<Functions>) -> Step {
    let is_constant = |step: &Step| matches!(step, Step::Const(_));
    let all = match &step {
        Step::List(entries) => entries.iter().all(|e| is_constant(&e.value)),
        Step::Map(entries) => entries
            .iter()
            .all(|(key, e)| is_constant(key) && is_constant(&e.value)),
        _ => false,
    };
    if !all {
        return step;
    }
    let plan = Plan {
        functions: functions.clone(),
        slots: 0,
    };
    let made = crate::eval::Frame::new(&plan, &(), u64::MAX).eval(&step);
    match made {
        Ok(value) => Step::Const(value),
        // It fails where it is evaluated.
        Err(_) => step,
    }
}

/// The elements of a constant list, if all are scalars; numbers as each type that can hold them.
fn members(list: &crate::value::List<'static>) -> Option<BTreeSet<Key<'static>>> {
    let mut set = BTreeSet::new();
    for element in list.iter() {
        let element = element.ok()?;
        match &element {
            // It is not even itself.
            Value::Double(d) if d.is_nan() => continue,
            Value::Double(d) => {
                let whole = double_to_int(*d).ok().map(Value::Int);
                let equal = whole.filter(|i| crate::value::equal(i, &element) == Ok(true));
                set.extend(equal.as_ref().and_then(Key::of));
                if let Ok(uint @ Value::Uint(_)) =
                    crate::value::convert(&element, &crate::types::Type::Uint)
                    && crate::value::equal(&uint, &element) == Ok(true)
                {
                    set.extend(Key::of(&uint));
                }
            }
            Value::Int(_) | Value::Uint(_) => {
                for ty in [
                    crate::types::Type::Double,
                    crate::types::Type::Int,
                    crate::types::Type::Uint,
                ] {
                    if let Ok(other) = crate::value::convert(&element, &ty) {
                        set.extend(Key::of(&other));
                    }
                }
            }
            Value::Bool(_) | Value::String(_) => {}
            _ => return None,
        }
        set.insert(Key::of(&element)?);
    }
    Some(set)
}

/// In `accu + [x]` and `cel.@mapInsert(accu, ...)`, also as a side of a choice, the accumulator is not
/// needed afterwards.
fn take_accumulator(step: &mut Step, accu: usize) {
    let take = |call: &mut Call| {
        if !matches!(&*call.function, op::ADD | "cel.@mapInsert") {
            return;
        }
        if let Some(Step::Attribute(of)) = call.args.first_mut()
            && of.qualifiers.is_empty()
            && matches!(of.base, Base::Slot(slot) if slot == accu)
        {
            of.base = Base::Taken(accu);
        }
    };
    match step {
        Step::Call(call) => take(call),
        Step::Attribute(of) => {
            if let Base::Choice { yes, .. } = &mut of.base
                && let Base::Value(Step::Call(call)) = &mut yes.base
            {
                take(call);
            }
        }
        _ => {}
    }
}
