//! Options of lists and watches, in combination.

use serde_json::json;

use super::super::case::{Case, JSON, MERGE, Namespace, Step};

const MAPS: &str = "/api/v1/namespaces/${ns}/configmaps";

/// `resourceVersion`: none, any, what the first list told, one that a later write made, ones that cannot be.
const VERSIONS: &[&str] = &[
    "",
    "0",
    "${list.metadata.resourceVersion}",
    "${last.metadata.resourceVersion}",
    "999999999",
    "x",
    "-1",
];
const MATCHES: &[&str] = &["", "NotOlderThan", "Exact", "Other"];
const LIMITS: &[&str] = &["", "2", "0", "-1", "x"];
const CONTINUES: &[&str] = &["", "${page.metadata.continue}", "x"];
/// Of four objects: all, three, one, none by mistake.
const SELECTORS: &[&str] = &[
    "",
    "labelSelector=color%3Dred",
    "fieldSelector=metadata.name%3Dc",
];
const BAD_SELECTORS: &[&str] = &[
    "labelSelector=%21%21",
    "labelSelector=a%20in%20%28%29",
    "labelSelector=bad%20key%3Dx",
    "labelSelector=a%3Dbad%20value",
    "labelSelector=color%20notin%20%28red%2Cblue%29",
    "labelSelector=%21color",
    "labelSelector=color",
    "labelSelector=size%3E1",
    "labelSelector=size%3Ex",
    "labelSelector=color%3D%3Dred%2Csize%21%3D3",
    "fieldSelector=data.x%3D1",
    "fieldSelector=metadata.name",
    "fieldSelector=metadata.name%21%3Da",
    "fieldSelector=metadata.namespace%3Dother",
    "fieldSelector=metadata.name%3Da%2Cmetadata.name%3Db",
    "fieldSelector=%3D",
];
const INITIAL: &[&str] = &["", "true", "false", "x"];
const BOOKMARKS: &[&str] = &["", "true", "x"];
/// Requests of one case, which share what was made before. A watch lasts a second.
const LISTS_TOGETHER: usize = 60;
const WATCHES_TOGETHER: usize = 15;

pub(super) fn cases() -> Vec<Case> {
    let mut all = chunks("lists", "list options", &lists(), LISTS_TOGETHER);
    all.extend(chunks(
        "watches",
        "watch options",
        &watches(),
        WATCHES_TOGETHER,
    ));
    all.push(case("selectors", "selectors", selectors()));
    all.push(pages());
    all
}

/// Cases of so many requests each, after the objects that they ask for.
fn chunks(name: &str, area: &str, queries: &[String], together: usize) -> Vec<Case> {
    let chunk = |(index, queries): (usize, &[String])| {
        let get = |query: &String| Step::get(format!("{MAPS}?{query}"), about(query));
        case(
            &format!("{name} {}", index + 1),
            area,
            queries.iter().map(get).collect(),
        )
    };
    queries.chunks(together).enumerate().map(chunk).collect()
}

/// A query without the names of answers, which say nothing to people.
fn about(query: &str) -> String {
    query
        .replace("${list.metadata.resourceVersion}", "<of the list>")
        .replace("${last.metadata.resourceVersion}", "<latest>")
        .replace("${page.metadata.continue}", "<next page>")
}

fn case(name: &str, area: &str, requests: Vec<Step>) -> Case {
    let mut steps = Vec::new();
    for (index, (name, color)) in [("a", "red"), ("b", "blue"), ("c", "red"), ("d", "red")]
        .into_iter()
        .enumerate()
    {
        let labels = json!({"color": color, "size": index.to_string()});
        let map = json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}});
        steps.push(Step::new("POST", MAPS, "create").body(JSON, &map));
    }
    steps.push(Step::get(MAPS, "list").label("list"));
    steps.push(Step::get(format!("{MAPS}?limit=2"), "first page").label("page"));
    let change = json!({"data": {"k": "changed"}});
    steps.push(Step::new("PATCH", format!("{MAPS}/b"), "change").body(MERGE, &change));
    steps.push(Step::new("DELETE", format!("{MAPS}/d"), "delete"));
    let last = json!({"data": {"k": "last"}});
    steps.push(
        Step::new("PATCH", format!("{MAPS}/c"), "change")
            .body(MERGE, &last)
            .label("last"),
    );
    steps.extend(requests);
    Case {
        name: name.to_owned(),
        area: area.to_owned(),
        namespace: Namespace::Own,
        steps,
        ..Case::default()
    }
}

/// The parameters that are given, as a query.
fn query(parts: &[(&str, &str)]) -> String {
    let given = parts.iter().filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = given
        .map(|(name, value)| {
            if name.is_empty() {
                (*value).to_owned()
            } else {
                format!("{name}={value}")
            }
        })
        .collect();
    parts.join("&")
}

fn lists() -> Vec<String> {
    let mut all = Vec::new();
    for version in VERSIONS {
        for matching in MATCHES {
            for limit in LIMITS {
                for more in CONTINUES {
                    for selector in SELECTORS {
                        // What is wrong in one way is wrong alike in others.
                        let odd = |value: &str| matches!(value, "x" | "-1" | "Other" | "999999999");
                        let oddities = [*version, *matching, *limit, *more]
                            .into_iter()
                            .filter(|of| odd(of))
                            .count();
                        if oddities > 1 || (oddities == 1 && !selector.is_empty()) {
                            continue;
                        }
                        all.push(query(&[
                            ("resourceVersion", version),
                            ("resourceVersionMatch", matching),
                            ("limit", limit),
                            ("continue", more),
                            ("", selector),
                        ]));
                    }
                }
            }
        }
    }
    for initial in INITIAL {
        for matching in MATCHES {
            all.push(query(&[
                ("sendInitialEvents", initial),
                ("resourceVersionMatch", matching),
            ]));
        }
    }
    all
}

/// Each ends after a second.
fn watches() -> Vec<String> {
    let mut all = Vec::new();
    for version in VERSIONS {
        for matching in MATCHES {
            for initial in INITIAL {
                for bookmarks in BOOKMARKS {
                    let odd = |value: &str| matches!(value, "x" | "-1" | "Other" | "999999999");
                    let parts = [*version, *matching, *initial, *bookmarks];
                    let oddities = parts.into_iter().filter(|of| odd(of)).count();
                    // How long upstream waits for a version is about as long as the watch is.
                    let late = *version == "999999999" && *initial == "true";
                    if oddities > 1 || late {
                        continue;
                    }
                    let selector = match bookmarks.len() + initial.len() {
                        8 => SELECTORS[1],
                        _ => "",
                    };
                    all.push(query(&[
                        ("watch", "true"),
                        ("timeoutSeconds", "1"),
                        ("resourceVersion", version),
                        ("resourceVersionMatch", matching),
                        ("sendInitialEvents", initial),
                        ("allowWatchBookmarks", bookmarks),
                        ("", selector),
                    ]));
                }
            }
        }
    }
    for odd in [
        "watch=1&timeoutSeconds=x",
        "watch=x",
        "watch=0",
        "watch=true&timeoutSeconds=1&limit=1",
        "watch=true&timeoutSeconds=1&continue=x",
    ] {
        all.push(odd.to_owned());
    }
    all
}

fn selectors() -> Vec<Step> {
    let both = SELECTORS
        .iter()
        .chain(BAD_SELECTORS)
        .filter(|of| !of.is_empty());
    both.flat_map(|selector| {
        let watch = format!("{MAPS}?watch=true&timeoutSeconds=1&resourceVersion=${{list.metadata.resourceVersion}}&{selector}");
        let collection = format!("{MAPS}?dryRun=All&{selector}");
        [
            Step::get(format!("{MAPS}?{selector}"), format!("list {selector}")),
            Step::get(watch, format!("watch {selector}")),
            Step::new("DELETE", collection, format!("delete {selector}")).cleanup(),
        ]
    })
    .collect()
}

/// Pages to the end, while objects come and go.
fn pages() -> Case {
    let next = |of: &str| format!("{MAPS}?limit=1&continue=${{{of}.metadata.continue}}");
    let map = |name: &str| json!({"metadata": {"name": name}});
    let steps = vec![
        Step::get(format!("{MAPS}?limit=1"), "page 1").label("one"),
        Step::new("POST", MAPS, "create before").body(JSON, &map("aa")),
        Step::get(next("one"), "page 2").label("two"),
        Step::new("DELETE", format!("{MAPS}/c"), "delete after"),
        Step::get(next("two"), "page 3").label("three"),
        Step::get(next("two"), "page 3 again"),
        Step::get(
            format!("{MAPS}?limit=1&continue=${{one.metadata.continue}}&resourceVersion=0"),
            "continue with a version",
        ),
        Step::get(
            format!("{MAPS}?limit=1&continue=${{one.metadata.continue}}&labelSelector=color%3Dred"),
            "continue with a selector",
        ),
        Step::get(format!("{MAPS}?limit=500"), "more than there are"),
    ];
    case("pages", "list options", steps)
}
