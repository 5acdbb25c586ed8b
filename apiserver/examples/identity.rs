//! What it costs to find out who asks, and whether he may.
//!
//! `cargo run --profile fast -p navarch-apiserver --example identity`. One thread, no network: roles
//! and bindings in memory, tokens of service accounts and of other issuers with keys that are there.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::auth::User;
use apiserver::auth::jwt::jws::{Algorithm, Jws};
use apiserver::auth::jwt::keys;
use apiserver::auth::service_account::{Claims, Issuer};
use apiserver::auth::token::{Verified, cache::Cache};
use apiserver::authz::Attributes;
use apiserver::authz::rbac::{Binding, Index, Key, Rule, Subject};
use apiserver::config::Tokens;
use component::metrics::Metrics;
use component::testing::Files;
use futures::FutureExt;

const ROLES: usize = 1000;
const BINDINGS: usize = 5000;
const NAMESPACES: usize = 100;
/// How long each thing is repeated.
const RUN: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    roles();
    tokens()
}

/// Prints how long one turn takes.
fn measure(what: &str, mut turn: impl FnMut(usize)) {
    (0..100).for_each(&mut turn);
    let start = Instant::now();
    let mut turns = 0;
    while start.elapsed() < RUN {
        (turns..turns + 100).for_each(&mut turn);
        turns += 100;
    }
    let nanos = start.elapsed().as_secs_f64() * 1e9 / turns as f64;
    println!("{what:<58} {nanos:>10.0} ns {:>12.0} /s", 1e9 / nanos);
}

fn texts(of: &[&str]) -> Vec<Box<str>> {
    of.iter().map(|t| (*t).into()).collect()
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Rule {
    Rule {
        verbs: texts(verbs),
        groups: texts(groups),
        resources: texts(resources),
        ..Rule::default()
    }
}

/// A role as clusters have them: ten rules, of which one says something about pods.
fn rules(of: usize) -> Arc<[Rule]> {
    let mut all: Vec<Rule> = (0..9)
        .map(|i| {
            let resource = format!("widgets{}", (of + i) % 50);
            rule(&["get", "list", "watch"], &["example.com"], &[&resource])
        })
        .collect();
    all.push(rule(
        &["get", "list", "watch"],
        &[""],
        &["pods", "pods/log", "configmaps"],
    ));
    all.into()
}

/// 1,000 roles and 5,000 bindings in 100 namespaces; every tenth holds everywhere. Some are of users,
/// some of groups, some of service accounts; one group is bound in all namespaces many times.
fn index() -> Index {
    let mut index = Index::default();
    let role = |i: usize| -> Key { ("".into(), format!("role-{}", i % ROLES).into()) };
    for i in 0..ROLES {
        index.put_role(role(i), rules(i));
    }
    for i in 0..BINDINGS {
        let namespace = if i % 10 == 0 {
            String::new()
        } else {
            format!("ns-{}", i % NAMESPACES)
        };
        let subject = match i % 4 {
            0 => Subject::User(format!("user-{}", i % 500).into()),
            1 => Subject::Group(format!("group-{}", i % 50).into()),
            2 => Subject::ServiceAccount(format!("ns-{}:account-{}", i % NAMESPACES, i % 7).into()),
            _ => Subject::Group("everywhere".into()),
        };
        let binding = Binding {
            role: role(i * 7),
            subjects: vec![subject],
        };
        index.put_binding((namespace.into(), format!("binding-{i}").into()), binding);
    }
    index
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        ..User::default()
    }
    .authenticated()
}

fn roles() {
    let index = index();
    println!("{ROLES} roles, {BINDINGS} bindings");
    let check = |what: &str, user: &User, verb: &str, resource: &str| {
        let spaces: Vec<String> = (0..NAMESPACES).map(|i| format!("ns-{i}")).collect();
        measure(what, |i| {
            let namespace = spaces[i % NAMESPACES].as_str();
            let asked = Attributes {
                namespace,
                name: "name",
                ..Attributes::about(user, verb, "", "v1", resource)
            };
            let found = index.visit(user, namespace, &mut Vec::new(), |r| r.allows(&asked));
            black_box(found);
        });
    };
    let groups = ["group-1", "group-21"];
    check(
        "a user with two groups, allowed",
        &user("user-4", &groups),
        "get",
        "pods",
    );
    check(
        "a user with two groups, refused",
        &user("user-4", &groups),
        "delete",
        "secrets",
    );
    let account = user(
        "system:serviceaccount:ns-2:account-2",
        &["system:serviceaccounts"],
    );
    check("a service account, allowed", &account, "get", "pods");
    let everywhere = user("somebody", &["everywhere"]);
    check(
        "a group bound 1,250 times, allowed",
        &everywhere,
        "get",
        "pods",
    );
    check(
        "a group bound 1,250 times, refused",
        &everywhere,
        "delete",
        "secrets",
    );
    check("a stranger, refused", &user("nobody", &[]), "get", "pods");
}

fn tokens() -> anyhow::Result<()> {
    let files = Files::new();
    let pair = component::testing::Ca::new("ca").server(&["127.0.0.1"]);
    let issuer = Issuer::new(&Tokens {
        issuers: vec!["https://issuer.example".to_owned()],
        key_files: Vec::new(),
        signing_key_file: Some(files.write("key.pem", &pair.key)),
        audiences: vec!["api".to_owned()],
        lookup: true,
        max_expiration: Duration::ZERO,
        extend_expiration: false,
        jwks_uri: String::new(),
    })?;
    let claims = Claims {
        iss: issuer.issuer().to_owned(),
        aud: vec!["api".to_owned()],
        exp: 2000,
        ..Claims::default()
    };
    let token = issuer.sign(&claims).map_err(anyhow::Error::msg)?;
    let audiences = issuer.audiences().to_vec();
    measure("a service account's token (ES256), verified", |_| {
        black_box(issuer.verify(&token, &audiences, 1000).is_ok());
    });
    let set = keys::read_set(issuer.key_set().to_string().as_bytes())?;
    let all = Algorithm::all();
    measure("another issuer's token (ES256), verified", |_| {
        let Ok(jws) = Jws::parse(&token, &all) else {
            return;
        };
        black_box(
            set.iter()
                .any(|key| key.may_have_signed(&jws) && key.verifies(&jws)),
        );
    });
    let cache = Arc::new(Cache::new(&Metrics::new()));
    measure("a token that is remembered", |_| {
        let look = || {
            std::future::ready(Ok(Verified {
                user: user("ann", &["dev"]),
                audiences: Vec::new(),
                warnings: Vec::new(),
            }))
        };
        let known = cache.get(&token, look).now_or_never();
        black_box(known.is_some_and(|found| found.is_ok()));
    });
    Ok(())
}
