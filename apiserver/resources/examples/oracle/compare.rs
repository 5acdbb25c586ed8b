//! Runs the cases through our registry and says what differs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::serving::User;
use resources::Cx;
use resources::rehearsal::{Outcome, Rehearsal};
use resources::status::Failure;
use serde_json::Value;

use crate::cases::{Answers, Question, Said};

/// The program of upstream's side says the same.
const NAMESPACE: &str = "default";
const UID: &str = "5eed0000-0000-4000-8000-000000000001";
const NOW: &str = "2026-01-01T00:00:00Z";
const NOW_SECONDS: i64 = 1_767_225_600;
/// What stands there for names that are drawn by chance.
const DRAWN: &str = "00000000-0000-4000-8000-000000000000";

/// In which way two answers differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// Upstream's error that ours does not have, and the other way round.
    Missing,
    Extra,
    /// The same error in other words.
    Text,
    /// The same errors in another order.
    Order,
    /// The stored object.
    Object,
    WarningMissing,
    WarningExtra,
    /// Not refused for its fields but otherwise.
    Refusal,
    /// Ours panics.
    Panic,
}

impl Class {
    pub(crate) const ALL: [Self; 9] = [
        Self::Missing,
        Self::Extra,
        Self::Text,
        Self::Order,
        Self::Object,
        Self::WarningMissing,
        Self::WarningExtra,
        Self::Refusal,
        Self::Panic,
    ];

    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Text => "text",
            Self::Order => "order",
            Self::Object => "object",
            Self::WarningMissing => "warning-missing",
            Self::WarningExtra => "warning-extra",
            Self::Refusal => "refusal",
            Self::Panic => "panic",
        }
    }
}

pub(crate) struct Difference {
    pub class: Class,
    /// Where, without the indices and keys.
    pub pattern: String,
    /// The reason of an error.
    pub reason: String,
    pub upstream: String,
    pub ours: String,
}

/// The differences of each question.
pub(crate) fn run(answers: &Answers, questions: &[Question<'_>]) -> Vec<Vec<Difference>> {
    // A panic is a finding, not news for the terminal.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<Vec<Difference>> = Vec::new();
    all.resize_with(questions.len(), Vec::new);
    std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(question) = questions.get(i) else {
                    return done;
                };
                done.push((i, judge(answers, *question)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            for (i, found) in worker.join().expect("panics of cases are caught") {
                all[i] = found;
            }
        }
    });
    let _ = std::panic::take_hook();
    all
}

fn judge(answers: &Answers, question: Question<'_>) -> Vec<Difference> {
    let caught = std::panic::catch_unwind(|| rehearse(answers, question));
    let ours = match caught {
        Ok(ours) => ours,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            return vec![Difference {
                class: Class::Panic,
                pattern: String::new(),
                reason: String::new(),
                upstream: String::new(),
                ours: text.unwrap_or_default(),
            }];
        }
    };
    let mut found = Vec::new();
    let said = question.said;
    match (ours, &said.stored) {
        (Ok(ours), Some(stored)) => {
            objects(&answers.value(stored), &ours, &mut found);
            warnings(said, &ours.warnings, &mut found);
        }
        (Ok(_), None) => refusals(said, None, &mut found),
        (Err(ours), _) => refusals(said, Some(&ours), &mut found),
    }
    found
}

fn rehearse(answers: &Answers, question: Question<'_>) -> Result<Outcome, Failure> {
    let Question { pass, case, .. } = question;
    let rehearsal = Rehearsal::of(&case.group, &case.version, &case.resource)
        .ok_or_else(Failure::no_such_resource)?;
    let user = User {
        name: "oracle".into(),
        uid: "oracle-uid".into(),
        groups: vec!["system:masters".into(), "system:authenticated".into()],
        ..User::default()
    };
    let cx = Cx {
        user: &user,
        namespace: NAMESPACE,
        now: NOW,
        now_seconds: NOW_SECONDS,
        gates: pass.gates,
        allow_privileged: true,
        objections: &[],
        dry_run: false,
    };
    let object = answers.value(&case.object).to_string();
    match &case.old {
        None => rehearsal.create(&cx, UID, object.as_bytes()),
        Some(old) => {
            let old = answers.value(old).to_string();
            rehearsal.update(&cx, &case.subresource, object.as_bytes(), old.as_bytes())
        }
    }
}

/// A path without its indices and keys.
fn pattern(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' if !inside => {
                inside = true;
                out.push_str("[*]");
            }
            ']' => inside = false,
            _ if inside => {}
            c => out.push(c),
        }
    }
    out
}

fn refusals(said: &Said, ours: Option<&Failure>, found: &mut Vec<Difference>) {
    let none = Vec::new();
    let theirs = said.refused.as_ref().map_or(&none, |r| &r.causes);
    let mine: Vec<[String; 3]> = ours
        .filter(|o| o.reason() == "Invalid")
        .map(|o| {
            let causes = o.details().causes.iter();
            causes
                .map(|c| [c.field.clone(), c.reason.clone(), c.message.clone()])
                .collect()
        })
        .unwrap_or_default();
    let invalid = said.refused.as_ref().is_none_or(|r| r.reason == "Invalid");
    if !invalid || ours.is_some_and(|o| o.reason() != "Invalid") {
        let upstream = said.refused.as_ref();
        let upstream = upstream.map(|r| format!("{} {}: {}", r.code, r.reason, r.message));
        let (upstream, ours) = (upstream.unwrap_or_default(), ours.map(ToString::to_string));
        let ours = ours.unwrap_or_default();
        if upstream != ours {
            let reason = said.refused.as_ref().map_or("taken", |r| &r.reason).into();
            found.push(Difference {
                class: Class::Refusal,
                pattern: String::new(),
                reason,
                upstream,
                ours,
            });
        }
        return;
    }
    let before = found.len();
    causes(theirs, &mine, said.shuffled, found);
    if found.len() == before && !said.shuffled && *theirs != mine {
        found.push(Difference {
            class: Class::Order,
            pattern: pattern(&theirs[0][0]),
            reason: theirs[0][1].clone(),
            upstream: lines(theirs),
            ours: lines(&mine),
        });
    }
}

fn lines(causes: &[[String; 3]]) -> String {
    let lines = causes
        .iter()
        .map(|[field, _, text]| format!("{field}: {text}"));
    lines.collect::<Vec<_>>().join("\n             ")
}

/// Pairs equal errors, then those that differ in their text only. Where upstream goes through a map, what is
/// in it may also have another index.
fn causes(
    theirs: &[[String; 3]],
    mine: &[[String; 3]],
    shuffled: bool,
    found: &mut Vec<Difference>,
) {
    let mut rest: Vec<&[String; 3]> = mine.iter().collect();
    let mut open = Vec::new();
    let alike = |a: &[String; 3], b: &[String; 3]| {
        a == b || shuffled && a[1..] == b[1..] && pattern(&a[0]) == pattern(&b[0])
    };
    for cause in theirs {
        match rest.iter().position(|c| alike(c, cause)) {
            Some(i) => drop(rest.remove(i)),
            None => open.push(cause),
        }
    }
    for cause @ [field, reason, text] in open {
        let like = rest.iter().position(|c| c[..2] == cause[..2]);
        let (class, ours) = match like {
            Some(i) => (Class::Text, rest.remove(i)[2].clone()),
            None => (Class::Missing, String::new()),
        };
        found.push(Difference {
            class,
            pattern: pattern(field),
            reason: reason.clone(),
            upstream: format!("{field}: {text}"),
            ours,
        });
    }
    for [field, reason, text] in rest {
        found.push(Difference {
            class: Class::Extra,
            pattern: pattern(field),
            reason: reason.clone(),
            upstream: String::new(),
            ours: format!("{field}: {text}"),
        });
    }
}

fn warnings(said: &Said, mine: &[String], found: &mut Vec<Difference>) {
    let once = |texts: &[String]| {
        let mut seen: Vec<String> = Vec::new();
        for text in texts {
            if !seen.contains(text) {
                seen.push(text.clone());
            }
        }
        seen
    };
    let (theirs, mine) = (once(&said.warnings), once(mine));
    let mut say = |class, text: &String| {
        let head = text.split(": ").next().unwrap_or_default();
        let (upstream, ours) = match class {
            Class::WarningMissing => (text.clone(), String::new()),
            _ => (String::new(), text.clone()),
        };
        found.push(Difference {
            class,
            pattern: pattern(head),
            reason: "Warning".into(),
            upstream,
            ours,
        });
    };
    let missing = theirs.iter().filter(|t| !mine.contains(t));
    missing.for_each(|t| say(Class::WarningMissing, t));
    let extra = mine.iter().filter(|t| !theirs.contains(t));
    extra.for_each(|t| say(Class::WarningExtra, t));
}

fn objects(upstream: &Value, ours: &Outcome, found: &mut Vec<Difference>) {
    let mine: Value = serde_json::from_slice(&ours.json()).unwrap_or_default();
    differ(&mut String::new(), Some(upstream), Some(&mine), found);
}

fn differ(
    path: &mut String,
    theirs: Option<&Value>,
    mine: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    let length = path.len();
    // What is null is not there: upstream prints times so that are not set.
    let there = |v: &&Value| !v.is_null();
    match (theirs.filter(there), mine.filter(there)) {
        (Some(Value::Object(theirs)), Some(Value::Object(mine))) => {
            let keys: BTreeMap<&String, ()> =
                theirs.keys().chain(mine.keys()).map(|k| (k, ())).collect();
            // What an object is, or one in it, is not stored with it.
            let is_object = theirs.contains_key("metadata");
            let types = |key: &str| is_object && matches!(key, "apiVersion" | "kind");
            for key in keys.into_keys().filter(|key| !types(key)) {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                differ(path, theirs.get(key), mine.get(key), found);
                path.truncate(length);
            }
        }
        (Some(Value::Array(theirs)), Some(Value::Array(mine))) if theirs.len() == mine.len() => {
            for (i, (a, b)) in theirs.iter().zip(mine).enumerate() {
                let _ = write!(path, "[{i}]");
                differ(path, Some(a), Some(b), found);
                path.truncate(length);
            }
        }
        (a, b) if a == b => {}
        (Some(Value::String(a)), Some(Value::String(b))) if is_made(a, b) => {}
        (a, b) => {
            let show = |v: Option<&Value>| v.map_or_else(|| "-".to_owned(), Value::to_string);
            found.push(Difference {
                class: Class::Object,
                pattern: pattern(path),
                reason: String::new(),
                upstream: show(a),
                ours: show(b),
            });
        }
    }
}

/// Whether a text is what each server makes anew: the time of its clock, or a name by chance.
fn is_made(theirs: &str, mine: &str) -> bool {
    match theirs {
        DRAWN => uuid::Uuid::parse_str(mine).is_ok(),
        NOW => proto::time::unix_of(mine).is_some_and(|(at, _)| {
            let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = clock.map_or(0, |since| since.as_secs());
            now.abs_diff(u64::try_from(at).unwrap_or(0)) < 3600
        }),
        _ => false,
    }
}
