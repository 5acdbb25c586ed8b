//! Evaluation, with its cost (cel-go `interpreter/interpretable.go`, `attributes.go`,
//! `runtimecost.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost;
use crate::error::Error;
use crate::library::{Pattern, Patterns, RegexFunction};
use crate::plan::{Attribute, Base, By, Call, Entry, Fold, Plan, Qualifier, Step, qualifies};
use crate::program::Activation;
use crate::value::{Key, List, Made, Map, Object, Outcome, Value, brief, equal, shorten};

/// How deep what is made may lie inside one another. Everything walks values by recursion, and threads
/// have 2 MiB. Upstream has no such limit, and no use for so many.
const DEEPEST: u16 = 500;
/// How much text may be made, in bytes, by calls that cost by what they are given alone. Upstream has no
/// such limit.
const MOST_TEXT: usize = 64 << 20;

/// The state of one evaluation.
pub(crate) struct Frame<'p, 'a> {
    plan: &'p Plan,
    activation: &'a dyn Activation,
    slots: Vec<Slot<'p, 'a>>,
    cost: u64,
    limit: u64,
    /// The length of the text that such calls have made.
    text: usize,
    /// Compiled patterns that are not constants.
    patterns: Patterns,
}

/// The value of a comprehension's variable.
enum Slot<'p, 'a> {
    Empty,
    /// Evaluated when it is asked for, which may be never.
    Later(&'p Step),
    Value(Value<'a>),
    Failed(Error),
}

impl<'p, 'a> Frame<'p, 'a> {
    pub(crate) fn new(plan: &'p Plan, activation: &'a dyn Activation, limit: u64) -> Self {
        let mut slots = Vec::with_capacity(plan.slots);
        slots.resize_with(plan.slots, || Slot::Empty);
        Self {
            plan,
            activation,
            slots,
            cost: 0,
            limit,
            text: 0,
            patterns: Patterns::default(),
        }
    }

    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    fn spend(&mut self, cost: u64) -> Result<(), Error> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            return Err(Error::OverBudget);
        }
        Ok(())
    }

    pub(crate) fn eval(&mut self, step: &'p Step) -> Outcome<'a> {
        match step {
            Step::Const(value) => Ok(value.clone()),
            Step::Attribute(of) => self.attribute(of),
            Step::Test(of) => self.test(of),
            Step::Logic { decisive, sides } => self.logic(*decisive, sides),
            Step::Equal {
                negated,
                cost,
                sides,
            } => self.equality(*negated, *cost, sides),
            Step::NotStrictlyFalse(arg) => self.not_strictly_false(arg),
            Step::Call(call) => self.call(call),
            Step::OneOf { element, set } => {
                let element = self.eval(element)?;
                let found = Key::of(&element).is_some_and(|key| set.contains(&shorten(key)));
                Ok(Value::Bool(found))
            }
            Step::Or { value, sides } => self.or(*value, sides),
            Step::List(entries) => self.list(entries),
            Step::Map(entries) => self.map(entries),
            Step::Object { name, fields } => self.object(name, fields),
            Step::Fold(fold) => self.fold(fold),
        }
    }

    /// The value of a chain, which costs one more than what is selected; a choice does not.
    fn attribute(&mut self, of: &'p Attribute) -> Outcome<'a> {
        let outcome = self.resolve(of);
        if matches!(outcome, Err(Error::OverBudget)) {
            return outcome;
        }
        if !matches!(of.base, Base::Choice { .. }) {
            self.spend(cost::SELECT)?;
        }
        outcome
    }

    fn resolve(&mut self, of: &'p Attribute) -> Outcome<'a> {
        let value = self.base(of)?;
        if of.qualifiers.is_empty() {
            return Ok(value);
        }
        self.qualified(value, &of.qualifiers)
    }

    /// What the qualifiers select from. Those of a choice are in what is chosen between.
    fn base(&mut self, of: &'p Attribute) -> Outcome<'a> {
        match &of.base {
            Base::Variable(name) => match self.activation.get(name) {
                Some(outcome) => outcome,
                None => Err(Error::new(format!("no such attribute(s): {name}"))),
            },
            Base::Slot(slot) => self.slot(*slot),
            Base::Taken(slot) => self.take(*slot),
            Base::Value(step) => self.eval(step),
            Base::Choice { condition, yes, no } => {
                let chosen = self.choose(condition, yes, no)?;
                self.resolve(chosen)
            }
        }
    }

    fn choose(
        &mut self,
        condition: &'p Step,
        yes: &'p Attribute,
        no: &'p Attribute,
    ) -> Result<&'p Attribute, Error> {
        match self.eval(condition)? {
            Value::Bool(true) => Ok(yes),
            Value::Bool(false) => Ok(no),
            _ => Err(Error::no_such_overload()),
        }
    }

    fn slot(&mut self, slot: usize) -> Outcome<'a> {
        if let Slot::Later(init) = self.slots[slot] {
            self.slots[slot] = match self.eval(init) {
                Ok(value) => Slot::Value(value),
                Err(error) if error.is_absorbed() => Slot::Failed(error),
                Err(error) => return Err(error),
            };
        }
        match &self.slots[slot] {
            Slot::Value(value) => Ok(value.clone()),
            Slot::Failed(error) => Err(error.clone()),
            Slot::Empty | Slot::Later(_) => Err(Error::new("no such attribute(s): @result")),
        }
    }

    fn take(&mut self, slot: usize) -> Outcome<'a> {
        if !matches!(self.slots[slot], Slot::Value(_)) {
            let value = self.slot(slot);
            self.slots[slot] = Slot::Empty;
            return value;
        }
        match std::mem::replace(&mut self.slots[slot], Slot::Empty) {
            Slot::Value(value) => Ok(value),
            _ => Err(Error::no_such_overload()),
        }
    }

    /// Selects one after the other. In an optional, or after an optional qualifier, what is not there
    /// is no error but nothing.
    fn qualified(&mut self, value: Value<'a>, qualifiers: &'p [Qualifier]) -> Outcome<'a> {
        let (mut value, mut optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (Value::clone(&value), true),
            value => (value, false),
        };
        for qualifier in qualifiers {
            optional = optional || qualifier.optional;
            let key = match self.key(qualifier) {
                // A qualifier that fails counts as well.
                Err(error) if error.is_absorbed() && !optional => {
                    self.spend(cost::SELECT)?;
                    return Err(error);
                }
                key => key?,
            };
            if !optional {
                let selected = select(&value, &key);
                self.spend(cost::SELECT)?;
                value = match selected? {
                    Some(selected) => selected,
                    None => return Err(missing(&value, &key)),
                };
                continue;
            }
            match select(&value, &key)? {
                Some(selected) => {
                    self.spend(cost::SELECT)?;
                    value = selected;
                }
                None => return Ok(Value::Optional(None)),
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    fn key(&mut self, qualifier: &'p Qualifier) -> Outcome<'a> {
        let key = match &*qualifier.by {
            By::Const(value) => return Ok(value.clone()),
            By::Attribute(of) => self.resolve(of)?,
            By::Value(step) => self.eval(step)?,
        };
        qualifies(&key).map(|()| key)
    }

    /// Whether the last qualifier finds something.
    fn test(&mut self, of: &'p Attribute) -> Outcome<'a> {
        let Some((last, before)) = of.qualifiers.split_last() else {
            return self.test_choice(of);
        };
        let value = self.base(of)?;
        let value = if before.is_empty() {
            value
        } else {
            self.qualified(value, before)?
        };
        let (value, optional) = match value {
            Value::Optional(None) => return Ok(Value::Bool(false)),
            Value::Optional(Some(value)) => (Value::clone(&value), true),
            value => (value, false),
        };
        let key = self.key(last)?;
        let found = select_present(&value, &key);
        if !optional || matches!(found, Ok(true)) {
            self.spend(cost::SELECT)?;
        }
        found.map(Value::Bool)
    }

    fn test_choice(&mut self, of: &'p Attribute) -> Outcome<'a> {
        let Base::Choice { condition, yes, no } = &of.base else {
            return Err(Error::no_such_overload());
        };
        let found = match self.choose(condition, yes, no) {
            Ok(chosen) => self.test(chosen),
            Err(error) => Err(error),
        };
        // Upstream takes back for the test what a choice has not cost.
        self.cost = self.cost.saturating_sub(cost::SELECT);
        found
    }

    fn logic(&mut self, decisive: bool, sides: &'p [Step; 2]) -> Outcome<'a> {
        let mut failed = None;
        for side in sides {
            match self.eval(side) {
                Ok(Value::Bool(b)) if b == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(Error::no_such_overload())),
                Err(error) if error.is_absorbed() => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Value::Bool(!decisive)),
        }
    }

    /// Both sides, whether one fails or not.
    fn both(&mut self, sides: &'p [Step; 2]) -> Result<[Outcome<'a>; 2], Error> {
        let left = self.settled(&sides[0])?;
        let right = self.settled(&sides[1])?;
        Ok([left, right])
    }

    /// A value or a failure that others may absorb; anything else ends the evaluation.
    fn settled(&mut self, step: &'p Step) -> Result<Outcome<'a>, Error> {
        match self.eval(step) {
            Err(error) if !error.is_absorbed() => Err(error),
            outcome => Ok(outcome),
        }
    }

    fn equality(&mut self, negated: bool, cost: cost::Rule, sides: &'p [Step; 2]) -> Outcome<'a> {
        let (values, failed) = match self.both(sides)? {
            [Ok(left), Ok(right)] => ([left, right], None),
            [Err(error), right] => (
                [Value::Null, right.unwrap_or(Value::Null)],
                Some((0, error)),
            ),
            [Ok(left), Err(error)] => ([left, Value::Null], Some((1, error))),
        };
        self.spend_call(cost, &values, failed.as_ref().map(|(i, _)| *i), None)?;
        if let Some((_, error)) = failed {
            return Err(error);
        }
        let [left, right] = &values;
        match equal(left, right) {
            Ok(same) => Ok(Value::Bool(same != negated)),
            // What refuses to be compared is not equal, says `!=`.
            Err(_) if negated => Ok(Value::Bool(true)),
            Err(error) => Err(error),
        }
    }

    fn not_strictly_false(&mut self, arg: &'p Step) -> Outcome<'a> {
        let value = self.settled(arg)?;
        self.spend(1)?;
        Ok(match value {
            Ok(Value::Bool(b)) => Value::Bool(b),
            _ => Value::Bool(true),
        })
    }

    fn call(&mut self, call: &'p Call) -> Outcome<'a> {
        let mut values = Vec::with_capacity(call.args.len());
        let mut failed = None;
        for (i, arg) in call.args.iter().enumerate() {
            match self.settled(arg)? {
                Ok(value) => values.push(value),
                // Nothing else is evaluated, and nothing counted.
                Err(error) if call.lazy && i + 1 < call.args.len() => return Err(error),
                Err(error) => {
                    failed = failed.or(Some((i, error)));
                    values.push(Value::Null);
                }
            }
        }
        let missing = failed.as_ref().map(|(i, _)| *i);
        if !call.cost.by_result {
            self.spend_call(call.cost, &values, missing, None)?;
        }
        let result = match failed {
            Some((_, error)) => Err(error),
            None => self.run(call, &mut values),
        };
        if call.cost.by_result {
            self.spend_call(call.cost, &values, missing, result.as_ref().ok())?;
        }
        let made = result?;
        if let (true, Value::String(text)) = (call.amplifies, &made) {
            self.text = self.text.saturating_add(text.len());
            if self.text > MOST_TEXT {
                return Err(Error::OverBudget);
            }
        }
        shallow(made)
    }

    fn spend_call(
        &mut self,
        cost: cost::Rule,
        args: &[Value<'a>],
        failed: Option<usize>,
        result: Option<&Value<'a>>,
    ) -> Result<(), Error> {
        let spent = cost::Spent {
            args,
            failed,
            result,
        };
        self.spend(cost.cost(&spent))
    }

    fn run(&mut self, call: &'p Call, values: &mut [Value<'a>]) -> Outcome<'a> {
        match (&call.regex, &*values) {
            (Some((function, Some(pattern))), _) => return function.call(pattern, values),
            (
                Some((function, None)),
                [Value::String(_), Value::String(pattern)]
                | [Value::String(_), Value::String(pattern), Value::Int(_)],
            ) => {
                let pattern = self.pattern(*function, pattern)?;
                return function.call(&pattern, values);
            }
            _ => {}
        }
        if let Some(grown) = grow(call, values) {
            return grown;
        }
        match self.plan.functions.get(&call.function) {
            Some(function) => function.call(&call.function, call.overload.as_deref(), values),
            None => Err(Error::new(format!("no such overload: {}", call.function))),
        }
    }

    fn pattern(&mut self, function: RegexFunction, pattern: &str) -> Result<Pattern, Error> {
        let compiled = self.patterns.get(pattern);
        compiled.map_err(|refused| function.refusal(refused))
    }

    fn or(&mut self, value: bool, sides: &'p [Step; 2]) -> Outcome<'a> {
        match self.eval(&sides[0])? {
            Value::Optional(Some(inner)) if value => Ok(Value::clone(&inner)),
            optional @ Value::Optional(Some(_)) => Ok(optional),
            Value::Optional(None) => self.eval(&sides[1]),
            _ => Err(Error::no_such_overload()),
        }
    }

    /// The value of an entry; none of an optional one that has none.
    fn entry(&mut self, entry: &'p Entry) -> Result<Option<Value<'a>>, Error> {
        let value = self.eval(&entry.value)?;
        if !entry.optional {
            return Ok(Some(value));
        }
        match value {
            Value::Optional(None) => Ok(None),
            Value::Optional(Some(value)) => Ok(Some(Value::clone(&value))),
            other => Err(Error::new(brief(&other))),
        }
    }

    fn list(&mut self, entries: &'p [Entry]) -> Outcome<'a> {
        let made = self.elements(entries);
        self.made(cost::LIST, made)
    }

    /// Making something counts whether it succeeds or not.
    fn made(&mut self, cost: u64, made: Outcome<'a>) -> Outcome<'a> {
        if matches!(&made, Err(error) if !error.is_absorbed()) {
            return made;
        }
        self.spend(cost)?;
        made.and_then(shallow)
    }

    fn elements(&mut self, entries: &'p [Entry]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let value = self.entry(entry).map_err(|error| {
                of_entry(entry, error, "cannot initialize optional list element from")
            })?;
            values.extend(value);
        }
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'p [(Step, Entry)]) -> Outcome<'a> {
        let made = self.entries(entries);
        self.made(cost::MAP, made)
    }

    fn entries(&mut self, entries: &'p [(Step, Entry)]) -> Outcome<'a> {
        let mut map = BTreeMap::new();
        for (key, entry) in entries {
            let key = self.eval(key)?;
            let value = self.entry(entry).map_err(|error| {
                let what = format!("cannot initialize optional entry '{}' from", brief(&key));
                of_entry(entry, error, &what)
            })?;
            let key = Key::of(&key).ok_or_else(|| Error::new("unsupported key type"))?;
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(Value::map(map))
    }

    fn object(&mut self, name: &Arc<str>, fields: &'p [(Arc<str>, Entry)]) -> Outcome<'a> {
        let made = self.fields(name, fields);
        self.made(cost::STRUCT, made)
    }

    fn fields(&mut self, name: &Arc<str>, fields: &'p [(Arc<str>, Entry)]) -> Outcome<'a> {
        let mut made = BTreeMap::new();
        for (field, entry) in fields {
            let value = self.entry(entry).map_err(|error| {
                let what = format!("cannot initialize optional entry '{field}' from");
                of_entry(entry, error, &what)
            })?;
            match value {
                Some(value) => made.insert(field.clone(), value),
                None => made.remove(field),
            };
        }
        if &**name == "JSONPatch" {
            check_patch(&made)?;
        }
        Ok(Value::Object(Arc::new(Object {
            name: name.clone(),
            fields: Made::new(made),
        })))
    }

    fn fold(&mut self, fold: &'p Fold) -> Outcome<'a> {
        let range = self.eval(&fold.range)?;
        self.slots[fold.accu] = Slot::Later(&fold.init);
        match (&range, fold.iter2) {
            (Value::List(list), _) => self.fold_list(fold, list)?,
            (Value::Map(map), _) => self.fold_map(fold, map)?,
            (other, Some(_)) => {
                return Err(Error::new(format!(
                    "unsupported comprehension range type: {}",
                    other.go_type()
                )));
            }
            (other, None) => {
                return Err(Error::new(format!(
                    "got '{}', expected iterable type",
                    other.go_type()
                )));
            }
        }
        let result = self.eval(&fold.result);
        for slot in [fold.accu, fold.iter].into_iter().chain(fold.iter2) {
            self.slots[slot] = Slot::Empty;
        }
        result
    }

    fn fold_list(&mut self, fold: &'p Fold, list: &List<'a>) -> Result<(), Error> {
        for (i, element) in list.iter().enumerate() {
            let element = slot_of(element)?;
            match fold.iter2 {
                None => self.slots[fold.iter] = element,
                Some(iter2) => {
                    let index = i64::try_from(i).unwrap_or(i64::MAX);
                    self.slots[fold.iter] = Slot::Value(Value::Int(index));
                    self.slots[iter2] = element;
                }
            }
            if !self.iterate(fold)? {
                break;
            }
        }
        Ok(())
    }

    fn fold_map(&mut self, fold: &'p Fold, map: &Map<'a>) -> Result<(), Error> {
        for key in map.keys() {
            if let Some(iter2) = fold.iter2 {
                let value = map.find(&key).and_then(|value| {
                    value.ok_or_else(|| Error::new(format!("no such key: {}", brief(&key))))
                });
                self.slots[iter2] = slot_of(value)?;
            }
            self.slots[fold.iter] = Slot::Value(key);
            if !self.iterate(fold)? {
                break;
            }
        }
        Ok(())
    }

    /// One turn; false if it was not made, because the condition does not hold any more.
    fn iterate(&mut self, fold: &'p Fold) -> Result<bool, Error> {
        if let Ok(Value::Bool(false)) = self.settled(&fold.condition)? {
            return Ok(false);
        }
        self.slots[fold.accu] = match self.settled(&fold.step)? {
            Ok(value) => Slot::Value(value),
            Err(error) => Slot::Failed(error),
        };
        Ok(true)
    }
}

/// What was made, if it is not too deep.
fn shallow(made: Value<'_>) -> Outcome<'_> {
    if made.depth() > DEEPEST {
        return Err(Error::new(format!(
            "values are nested deeper than {DEEPEST}"
        )));
    }
    Ok(made)
}

fn slot_of<'p, 'a>(outcome: Outcome<'a>) -> Result<Slot<'p, 'a>, Error> {
    match outcome {
        Ok(value) => Ok(Slot::Value(value)),
        Err(error) if error.is_absorbed() => Ok(Slot::Failed(error)),
        Err(error) => Err(error),
    }
}

/// What was not optional is told with its value; other failures as they are.
fn of_entry(entry: &Entry, error: Error, what: &str) -> Error {
    match error {
        Error::Failed(value) if entry.optional => {
            Error::new(format!("{what} non-optional value {value}"))
        }
        other => other,
    }
}

/// `accu + [x]` and `cel.@mapInsert(accu, k, v)` where nobody else has the accumulator: it grows in
/// place, so that making a list of n elements takes n steps.
fn grow<'a>(call: &Call, values: &mut [Value<'a>]) -> Option<Outcome<'a>> {
    let is_taken =
        matches!(call.args.first(), Some(Step::Attribute(of)) if matches!(of.base, Base::Taken(_)));
    if !is_taken {
        return None;
    }
    let accu = std::mem::replace(values.first_mut()?, Value::Null);
    match (accu, &values[1..]) {
        (Value::List(List::Owned(mut have)), [Value::List(more)]) => {
            let elements: Result<Vec<_>, _> = more.iter().collect();
            Some(elements.map(|elements| {
                Arc::make_mut(&mut have).extend(elements);
                Value::List(List::Owned(have))
            }))
        }
        (Value::Map(map), [key, value]) => {
            let value = value.clone();
            Some(crate::library::insert(map, key, value).map(Value::Map))
        }
        (accu, _) => {
            values[0] = accu;
            None
        }
    }
}

/// What a qualifier finds; none if there is nothing.
fn select<'a>(of: &Value<'a>, key: &Value<'_>) -> Result<Option<Value<'a>>, Error> {
    match of {
        Value::Map(map) => map.find(key),
        Value::List(list) => {
            let index = List::index(key)?;
            let found = usize::try_from(index).ok().and_then(|i| list.get(i));
            found.transpose()
        }
        Value::Object(object) => {
            let name = key.as_str().ok_or_else(Error::no_such_overload)?;
            let found = object.get(name).cloned();
            Ok(match found {
                None if &*object.name == "JSONPatch" && name != "value" => Some(Value::text("")),
                None => Some(Value::Null),
                found => found,
            })
        }
        _ => Ok(None),
    }
}

/// Whether a qualifier finds something.
fn select_present(of: &Value<'_>, key: &Value<'_>) -> Result<bool, Error> {
    match (of, key) {
        (Value::Object(object), Value::String(name)) => Ok(match object.get(name) {
            Some(Value::String(text)) if &*object.name == "JSONPatch" => !text.is_empty(),
            found => found.is_some(),
        }),
        _ => select(of, key).map(|found| found.is_some()),
    }
}

/// What is said where a qualifier finds nothing.
fn missing(of: &Value<'_>, key: &Value<'_>) -> Error {
    Error::new(match of {
        Value::List(_) => format!("index out of bounds: {}", brief(key)),
        _ => format!("no such key: {}", brief(key)),
    })
}

/// The strings of a patch are strings.
fn check_patch(fields: &BTreeMap<Arc<str>, Value<'_>>) -> Result<(), Error> {
    for (name, value) in fields {
        if &**name != "value" && !matches!(value, Value::String(_)) {
            return Err(Error::new(format!(
                "unexpected type {} for JSONPatchType '{name}' field",
                value.type_name()
            )));
        }
    }
    Ok(())
}
