use futures::FutureExt;
use http::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn somebody(name: &str) -> User {
    User {
        name: name.to_owned(),
        ..User::default()
    }
}

/// `verb resource/subresource namespace/name` of a question.
fn text(asked: &Attributes<'_>) -> String {
    let (group, resource, sub) = (asked.group, asked.resource, asked.subresource);
    let at = format!("{}/{}", asked.namespace, asked.name);
    format!("{} {group}:{resource}/{sub} {at}", asked.verb)
}

/// Tries to list pods as somebody else, where some questions are answered with yes.
fn try_as(wanted: &User, requestor: &User, yes: &[&str]) -> Result<User, Failure> {
    let asked = Attributes::about(requestor, "list", "", "v1", "pods");
    let decide: &Decide<'_> = &|asked| {
        let decision = if yes.contains(&text(asked).as_str()) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        };
        Box::pin(std::future::ready(decision))
    };
    let decided = impersonated(wanted, &asked, true, decide).now_or_never();
    let decided = decided.expect("nothing is waited for");
    decided.map(|(user, _)| user)
}

#[test]
fn headers_say_who_is_wanted_and_are_gone_afterwards() {
    let mut given = headers(&[
        ("accept", "x"),
        ("impersonate-user", "bob"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-uid", "u"),
        ("impersonate-extra-acme.com%2fproject", "p"),
    ]);
    let user = wanted(&mut given).unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("bob", "u"));
    assert_eq!(user.groups, ["a", "b"]);
    assert_eq!(user.extra["acme.com/project"], ["p"]);
    assert_eq!(given.len(), 1);
    assert_eq!(wanted(&mut given).unwrap(), None);
    let none = "[]string(nil)";
    let nothing = "map[string][]string(nil)";
    for (alone, uid, groups, extra) in [
        ("impersonate-group", "", "[]string{\"x\"}", nothing),
        ("impersonate-uid", "x", none, nothing),
        (
            "impersonate-extra-a",
            "",
            none,
            "map[string][]string{\"a\":[]string{\"x\"}}",
        ),
    ] {
        let failure = wanted(&mut headers(&[(alone, "x")])).unwrap_err();
        assert_eq!(failure.code(), 400, "{alone}");
        let who = format!(
            "&user.DefaultInfo{{Name:\"\", UID:\"{uid}\", Groups:{groups}, Extra:{extra}}}"
        );
        assert_eq!(
            failure.message(),
            format!("requested {who} without impersonating a user name")
        );
    }
}

#[test]
fn the_old_way_asks_for_each_part_and_adds_the_group_of_all() {
    let admin = somebody("admin");
    let bob = User {
        groups: vec!["dev".to_owned()],
        extra: BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]),
        ..somebody("bob")
    };
    let all = [
        "impersonate :users/ /bob",
        "impersonate :groups/ /dev",
        "impersonate authentication.k8s.io:userextras/k /v",
    ];
    let user = try_as(&bob, &admin, &all).unwrap();
    assert_eq!(user.groups, ["dev", "system:authenticated"]);
    for missing in 0..all.len() {
        let mut some = all.to_vec();
        some.remove(missing);
        assert_eq!(try_as(&bob, &admin, &some).unwrap_err().code(), 403);
    }
    let nobody = somebody(User::ANONYMOUS);
    let yes = ["impersonate :users/ /system:anonymous"];
    let user = try_as(&nobody, &admin, &yes).unwrap();
    assert_eq!(user.groups, [User::UNAUTHENTICATED]);
    let account = somebody("system:serviceaccount:ns:a");
    let yes = ["impersonate :serviceaccounts/ ns/a"];
    let user = try_as(&account, &admin, &yes).unwrap();
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:ns",
        "system:authenticated",
    ];
    assert_eq!(user.groups, groups);
}

#[test]
fn the_constrained_ways_allow_a_verb_as_a_kind_of_user() {
    let agent = User {
        extra: BTreeMap::from([(NODE_NAME.to_owned(), vec!["n1".to_owned()])]),
        ..somebody("system:serviceaccount:ns:agent")
    };
    let node = somebody("system:node:n1");
    let yes = [
        "impersonate-on:associated-node:list :pods/ /",
        "impersonate:associated-node authentication.k8s.io:nodes/ /*",
    ];
    let user = try_as(&node, &agent, &yes).unwrap();
    assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    // Another node is none of its business.
    assert!(try_as(&somebody("system:node:n2"), &agent, &yes).is_err());
    let on = "impersonate-on:user-info:list :pods/ /";
    let yes = [
        on,
        "impersonate:user-info authentication.k8s.io:users/ /bob",
    ];
    assert_eq!(try_as(&somebody("bob"), &agent, &yes).unwrap().name, "bob");
    assert!(try_as(&somebody("bob"), &agent, &yes[..1]).is_err());
    assert!(try_as(&somebody("bob"), &agent, &yes[1..]).is_err());
    // Nobody becomes a master this way.
    let master = User {
        groups: vec![User::MASTERS.to_owned()],
        ..somebody("bob")
    };
    let group = "impersonate:user-info authentication.k8s.io:groups/ /system:masters";
    assert!(try_as(&master, &agent, &[on, yes[1], group]).is_err());
}
