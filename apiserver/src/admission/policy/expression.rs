//! Expressions of a policy, and runs of several within one budget.
//!
//! Upstream: `apiserver/pkg/admission/plugin/cel/{condition,activation}.go`.

use std::time::{Duration, Instant};

use cel::admission::{Compiler, Invalid, Use};
use cel::{MATCH_CONDITIONS_BUDGET, Program, Value, Version};
use proto::view::List;
use proto::view::admissionregistration_v1::MatchCondition;

use super::super::given::breathe;
use super::super::webhook::Metrics;
use super::super::webhook::conditions::{TOO_COSTLY, Verdict, failures, verdict};
use super::super::{Attributes, Operation};
use super::scope::{Inputs, Scope, Stop};
use crate::auth::User;
use crate::server::Server;

/// An expression, or why it is none.
pub(super) struct Expression {
    pub(super) text: Box<str>,
    pub(super) program: Result<Program, Invalid>,
}

impl Expression {
    pub(super) fn compile(compiler: &mut Compiler, text: &str, of: Use) -> Self {
        Self {
            program: compiler.compile(text, of, Version::STORED),
            text: text.into(),
        }
    }
}

/// What came of an expression: what was made of its value, or why it has none.
#[derive(Debug)]
pub(super) struct Evaluation<T> {
    pub(super) outcome: Result<T, String>,
    pub(super) took: Duration,
}

/// The evaluations of a run; places without an expression stay empty.
pub(super) type Evaluations<T> = Vec<Option<Evaluation<T>>>;

/// Who runs expressions, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Runner<'a> {
    pub(super) server: &'a Server,
    pub(super) user: &'a User,
}

impl Runner<'_> {
    /// Evaluates expressions one after the other, within what is left of a budget.
    ///
    /// # Errors
    /// The budget is used up: a text.
    pub(super) async fn run<T>(
        self,
        inputs: Inputs<'_>,
        expressions: &[Option<&Expression>],
        left: &mut u64,
        make: impl Fn(&Value<'_>) -> T,
    ) -> Result<Evaluations<T>, &'static str> {
        loop {
            let started = Instant::now();
            let ended = run(inputs, expressions, *left, &make);
            breathe(started).await;
            let check = match ended {
                Ok((evaluations, rest)) => {
                    *left = rest;
                    return Ok(evaluations);
                }
                Err(Stop::OverBudget) => return Err(TOO_COSTLY),
                Err(Stop::Undecided(check)) => check,
            };
            let decisions = &inputs.given.decisions;
            decisions.learn(self.server, self.user, *check).await;
        }
    }
}

/// What is left of the budget is told besides. Nothing is waited for here.
fn run<T>(
    inputs: Inputs<'_>,
    expressions: &[Option<&Expression>],
    mut left: u64,
    make: &impl Fn(&Value<'_>) -> T,
) -> Result<(Evaluations<T>, u64), Stop> {
    let scope = Scope::new(inputs);
    let mut evaluations = Vec::with_capacity(expressions.len());
    for expression in expressions {
        let Some(expression) = expression else {
            evaluations.push(None);
            continue;
        };
        let started = Instant::now();
        let outcome = match &expression.program {
            Err(why) => Err(format!("compilation error: {why}")),
            Ok(program) => {
                let evaluated = scope.evaluate(program)?;
                for cost in [scope.take_cost(), evaluated.cost] {
                    left = left.checked_sub(cost).ok_or(Stop::OverBudget)?;
                }
                match &evaluated.outcome {
                    Ok(value) => Ok(make(value)),
                    Err(e) => Err(format!(
                        "expression '{}' resulted in error: {e}",
                        expression.text
                    )),
                }
            }
        };
        evaluations.push(Some(Evaluation {
            outcome,
            took: started.elapsed(),
        }));
    }
    Ok((evaluations, left))
}

/// Conditions under which a policy is asked.
#[derive(Default)]
pub(super) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(super) fn compile(compiler: &mut Compiler, given: List<'_, MatchCondition<'_>>) -> Self {
        let compile =
            |c: MatchCondition<'_>| Expression::compile(compiler, c.expression(), Use::Condition);
        Self(given.into_iter().map(compile).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they say of a write.
    pub(super) async fn evaluate(
        &self,
        runner: Runner<'_>,
        inputs: Inputs<'_>,
        policy: &str,
        ignores_failures: bool,
        (metrics, operation): (&Metrics, Operation),
    ) -> Verdict {
        let started = Instant::now();
        let all: Vec<_> = self.0.iter().map(Some).collect();
        let mut left = MATCH_CONDITIONS_BUDGET;
        let holds = |value: &Value<'_>| value.as_bool() == Some(true);
        let run = runner.run(inputs, &all, &mut left, holds).await;
        let results = run.map(|all| {
            let outcomes = all.into_iter().flatten().map(|e| e.outcome);
            outcomes.collect::<Vec<_>>()
        });
        let results = results.map_err(str::to_owned);
        for _ in 0..failures(&results) {
            metrics.condition_failed(policy, operation);
        }
        metrics.evaluated(policy, operation, started.elapsed());
        verdict(ignores_failures, results)
    }
}

/// Who runs the expressions about a write.
pub(super) fn runner<'a>(server: &'a Server, write: &Attributes<'a>) -> Runner<'a> {
    Runner {
        server,
        user: write.user,
    }
}

#[cfg(test)]
mod tests {
    use cel::RUNTIME_BUDGET;

    use super::super::scope::Variables;
    use super::super::testing::given;
    use super::*;

    fn evaluate(texts: &[&str], budget: u64) -> Result<(Vec<Result<bool, String>>, u64), Stop> {
        let mut compiler = Compiler::composing(false);
        let compile = |text: &&str| Expression::compile(&mut compiler, text, Use::Condition);
        let all: Vec<Expression> = texts.iter().map(compile).collect();
        let all: Vec<_> = all.iter().map(Some).collect();
        let (given, variables) = (given(r#"{"metadata":{"name":"a"}}"#), Variables::default());
        let inputs = Inputs {
            given: &given,
            params: None,
            namespace: None,
            asks: true,
            variables: &variables,
        };
        let (evaluations, left) = run(inputs, &all, budget, &|v| v.as_bool() == Some(true))?;
        let outcomes = evaluations.into_iter().flatten().map(|e| e.outcome);
        Ok((outcomes.collect(), left))
    }

    #[test]
    fn errors_are_told_with_their_expression() {
        let (outcomes, _) = evaluate(
            &["object.metadata.name == 'a'", "object.spec.x == 1", "1"],
            RUNTIME_BUDGET,
        )
        .unwrap();
        assert_eq!(
            outcomes,
            [
                Ok(true),
                Err(
                    "expression 'object.spec.x == 1' resulted in error: no such key: spec"
                        .to_owned()
                ),
                Err("compilation error: must evaluate to bool but got int".to_owned()),
            ]
        );
    }

    #[test]
    fn a_budget_is_shared_and_ends_the_run() {
        let texts = ["object.metadata.name == 'a'", "object.metadata.name == 'a'"];
        let (_, left) = evaluate(&texts, 1000).unwrap();
        let cost = (1000 - left) / 2;
        assert!(cost > 0);
        assert_eq!(evaluate(&texts, 2 * cost).unwrap().1, 0);
        assert_eq!(
            evaluate(&texts, 2 * cost - 1).unwrap_err(),
            Stop::OverBudget
        );
    }
}
