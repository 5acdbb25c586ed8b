//! What hostile expressions cannot do, and what callers rely on.

use std::sync::Mutex;

use cel::{
    Activation, Authorizer, Check, Decision, Environment, Error, Fields, Outcome, PER_CALL_LIMIT,
    Program, Root, Schema, Type, Value, Version,
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
fn chains_of_macros_that_copy_do_not_double_without_end() {
    let chain = |length: usize| format!("optional.of(1){}", ".optMap(a, a)".repeat(length));
    assert!(environment().compile(&chain(10)).is_ok());
    let told = issues(&chain(200));
    assert!(
        told.contains("expression node limit exceeded: 250000"),
        "{told}"
    );
    let nested = (0..40).fold("1".to_owned(), |inner, _| {
        format!("optional.of(1).optMap(a, {inner}).value()")
    });
    let told = environment().compile(&nested).map(drop);
    assert!(told.is_ok(), "what is not doubled is not refused: {told:?}");
    // What is copied may be deep, long before its depth is looked at.
    let deep = format!("a{}.optMap(x, x)", ".b".repeat(45_000));
    assert_eq!(
        issues(&deep),
        "ERROR: <input>:-1:0: max recursion depth exceeded"
    );
}

#[test]
fn types_do_not_double_without_end() {
    let doubled = |levels: usize| {
        let inner = (0..levels).rev().fold(format!("a{levels}"), |inner, i| {
            format!("[{{a{i}: a{i}}}].map(a{}, {inner})", i + 1)
        });
        format!("[1].map(a0, {inner})")
    };
    let compile = |levels| environment().compile(&doubled(levels)).map(drop);
    assert_eq!(compile(5), Ok(()));
    let told = compile(40).expect_err("is refused").to_string();
    assert_eq!(
        told,
        "ERROR: <input>:-1:0: the types of the expression are too large"
    );
    // The same where types are only found out afterwards.
    let unknown = (0..40).fold("x0 == x0".to_owned(), |inner, i| {
        let (this, next) = (format!("x{i}"), format!("x{}", i + 1));
        format!("[[]].all({next}, {next} == [{{{this}: {this}}}] && {inner})")
    });
    let _ = environment().compile(&unknown);
}

#[test]
fn lists_and_text_do_not_double_without_end() {
    let inner = (0..40).rev().fold("a40.size()".to_owned(), |inner, i| {
        format!("[a{i} + a{i}].map(a{}, {inner})", i + 1)
    });
    let text = "'abcdefghij'.replace('', 'abcdefghijabcdefghij')";
    let twice = |text: &str| format!("{text}.replace('a', {text})");
    for expression in [
        format!("[[1, 2]].map(a0, {inner})"),
        twice(&twice(&twice(text))),
        format!("lists.range(1000).map(x, {}).size()", twice(&twice(text))),
        "[lists.range(1000)].map(a, lists.range(1000).map(x, a)).map(b, \
         lists.range(1000).map(x, b)).flatten().flatten().flatten().size() > 0"
            .to_owned(),
        "[lists.range(2000).map(x, 'abc')].map(a, '%s'.format([lists.range(2000).map(x, a)])).size()"
            .to_owned(),
    ] {
        let evaluated = compiled(&expression).evaluate(&(), PER_CALL_LIMIT);
        let why = evaluated.outcome.expect_err(&expression).to_string();
        assert!(
            why == Error::OverBudget.to_string() || why.ends_with("the text is too long"),
            "{expression}: {why}"
        );
    }
}

#[test]
fn what_costs_more_than_is_left_is_not_done() {
    let started = std::time::Instant::now();
    for expression in [
        "lists.range(200000).distinct().size() > 0",
        "[lists.range(100000)].map(a, sets.equivalent(a, a.reverse()))",
        "[lists.range(100000)].map(a, a.sort())",
    ] {
        let evaluated = compiled(expression).evaluate(&(), PER_CALL_LIMIT);
        let why = evaluated.outcome.expect_err(expression);
        assert_eq!(why, Error::OverBudget, "{expression}");
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn patterns_made_while_an_expression_runs_take_only_so_much_room() {
    let program = compiled(
        "lists.range(1000).map(x, '\\\\pL{' + string(x % 100 + 100) + '}').all(p, !'1'.matches(p))",
    );
    let evaluated = program.evaluate(&(), PER_CALL_LIMIT);
    assert_eq!(evaluated.outcome.expect_err("ends"), Error::OverBudget);
    let few =
        compiled("lists.range(1000).all(x, !'1'.matches('\\\\pL{' + string(x % 2 + 50) + '}'))");
    let evaluated = few.evaluate(&(), PER_CALL_LIMIT);
    assert_eq!(
        evaluated.outcome.expect("each is made once").as_bool(),
        Some(true)
    );
    let many = ["''.matches('\\\\pL{190}')"; 2].join(" || ");
    assert!(environment().compile(&many).is_ok());
    let many: Vec<String> = (100..200)
        .map(|n| format!("''.matches('\\\\pL{{{n}}}')"))
        .collect();
    assert!(environment().compile(&many.join(" || ")).is_err());
}

#[test]
fn values_do_not_nest_without_end() {
    with_stack(nested_values);
}

fn nested_values() {
    let nest =
        |inner: &str, depth: usize| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    // Each variable holds the one before, 40 levels deeper.
    let chain = |length: usize| {
        let last = format!("dyn(a{length}) == dyn(a{length})");
        let expression = (1..=length).rev().fold(last, |inner, i| {
            format!(
                "cel.bind(a{i}, dyn({}), {inner})",
                nest(&format!("a{}", i - 1), 40)
            )
        });
        format!("cel.bind(a0, 1, {expression})")
    };
    let environment = environment().with_bindings();
    let run = |length| {
        let program = environment.compile(&chain(length)).expect("compiles");
        let outcome = program.evaluate(&(), PER_CALL_LIMIT).outcome;
        outcome.map(|value| value.as_bool())
    };
    assert_eq!(run(10), Ok(Some(true)));
    let why = run(20).expect_err("is too deep").to_string();
    assert_eq!(why, "values are nested deeper than 500");
    let optionals = (0..200).fold("1".to_owned(), |inner, _| format!("optional.of({inner})"));
    let program = environment.compile(&optionals).expect("compiles");
    assert!(program.evaluate(&(), PER_CALL_LIMIT).outcome.is_ok());
}

#[test]
fn what_is_not_a_number_can_be_sorted() {
    let list: Vec<String> = (0..100)
        .map(|i| match i % 3 {
            0 => "double('NaN')".to_owned(),
            _ => format!("{}.5", (i * 37) % 50),
        })
        .collect();
    let list = list.join(", ");
    let program = compiled(&format!(
        "[[{list}].sort()].all(l, l.size() == 100 && l.slice(0, 66).isSorted() && l[99] != l[99])"
    ));
    let evaluated = program.evaluate(&(), PER_CALL_LIMIT);
    assert_eq!(evaluated.outcome.expect("a value").as_bool(), Some(true));
}

/// Two lists of one schema.
struct Lists(Schema, [proto::Value; 2]);

impl Activation for Lists {
    fn get(&self, name: &str) -> Option<Outcome<'_>> {
        let which = usize::from(name == "oldSelf");
        Some(Value::typed(&self.1[which], &self.0))
    }
}

#[test]
fn long_sets_and_keyed_lists_compare_and_merge_in_time() {
    let started = std::time::Instant::now();
    let keyed = r#"{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"}}}}"#;
    let set = r#"{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}"#;
    for (schema, item) in [(keyed, r#"{"k":"name-N"}"#), (set, r#""name-N""#)] {
        let json = |text: &str| proto::codec::json::parse(text.as_bytes()).expect("JSON");
        let list = |numbers: &mut dyn Iterator<Item = usize>| {
            let items: Vec<String> = numbers.map(|n| item.replace('N', &n.to_string())).collect();
            json(&format!("[{}]", items.join(",")))
        };
        let schema = Schema::from_openapi(&json(schema), Root::Part).expect("a schema");
        let schema = schema.named("listType");
        let lists = [list(&mut (0..20_000)), list(&mut (0..20_000).rev())];
        let environment = environment()
            .with_schema("self", &schema)
            .with_variable("oldSelf", schema.ty().clone());
        let program = environment
            .compile(
                "self == oldSelf && size(self + oldSelf) == 20000 && self + oldSelf == oldSelf",
            )
            .expect("compiles");
        let lists = Lists(schema, lists);
        let evaluated = program.evaluate(&lists, PER_CALL_LIMIT);
        assert_eq!(
            evaluated.outcome.expect("a value").as_bool(),
            Some(true),
            "{item}"
        );
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
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
        let check = Check {
            service_account: Some(("ns".into(), "other".into())),
            resource: "pods".into(),
            ..Check::default()
        };
        match name {
            "authorizer" => Some(Ok(Value::authorizer(self))),
            "authorizer.requestResource" => Some(Ok(Value::resource_check(self, check))),
            _ => None,
        }
    }
}

#[test]
fn a_check_is_made_for_the_account_that_it_was_begun_for() {
    let environment = environment()
        .with_variable(
            "authorizer",
            Type::object("kubernetes.authorization.Authorizer"),
        )
        .with_variable(
            "authorizer.requestResource",
            Type::object("kubernetes.authorization.ResourceCheck"),
        );
    for (expression, account) in [
        ("authorizer.path('/a')", None),
        (
            "authorizer.serviceAccount('ns', 'sa').path('/a')",
            Some("sa"),
        ),
        (
            "authorizer.serviceAccount('ns', 'sa').group('').resource('pods').namespace('n').name('p')",
            Some("sa"),
        ),
        (
            "authorizer.requestResource.subresource('log')",
            Some("other"),
        ),
    ] {
        let program = environment.compile(&format!("{expression}.check('get').allowed()"));
        let memo = Memo {
            known: Vec::new(),
            asked: Mutex::default(),
        };
        let evaluated = program.expect("compiles").evaluate(&memo, PER_CALL_LIMIT);
        let Err(Error::Undecided(check)) = evaluated.outcome else {
            panic!("{expression}: nobody knows the answer");
        };
        let account = account.map(|name| ("ns".into(), name.into()));
        assert_eq!(check.service_account, account, "{expression}");
        assert_eq!(*memo.asked.lock().expect("nobody panics"), [*check]);
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
