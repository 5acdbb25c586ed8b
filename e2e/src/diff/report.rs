//! Differences in groups, so that a person can work down the list: by area, place and kind, with counts and one example each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::compare::Found;
use super::known::Known;

/// A place that differs in the same way in so many areas is one group.
const EVERYWHERE: usize = 4;

/// Differences of one kind at one place.
#[derive(Debug)]
pub struct Group<'a> {
    /// Or `*`.
    pub area: String,
    pub place: String,
    pub kind: &'a str,
    pub areas: BTreeSet<&'a str>,
    /// Requests that show it.
    pub requests: usize,
    /// The shortest first.
    pub found: Vec<&'a Found>,
}

impl Group<'_> {
    pub fn name(&self) -> String {
        format!("{}: {}: {}", self.area, self.place, self.kind)
    }
}

/// The largest groups first.
pub fn groups(found: &[Found]) -> Vec<Group<'_>> {
    let mut places: BTreeMap<(String, &str), BTreeMap<&str, Vec<&Found>>> = BTreeMap::new();
    for one in found {
        let areas = places.entry((place(one), &one.kind)).or_default();
        areas.entry(&one.area).or_default().push(one);
    }
    let mut all = Vec::new();
    for ((place, kind), areas) in places {
        if areas.len() >= EVERYWHERE {
            let names = areas.keys().copied().collect::<BTreeSet<&str>>();
            let found = areas.into_values().flatten().collect();
            all.push(group("*", place, kind, names, found));
            continue;
        }
        let single = areas.into_iter();
        all.extend(
            single.map(|(area, found)| group(area, place.clone(), kind, [area].into(), found)),
        );
    }
    all.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.name().cmp(&b.name())));
    all
}

fn group<'a>(
    area: &str,
    place: String,
    kind: &'a str,
    areas: BTreeSet<&'a str>,
    mut found: Vec<&'a Found>,
) -> Group<'a> {
    found.sort_by_key(|one| {
        (
            one.about.len() + one.ours.len() + one.theirs.len(),
            &one.case,
        )
    });
    let requests: BTreeSet<(&str, usize)> =
        found.iter().map(|one| (&*one.case, one.step)).collect();
    Group {
        area: area.to_owned(),
        place,
        kind,
        areas,
        requests: requests.len(),
        found,
    }
}

/// Where a difference is: pods' specifications are one place, whatever they stand in.
fn place(found: &Found) -> String {
    let (dot, path) = match found.place.strip_prefix('.') {
        Some(path) => (".", path),
        None => ("", &*found.place),
    };
    let mut roots = vec![
        "spec.jobTemplate.spec.template.spec.",
        "spec.template.spec.",
        "template.spec.",
    ];
    if found.area.ends_with(" Pod") {
        roots.push("spec.");
    }
    let inner = roots.iter().find_map(|root| path.strip_prefix(root));
    inner.map_or_else(
        || found.place.clone(),
        |inner| format!("{dot}<pod spec>.{inner}"),
    )
}

/// What exceptions are held against.
pub fn what(found: &Found) -> String {
    format!(
        "{}: {}: {}: {} | {}",
        found.place, found.kind, found.about, found.ours, found.theirs
    )
}

/// What is left when the exceptions are taken away; and the exceptions that explain nothing, if `whole`.
pub fn judge(found: Vec<Found>, known: &Known<'_>, whole: bool) -> (Vec<Found>, Vec<String>) {
    let told: Vec<(String, String)> = found
        .iter()
        .map(|one| (one.area.clone(), what(one)))
        .collect();
    let pairs = told.iter().map(|(area, what)| (&**area, &**what));
    let gone = if whole {
        known.gone(pairs).collect()
    } else {
        Vec::new()
    };
    let new = found.into_iter().zip(&told);
    let new = new.filter(|(_, (area, what))| known.explains(area, what).is_none());
    (new.map(|(one, _)| one).collect(), gone)
}

fn heading(out: &mut String, index: usize, group: &Group<'_>) {
    let (number, requests, name) = (index + 1, group.requests, group.name());
    let _ = writeln!(out, "{number:>4}. {requests:>6}  {name}");
}

/// The first groups with counts and an example each.
pub fn table(groups: &[Group<'_>], limit: usize) -> String {
    let mut out = String::new();
    for (index, group) in groups.iter().take(limit).enumerate() {
        heading(&mut out, index, group);
        if group.areas.len() > 1 {
            let names: Vec<&str> = group.areas.iter().copied().take(6).collect();
            let _ = writeln!(
                out,
                "              in {} areas: {}",
                group.areas.len(),
                names.join(", ")
            );
        }
        if let Some(found) = group.found.first() {
            let _ = write!(out, "{}", example(found, 160));
        }
    }
    if groups.len() > limit {
        let rest: usize = groups[limit..].iter().map(|group| group.requests).sum();
        let _ = writeln!(
            out,
            "      and {rest} in {} more groups",
            groups.len() - limit
        );
    }
    out
}

fn example(found: &Found, width: usize) -> String {
    let cut = |text: &str| {
        text.replace('\n', " / ")
            .chars()
            .take(width)
            .collect::<String>()
    };
    format!(
        "              {} [{}] {}\n                ours:  {}\n                theirs: {}\n",
        cut(&found.case),
        found.step,
        cut(&found.about),
        cut(&found.ours),
        cut(&found.theirs)
    )
}

/// All of the groups that this names: by number, or by a part of the name.
pub fn show(groups: &[Group<'_>], wanted: &str, limit: usize) -> String {
    let by_number = wanted.parse::<usize>().ok();
    let named = |(index, group): &(usize, &Group<'_>)| match by_number {
        Some(number) => index + 1 == number,
        None => group.name().contains(wanted) || group.areas.contains(wanted),
    };
    let mut out = String::new();
    for (index, group) in groups.iter().enumerate().filter(named) {
        heading(&mut out, index, group);
        for found in group.found.iter().take(limit) {
            let _ = write!(out, "{}", example(found, 2000));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(area: &str, place: &str, about: &str) -> Found {
        Found {
            area: area.to_owned(),
            place: place.to_owned(),
            kind: "value".to_owned(),
            case: "case".to_owned(),
            step: 1,
            about: about.to_owned(),
            ours: "1".to_owned(),
            theirs: "2".to_owned(),
        }
    }

    #[test]
    fn what_differs_everywhere_is_one_group() {
        let mut all: Vec<Found> = ["a", "b", "c", "d"]
            .map(|area| found(area, ".x", "long"))
            .into();
        all.push(found("a", ".y", "b"));
        all.push(found("a", ".x", "c"));
        let groups = groups(&all);
        let names: Vec<String> = groups.iter().map(Group::name).collect();
        assert_eq!(names, ["*: .x: value", "a: .y: value"]);
        assert_eq!(
            (groups[0].found.len(), &*groups[0].found[0].about),
            (5, "c")
        );
        assert!(show(&groups, "2", 9).contains("a: .y"));
        assert!(show(&groups, "*: .x", 9).contains("long"));
    }

    #[test]
    fn exceptions_are_taken_away_and_idle_ones_told() {
        let known = Known::parse("a\t.x: value\tKEP\nb\t.z\tKEP\n").unwrap();
        let all = vec![found("a", ".x", ""), found("b", ".x", "")];
        let (left, gone) = judge(all, &known, true);
        assert_eq!((left.len(), &*left[0].area), (1, "b"));
        assert_eq!(gone, ["no longer different: b: .z"]);
    }
}
