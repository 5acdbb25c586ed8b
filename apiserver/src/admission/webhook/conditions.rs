//! Match conditions: expressions that all must hold for a webhook to be asked.
//!
//! Upstream: `apiserver/pkg/admission/plugin/webhook/matchconditions`.

use std::time::Instant;

use cel::admission::{Compiler, Use};
use cel::{MATCH_CONDITIONS_BUDGET, Program, Version};
use proto::view::List;
use proto::view::admissionregistration_v1::MatchCondition;
use resources::status::Failure;

use super::super::Attributes;
use super::super::given::{Given, breathe};
use super::forms::Forms;
use super::metrics::Metrics;
use super::source::Candidate;
use crate::auth::User;
use crate::server::Server;

pub(in super::super) const TOO_COSTLY: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

pub(super) struct Conditions {
    all: Vec<Condition>,
    ignores_failures: bool,
}

struct Condition {
    expression: String,
    /// Or why it is none, which validation does not let pass.
    program: Result<Program, String>,
}

/// What conditions say of a write.
#[derive(PartialEq, Debug)]
pub(in super::super) enum Verdict {
    Matches,
    /// One of them does not hold.
    Excluded,
    /// They cannot be evaluated, and the failure policy is to fail.
    Failed(String),
}

/// What each condition gave; or why they were not all evaluated.
pub(in super::super) type Results = Result<Vec<Result<bool, String>>, String>;

impl Conditions {
    pub(super) fn read(given: List<'_, MatchCondition<'_>>, ignores_failures: bool) -> Self {
        let mut compiler = Compiler::plain(false);
        let compile = |condition: MatchCondition<'_>| {
            let expression = condition.expression();
            let program = compiler.compile(expression, Use::Condition, Version::STORED);
            Condition {
                program: program.map_err(|e| format!("compilation error: {e}")),
                expression: expression.to_owned(),
            }
        };
        Self {
            all: given.into_iter().map(compile).collect(),
            ignores_failures,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Evaluates them on the objects as the webhook would see them.
    pub(super) async fn evaluate(
        &self,
        server: &Server,
        candidate: &Candidate,
        write: &Attributes<'_>,
        forms: &mut Forms,
        metrics: &Metrics,
    ) -> Result<Verdict, Failure> {
        let started = Instant::now();
        let name = &candidate.hook.name;
        let given = forms.given(write, &candidate.kind)?;
        let results = self.results(server, write.user, &given).await;
        for _ in 0..failures(&results) {
            metrics.condition_failed(name, write.operation);
        }
        metrics.evaluated(name, write.operation, started.elapsed());
        breathe(started).await;
        Ok(verdict(self.ignores_failures, results))
    }

    async fn results(&self, server: &Server, user: &User, given: &Given) -> Results {
        let mut left = MATCH_CONDITIONS_BUDGET;
        let mut results = Vec::with_capacity(self.all.len());
        for condition in &self.all {
            let program = match &condition.program {
                Ok(program) => program,
                Err(why) => {
                    results.push(Err(why.clone()));
                    continue;
                }
            };
            let evaluated = given.evaluate(server, user, program).await;
            left = left.checked_sub(evaluated.cost).ok_or(TOO_COSTLY)?;
            results.push(match evaluated.outcome {
                Ok(value) => Ok(value.as_bool() == Some(true)),
                Err(e) => {
                    let expression = &condition.expression;
                    Err(format!("expression '{expression}' resulted in error: {e}"))
                }
            });
        }
        Ok(results)
    }
}

/// How many could not be evaluated, as far as upstream counts them: to the first that does not hold.
pub(in super::super) fn failures(results: &Results) -> usize {
    let all = results.iter().flatten();
    let counted = all.take_while(|result| **result != Ok(false));
    counted.filter(|result| result.is_err()).count()
}

/// One that does not hold decides, whatever is wrong with others.
pub(in super::super) fn verdict(ignores_failures: bool, results: Results) -> Verdict {
    let errors: Vec<String> = match results {
        Ok(results) if results.contains(&Ok(false)) => return Verdict::Excluded,
        Ok(results) => results.into_iter().filter_map(Result::err).collect(),
        Err(why) => vec![why],
    };
    match errors.is_empty() {
        true => Verdict::Matches,
        false if ignores_failures => Verdict::Excluded,
        false => Verdict::Failed(proto::path::aggregate(errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ignores: bool, results: &[Result<bool, &str>]) -> Verdict {
        let results = results.iter().map(|r| r.map_err(str::to_owned));
        super::verdict(ignores, Ok(results.collect()))
    }

    #[test]
    fn one_condition_that_does_not_hold_decides() {
        assert_eq!(verdict(false, &[Ok(true), Ok(true)]), Verdict::Matches);
        assert_eq!(verdict(false, &[Err("x"), Ok(false)]), Verdict::Excluded);
        assert_eq!(
            verdict(false, &[Ok(true), Err("x")]),
            Verdict::Failed("x".to_owned())
        );
        let both = Verdict::Failed("[x, y]".to_owned());
        assert_eq!(verdict(false, &[Err("x"), Err("y")]), both);
        assert_eq!(verdict(true, &[Ok(true), Err("x")]), Verdict::Excluded);
    }

    #[test]
    fn failures_count_up_to_the_condition_that_decides() {
        let error = || Err("x".to_owned());
        let results = Ok(vec![error(), Ok(true), error(), Ok(false), error()]);
        assert_eq!(failures(&results), 2);
        assert_eq!(failures(&Err("too costly".to_owned())), 0);
    }
}
