//! Expressions as upstream's API server compiles, estimates and evaluates them, and as we do.
//!
//! `hack/go/kubernetes/cel` asks upstream; its answers are kept beside the environments and the
//! expressions that they are answers to (`hack/cel --record`). What differs and is meant to is listed
//! in `upstream/known.txt`.

#[path = "upstream/environments.rs"]
mod environments;
#[path = "upstream/show.rs"]
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::Read;

use cel::{PER_CALL_LIMIT, Rejected};
use environments::Environments;
use proto::Value;

const ANSWERS: &[u8] = include_bytes!("upstream/answers.jsonl.gz");
const KNOWN: &str = include_str!("upstream/known.txt");

/// What there is to know of one expression.
type Answer = BTreeMap<&'static str, String>;

const FIELDS: &[&str] = &[
    "issues", "program", "type", "min", "max", "value", "error", "cost",
];

fn theirs(line: &Value) -> Answer {
    let mut answer = Answer::new();
    for field in FIELDS {
        let text = match line.get(*field) {
            Some(Value::String(text)) => text.to_string(),
            Some(Value::Int(i)) => i.to_string(),
            Some(Value::Float(f)) => format!("{f:.0}"),
            _ => continue,
        };
        answer.insert(field, text);
    }
    // Where there is no program, nobody asks for more.
    if answer.contains_key("program") {
        answer.retain(|field, _| *field == "program");
    }
    answer
}

fn ours(environments: &Environments, name: &str, expression: &str) -> Answer {
    let mut answer = Answer::new();
    let of = environments.get(name);
    let program = match of.environment.compile(expression) {
        Ok(program) => program,
        Err(Rejected::Issues(issues)) => {
            answer.insert("issues", issues.to_string());
            return answer;
        }
        Err(Rejected::Program(message)) => {
            answer.insert("program", message);
            return answer;
        }
    };
    answer.insert("type", program.result_type().to_string());
    insert_number(&mut answer, "min", program.estimate().min);
    insert_number(&mut answer, "max", program.estimate().max);
    let evaluated = program.evaluate(of, PER_CALL_LIMIT);
    insert_number(&mut answer, "cost", evaluated.cost);
    match evaluated.outcome {
        Ok(value) => answer.insert("value", show::show(&value)),
        Err(error) => answer.insert("error", error.to_string()),
    };
    answer
}

/// Zero is not written. Beyond what a signed number holds, JSON here has doubles.
fn insert_number(answer: &mut Answer, field: &'static str, number: u64) {
    #[allow(clippy::cast_precision_loss, reason = "as the other side is read")]
    match i64::try_from(number) {
        Ok(0) => {}
        Ok(number) => drop(answer.insert(field, number.to_string())),
        Err(_) => drop(answer.insert(field, format!("{:.0}", number as f64))),
    }
}

/// Of syntax errors the first counts: upstream goes on behind it in ways of its own.
fn first_issue(answer: &mut Answer) {
    if let Some(issues) = answer.get_mut("issues")
        && issues.contains("Syntax error")
        && let Some(second) = issues.find("\nERROR: ")
    {
        issues.truncate(second);
    }
}

/// How two answers differ; nothing if they do not.
fn difference(mut theirs: Answer, mut ours: Answer) -> String {
    first_issue(&mut theirs);
    first_issue(&mut ours);
    let mut out = String::new();
    for field in FIELDS {
        let (theirs, ours) = (theirs.get(field), ours.get(field));
        if theirs != ours {
            let _ = writeln!(
                out,
                "  {field}\n    upstream: {theirs:?}\n    ours:     {ours:?}"
            );
        }
    }
    out
}

#[test]
fn expressions_mean_and_cost_what_they_do_upstream() {
    let mut answers = String::new();
    flate2::read::GzDecoder::new(ANSWERS)
        .read_to_string(&mut answers)
        .expect("the answers are text");
    let environments = Environments::load();
    let known: BTreeSet<&str> = KNOWN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut met = BTreeSet::new();
    let (mut asked, mut differ) = (0, Vec::new());
    for line in answers.lines() {
        let line = proto::codec::json::parse(line.as_bytes()).expect("a line is an object");
        let text = |field| {
            line.get(field)
                .and_then(Value::as_str)
                .expect("is a string")
        };
        let (name, expression) = (text("env"), text("expr"));
        asked += 1;
        // Nobody relies on a panic; ours says something.
        if line.get("panics").is_some() {
            let _ = ours(&environments, name, expression);
            continue;
        }
        let difference = difference(theirs(&line), ours(&environments, name, expression));
        if difference.is_empty() {
            continue;
        }
        let title = format!("{name}: {}", expression.replace('\n', "⏎"));
        match known.get(title.as_str()) {
            Some(title) => drop(met.insert(*title)),
            None => differ.push(format!("{title}\n{difference}")),
        }
    }
    let gone: Vec<_> = known.difference(&met).collect();
    assert!(asked > 2_000, "only {asked} expressions were asked");
    assert!(gone.is_empty(), "do not differ any more: {gone:#?}");
    let shown: usize = std::env::var("CEL_SHOW").map_or(50, |n| n.parse().unwrap_or(50));
    let first = differ.iter().take(shown).map(String::as_str);
    assert!(
        differ.is_empty(),
        "{} of {asked} differ\n{}",
        differ.len(),
        first.collect::<String>()
    );
}
