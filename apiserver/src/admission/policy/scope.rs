//! What one run of a policy's expressions reads: what all expressions of admission are given, parameters, the namespace, and
//! the policy's variables, each of which is evaluated when it is first read.
//!
//! Upstream: `apiserver/pkg/admission/plugin/cel/composition.go`.

use std::collections::HashMap;
use std::sync::OnceLock;

use cel::admission::{Invalid, VARIABLES};
use cel::{Activation, Check, Error, Evaluated, Fields, Outcome, PER_CALL_LIMIT, Program, Value};
use parking_lot::Mutex;
use proto::path::quote;

use super::super::given::Given;

/// How deep variables are evaluated inside one another; what lies deeper is evaluated first, and then read. That bounds the
/// stack, whatever chains of variables somebody writes.
const NESTED: usize = 3;

/// The variables of a policy, compiled.
#[derive(Default)]
pub(super) struct Variables {
    programs: Vec<Result<Program, Invalid>>,
    names: Vec<Box<str>>,
    /// Of a name that is used twice the last counts.
    index: HashMap<Box<str>, usize>,
}

impl Variables {
    pub(super) fn push(&mut self, name: &str, program: Result<Program, Invalid>) {
        self.index.insert(name.into(), self.programs.len());
        self.names.push(name.into());
        self.programs.push(program);
    }
}

/// What expressions read.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) given: &'a Given,
    pub(super) params: Option<&'a proto::Value>,
    pub(super) namespace: Option<&'a proto::Value>,
    /// Whether the authorizer can be asked.
    pub(super) asks: bool,
    pub(super) variables: &'a Variables,
}

/// The inputs of a run, with the variables that were read in it.
pub(super) struct Scope<'s> {
    inputs: Inputs<'s>,
    state: Mutex<State<'s>>,
    own: OnceLock<Own<'s>>,
}

#[derive(Default)]
struct State<'s> {
    values: HashMap<usize, Outcome<'s>>,
    /// What evaluating them cost, since that was last asked for.
    cost: u64,
    depth: usize,
    /// A variable that lies too deep to be evaluated where it is read.
    deep: Option<usize>,
}

/// `variables`.
struct Own<'s>(&'s Scope<'s>);

/// Why a run goes no further.
#[derive(PartialEq, Debug)]
pub(super) enum Stop {
    OverBudget,
    /// The authorizer has to be asked first.
    Undecided(Box<Check>),
}

impl<'s> Scope<'s> {
    pub(super) fn new(inputs: Inputs<'s>) -> Self {
        Self {
            inputs,
            state: Mutex::default(),
            own: OnceLock::new(),
        }
    }

    /// Evaluates an expression.
    pub(super) fn evaluate(&'s self, program: &Program) -> Result<Evaluated<'s>, Stop> {
        self.own.get_or_init(|| Own(self));
        loop {
            let evaluated = program.evaluate(self, PER_CALL_LIMIT);
            let Err(Error::Undecided(check)) = &evaluated.outcome else {
                return Ok(evaluated);
            };
            match self.take_deep() {
                Some(variable) => self.prepare(variable)?,
                None => return Err(Stop::Undecided(check.clone())),
            }
        }
    }

    /// What variables cost since this was last asked.
    pub(super) fn take_cost(&self) -> u64 {
        std::mem::take(&mut self.state.lock().cost)
    }

    fn take_deep(&self) -> Option<usize> {
        self.state.lock().deep.take()
    }

    /// Evaluates a variable, and before it those that it reads too deep below.
    fn prepare(&'s self, variable: usize) -> Result<(), Stop> {
        let mut wanted = vec![variable];
        while let Some(top) = wanted.last().copied() {
            match self.variable(top) {
                Err(Error::Undecided(check)) => match self.take_deep() {
                    Some(deeper) if wanted.contains(&deeper) => {
                        self.settle(top, Err(self.circular(top)))
                    }
                    Some(deeper) => wanted.push(deeper),
                    None => return Err(Stop::Undecided(check)),
                },
                _ => drop(wanted.pop()),
            }
        }
        Ok(())
    }

    fn settle(&self, index: usize, outcome: Outcome<'s>) {
        self.state.lock().values.insert(index, outcome);
    }

    fn named(&self, index: usize) -> String {
        quote(&self.inputs.variables.names[index])
    }

    fn circular(&self, index: usize) -> Error {
        failed(format!(
            "composited variable {} depends on itself",
            self.named(index)
        ))
    }

    fn variable(&'s self, index: usize) -> Outcome<'s> {
        {
            let mut state = self.state.lock();
            if let Some(known) = state.values.get(&index) {
                return known.clone();
            }
            if state.depth >= NESTED {
                state.deep = Some(index);
                return Err(Error::Undecided(Box::default()));
            }
            state.depth += 1;
        }
        // Whoever reads it while it is evaluated reads himself.
        self.settle(index, Err(self.circular(index)));
        let (outcome, cost) = self.evaluated(index);
        let mut state = self.state.lock();
        state.depth -= 1;
        if matches!(outcome, Err(Error::Undecided(_))) {
            state.values.remove(&index);
        } else {
            state.cost = state.cost.saturating_add(cost);
            state.values.insert(index, outcome.clone());
        }
        outcome
    }

    fn evaluated(&'s self, index: usize) -> (Outcome<'s>, u64) {
        let program = match &self.inputs.variables.programs[index] {
            Ok(program) => program,
            Err(why) => {
                let name = self.named(index);
                let why = format!("composited variable {name} fails to compile: {why}");
                return (Err(failed(why)), 0);
            }
        };
        let evaluated = program.evaluate(self, PER_CALL_LIMIT);
        let outcome = evaluated.outcome.map_err(|e| match e {
            Error::Undecided(check) => Error::Undecided(check),
            e => {
                let name = self.named(index);
                failed(format!("composited variable {name} fails to evaluate: {e}"))
            }
        });
        (outcome, evaluated.cost)
    }
}

/// Null, if there is none.
fn node(tree: Option<&proto::Value>) -> Value<'_> {
    tree.map_or(Value::Null, Value::of)
}

fn failed(why: String) -> Error {
    Error::Failed(why.into())
}

impl Activation for Scope<'_> {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        match name {
            "params" => Some(Ok(node(self.inputs.params))),
            "namespaceObject" => Some(Ok(node(self.inputs.namespace))),
            "variables" => self.own.get().map(|own| Ok(Value::lazy(own))),
            "authorizer" | "authorizer.requestResource" if !self.inputs.asks => None,
            _ => self.inputs.given.get(name),
        }
    }
}

impl Fields for Own<'_> {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        let index = self.0.inputs.variables.index.get(name)?;
        Some(self.0.variable(*index))
    }

    fn names(&self) -> Vec<Box<str>> {
        self.0.inputs.variables.names.clone()
    }

    fn type_name(&self) -> &str {
        VARIABLES
    }
}

#[cfg(test)]
mod tests {
    use cel::Version;
    use cel::admission::{Compiler, Use};

    use super::super::testing::given;
    use super::*;

    /// What an expression gives with these variables, what it cost, and what they cost.
    fn run(
        variables: &[(&str, &str)],
        expression: &str,
    ) -> (Result<Option<bool>, String>, u64, u64) {
        let mut compiler = Compiler::composing(false);
        let mut all = Variables::default();
        for (name, text) in variables {
            all.push(name, compiler.declare(name, text, Version::STORED));
        }
        let program = compiler
            .compile(expression, Use::Condition, Version::STORED)
            .unwrap();
        let given = given(r#"{"metadata":{"name":"a"},"spec":{"containers":[]}}"#);
        let inputs = Inputs {
            given: &given,
            params: None,
            namespace: None,
            asks: true,
            variables: &all,
        };
        let scope = Scope::new(inputs);
        let evaluated = scope.evaluate(&program).unwrap();
        let outcome = evaluated
            .outcome
            .map(|v| v.as_bool())
            .map_err(|e| e.to_string());
        (outcome, evaluated.cost, scope.take_cost())
    }

    #[test]
    fn a_variable_is_evaluated_once_and_only_if_it_is_read() {
        let variables = [
            ("name", "object.metadata.name"),
            ("wrong", "object.nothing"),
            ("long", "variables.name + 'b'"),
        ];
        let (once, _, first) = run(&variables, "variables.name == 'a'");
        assert_eq!(once, Ok(Some(true)));
        let (twice, _, second) = run(&variables, "variables.name == 'a' && variables.name != 'b'");
        assert_eq!((twice, second), (Ok(Some(true)), first));
        let (_, _, both) = run(&variables, "variables.long == 'ab'");
        assert!(both > first, "what it reads itself counts");
        let (wrong, _, _) = run(&variables, "variables.wrong == 'a'");
        assert_eq!(
            wrong.unwrap_err(),
            "composited variable \"wrong\" fails to evaluate: no such key: nothing"
        );
    }

    #[test]
    fn long_chains_of_variables_do_not_use_up_the_stack() {
        let mut variables = vec![("v0".to_owned(), "1".to_owned())];
        for i in 1..2000 {
            variables.push((format!("v{i}"), format!("variables.v{} + 1", i - 1)));
        }
        let variables: Vec<(&str, &str)> = { variables.iter() }
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let (outcome, _, _) = run(&variables, "variables.v1999 == 2000");
        assert_eq!(outcome, Ok(Some(true)));
    }

    #[test]
    fn a_variable_that_reads_itself_fails() {
        let variables = [("a", "1"), ("a", "variables.a + 1")];
        let (outcome, _, _) = run(&variables, "variables.a == 2");
        assert!(
            outcome
                .unwrap_err()
                .ends_with("composited variable \"a\" depends on itself")
        );
        let long = [
            ("a", "1"),
            ("b", "variables.a"),
            ("c", "variables.b"),
            ("d", "variables.c"),
            ("e", "variables.d"),
            ("a", "variables.e"),
        ];
        let (outcome, _, _) = run(&long, "variables.a == 2");
        assert!(outcome.unwrap_err().contains("depends on itself"));
    }

    #[test]
    fn a_variable_that_does_not_compile_fails_where_it_is_read() {
        let variables = [("a", "nothing"), ("b", "true")];
        assert_eq!(run(&variables, "variables.b").0, Ok(Some(true)));
        let told = run(&variables, "variables.a == 1").0.unwrap_err();
        let head = "composited variable \"a\" fails to compile: compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing'";
        assert!(told.starts_with(head), "{told}");
    }
}
