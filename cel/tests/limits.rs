//! What hostile expressions cannot do, and what callers rely on.

use std::sync::Mutex;

use cel::{
    Activation, Authorizer, Check, Decision, Environment, Error, Fields, Outcome, PER_CALL_LIMIT,
    Program, Type, Value, Version,
};

fn environment() -> Environment {
    Environment::new(Version::DEFAULT)
}

fn issues(expression: &str) -> String {
    let rejected = environment().compile(expression);
    rejected.expect_err("is refused").to_string()
}

fn compiled(expression: &str) -> Program {
    environment().compile(expression).expect("compiles")
}

#[test]
fn nesting_is_limited_as_upstream_limits_it() {
    const TOO_DEEP: &str = "ERROR: <input>:-1:0: expression recursion limit exceeded: 250";
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{1: ", "}"),
        ("size(", ")"),
        ("true ? 1 : ", ""),
    ] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(issues(&nested(250)), TOO_DEEP, "{open}");
        assert_eq!(issues(&nested(5_000)), TOO_DEEP, "{open}");
    }
    with_stack(chains_are_limited);
}

fn chains_are_limited() {
    for operator in [" + 1", " - 1", ".a", "[0]", " * 1", ".a()"] {
        let chain = |length: usize| format!("dyn(1){}", operator.repeat(length));
        let is_refused = |length| {
            environment()
                .compile(&chain(length))
                .is_err_and(|rejected| {
                    rejected.to_string() == "ERROR: <input>:-1:0: max recursion depth exceeded"
                })
        };
        assert!(!is_refused(250), "{operator}");
        assert!(is_refused(251), "{operator}");
        assert!(is_refused(20_000), "{operator}");
    }
}

#[test]
fn the_deepest_expression_needs_no_more_stack_than_a_thread_has() {
    with_stack(deepest_expressions);
}

/// On a thread as servers have them; unoptimized code takes several times as much.
fn with_stack(test: fn()) {
    let stack = if cfg!(debug_assertions) { 16 } else { 2 } << 20;
    let thread = std::thread::Builder::new().stack_size(stack);
    let thread = thread.spawn(test).expect("a thread");
    thread.join().expect("no panic");
}

fn deepest_expressions() {
    // Each turn nests the tree several levels deep.
    let nest = |open: &str, close: &str, depth: usize| {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let maps = |depth| nest("[1].map(x, x > 0, ", ")", depth);
    let program = compiled(&maps(60));
    assert!(program.evaluate(&(), PER_CALL_LIMIT).outcome.is_ok());
    assert_eq!(
        issues(&maps(70)),
        "ERROR: <input>:-1:0: expression nesting limit exceeded: 260"
    );
    let sorts = nest("[1].sortBy(x, [x].all(x, true) ? ", " : 2)[0]", 20);
    let program = compiled(&sorts);
    assert!(program.evaluate(&(), PER_CALL_LIMIT).outcome.is_ok());
    let brackets = compiled(&nest("(", ")", 249));
    assert!(brackets.evaluate(&(), PER_CALL_LIMIT).outcome.is_ok());
}

#[test]
fn size_is_limited() {
    let long = format!("'{}'", "a".repeat(100_000));
    assert_eq!(
        issues(&long),
        "ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100002, limit 100000"
    );
    let many = format!("[{}1]", "1, ".repeat(30_000));
    let program = compiled(&many);
    assert!(program.evaluate(&(), PER_CALL_LIMIT).outcome.is_ok());
    let terms = format!("true{}", " && true".repeat(10_000));
    let program = compiled(&terms);
    let evaluated = program.evaluate(&(), PER_CALL_LIMIT);
    assert_eq!(
        evaluated.outcome.expect("has a value").as_bool(),
        Some(true)
    );
}

#[test]
fn what_costs_too_much_ends_and_nothing_absorbs_that() {
    let list = format!("[{}1]", "1, ".repeat(99));
    let expression = format!(
        "true || {list}.all(a, {list}.all(b, {list}.all(c, {list}.all(d, a + b + c + d > 0))))"
    );
    assert!(
        compiled(&expression)
            .evaluate(&(), PER_CALL_LIMIT)
            .outcome
            .is_ok()
    );
    let expression = expression.replacen("true ||", "false ||", 1) + " || true";
    let evaluated = compiled(&expression).evaluate(&(), PER_CALL_LIMIT);
    assert_eq!(evaluated.outcome.expect_err("ends"), Error::OverBudget);
    assert!(evaluated.cost > PER_CALL_LIMIT && evaluated.cost < PER_CALL_LIMIT + 100);
}

#[test]
fn joining_large_lists_does_not_copy_them() {
    let expression = "lists.range(1000).all(x, \
        cel.bind(big, lists.range(400) + lists.range(400), size(big + big) == 1600))";
    let environment = environment().with_bindings();
    let program = environment.compile(expression).expect("compiles");
    let evaluated = program.evaluate(&(), PER_CALL_LIMIT);
    assert_eq!(
        evaluated.outcome.expect("has a value").as_bool(),
        Some(true)
    );
}

#[test]
fn programs_are_shared_between_threads() {
    fn is_shared<T: Send + Sync + Clone>(_: &T) {}
    let program = compiled("[1, 2].map(x, x * 2)");
    is_shared(&program);
}

/// Knows some answers, and remembers what it was asked.
struct Memo {
    known: Vec<Check>,
    asked: Mutex<Vec<Check>>,
}

impl Authorizer for Memo {
    fn authorize(&self, check: &Check) -> Option<Decision> {
        let mut asked = self.asked.lock().expect("nobody panics");
        asked.push(check.clone());
        self.known.contains(check).then(|| Decision {
            allowed: true,
            ..Decision::default()
        })
    }
}

impl Activation for Memo {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        (name == "authorizer").then(|| Ok(Value::authorizer(self)))
    }
}

#[test]
fn an_answer_that_is_not_known_yet_ends_evaluation_with_the_question() {
    let environment = environment().with_variable(
        "authorizer",
        Type::object("kubernetes.authorization.Authorizer"),
    );
    let program = environment
        .compile(
            "authorizer.path('/a').check('get').allowed() && \
             authorizer.serviceAccount('ns', 'sa').group('apps').resource('deployments').check('list').allowed()",
        )
        .expect("compiles");
    let mut memo = Memo {
        known: Vec::new(),
        asked: Mutex::default(),
    };
    let mut questions = 0;
    let allowed = loop {
        let question = match program.evaluate(&memo, PER_CALL_LIMIT).outcome {
            Ok(value) => break value.as_bool(),
            Err(Error::Undecided(check)) => *check,
            Err(other) => panic!("{other}"),
        };
        questions += 1;
        memo.known.push(question);
    };
    assert_eq!((allowed, questions), (Some(true), 2));
    let last = memo.known.last().expect("two");
    assert_eq!(last.service_account, Some(("ns".into(), "sa".into())));
    assert_eq!(
        (&*last.group, &*last.resource, &*last.verb),
        ("apps", "deployments", "list")
    );
}

/// Variables that are computed when they are asked for, once.
struct Variables {
    computed: Mutex<Vec<String>>,
}

impl Fields for Variables {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        let mut computed = self.computed.lock().expect("nobody panics");
        computed.push(name.to_owned());
        match name {
            "namespace" => Some(Ok(Value::text("default"))),
            "broken" => Some(Err(Error::OverBudget)),
            _ => None,
        }
    }

    fn names(&self) -> Vec<Box<str>> {
        vec!["namespace".into(), "broken".into()]
    }

    fn type_name(&self) -> &str {
        "kubernetes.variables"
    }
}

impl Activation for Variables {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        (name == "variables").then(|| Ok(Value::lazy(self)))
    }
}

#[test]
fn lazy_fields_are_computed_only_where_they_are_used_under_their_own_names() {
    let variables = Variables {
        computed: Mutex::default(),
    };
    let environment = environment().with_variable("variables", Type::Dyn);
    let program = environment
        .compile("variables.__namespace__ == 'default' || variables.broken")
        .expect("compiles");
    let evaluated = program.evaluate(&variables, PER_CALL_LIMIT);
    assert_eq!(
        evaluated.outcome.expect("has a value").as_bool(),
        Some(true)
    );
    assert_eq!(
        *variables.computed.lock().expect("nobody panics"),
        ["namespace"]
    );
    assert_eq!(program.variables().collect::<Vec<_>>(), ["variables"]);
}
