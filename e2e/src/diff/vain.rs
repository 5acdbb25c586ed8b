//! Cases that do not ask what they seem to: upstream refused to make what they are about, or took it away too early, and what
//! comes after it is answered the same by every server that knows 404.

use std::collections::BTreeMap;

use super::case::{Case, Step};
use super::seen::Seen;

/// Writes to an object that may find it gone: what takes away what must not be left asks three times, twice in some cases.
const GONE: usize = 6;

/// What is wrong with a case, from upstream's answers to it.
pub fn vain(case: &Case, answers: &[Seen]) -> Option<String> {
    let succeeds = answers.iter().any(Seen::is_success);
    let problem = if case.refused && succeeds {
        "says that all of it is refused, and some is not".to_owned()
    } else if case.by_hand && !case.refused && !succeeds {
        "nothing of it succeeds; if that is meant, its title says [refused]".to_owned()
    } else {
        let (item, count) = gone(case, answers).into_iter().find(|(_, n)| *n > GONE)?;
        format!("{count} writes to {item}, which it made, find it gone")
    };
    Some(format!("{}: {problem}", case.name))
}

/// Writes that were told that there is no such object, by object, where one of its collection had been made before.
fn gone<'a>(case: &'a Case, answers: &[Seen]) -> BTreeMap<&'a str, usize> {
    let mut made: Vec<&str> = Vec::new();
    let mut gone = BTreeMap::new();
    for (step, seen) in case.steps.iter().zip(answers) {
        let path = path(step);
        match &*step.method {
            "POST" if seen.is_success() => made.push(path),
            "PUT" | "PATCH" | "DELETE" if seen.status == 404 => {
                let collection = path.rsplit_once('/').map_or(path, |(before, _)| before);
                if made.contains(&collection) {
                    *gone.entry(path).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    gone
}

fn path(step: &Step) -> &str {
    step.path.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(steps: &[(&str, &str)]) -> Case {
        Case {
            name: "file: case".to_owned(),
            steps: steps
                .iter()
                .map(|(method, path)| Step::new(method, *path, ""))
                .collect(),
            ..Case::default()
        }
    }

    fn answers(codes: &[u16]) -> Vec<Seen> {
        let seen = |status: &u16| Seen {
            status: *status,
            ..Seen::default()
        };
        codes.iter().map(seen).collect()
    }

    #[test]
    fn a_script_of_which_all_is_refused_has_to_say_so() {
        let mut case = case(&[("PATCH", "/a/b"), ("GET", "/a/b")]);
        case.by_hand = true;
        assert!(vain(&case, &answers(&[400, 404])).is_some());
        assert_eq!(vain(&case, &answers(&[201, 200])), None);
        case.refused = true;
        assert_eq!(vain(&case, &answers(&[400, 404])), None);
        assert!(vain(&case, &answers(&[201, 200])).is_some());
    }

    #[test]
    fn what_a_case_made_is_there_while_it_is_written_to() {
        let mut steps = vec![("POST", "/a?q=r")];
        steps.extend([("DELETE", "/a/b?x=y"); GONE + 2]);
        let case = case(&steps);
        let told = |made: u16, gone: usize| {
            let mut codes = vec![made];
            codes.extend(vec![200; GONE + 2 - gone]);
            codes.extend(vec![404; gone]);
            vain(&case, &answers(&codes)).is_some()
        };
        assert!(told(201, GONE + 1));
        assert!(!told(201, GONE));
        // What could not be made is another matter: upstream's golden objects are nonsense.
        assert!(!told(422, GONE + 1));
    }
}
