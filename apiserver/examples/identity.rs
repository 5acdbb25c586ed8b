//! What it costs to find out who asks, and whether he may.
//!
//! `hack/bench identity [--record DIR]` runs it, and after it the test of fairness, which writes its own figures. One thread, no network: roles and bindings in memory,
//! tokens of service accounts and of other issuers with keys that are there. It fails if a check of
//! roles costs more than its budget.

use std::fmt::Write;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use apiserver::auth::User;
use apiserver::auth::jwt::jws::{Algorithm, Jws};
use apiserver::auth::jwt::keys;
use apiserver::auth::service_account::{Claims, Issuer};
use apiserver::auth::token::{Verified, cache::Cache};
use apiserver::authz::Attributes;
use apiserver::authz::rbac::{Binding, Index, Key, Rule, Subject};
use apiserver::config::tokens::{Signing, Tokens};
use component::metrics::Metrics;
use component::testing::Files;
use futures::FutureExt;

const ROLES: usize = 1000;
const BINDINGS: usize = 5000;
const NAMESPACES: usize = 100;
/// How long each thing is repeated, and how often; the quickest time counts, which nothing disturbed.
const RUN: Duration = Duration::from_millis(500);
const RUNS: usize = 5;
/// What a check of roles may cost, in nanoseconds.
const BUDGET: f64 = 2000.0;

fn main() -> anyhow::Result<()> {
    let mut figures = Figures::default();
    let worst = roles(&mut figures);
    tokens(&mut figures)?;
    figures.tell()?;
    anyhow::ensure!(
        worst <= BUDGET,
        "a check of roles costs {worst:.0} ns, and may cost {BUDGET} ns"
    );
    Ok(())
}

/// What was measured, as rows of a table.
#[derive(Default)]
struct Figures(String);

impl Figures {
    /// Measures how long one turn takes, in nanoseconds.
    fn measure(&mut self, what: &str, mut turn: impl FnMut(usize)) -> f64 {
        let mut run = || {
            let (start, mut turns) = (Instant::now(), 0);
            while start.elapsed() < RUN {
                (turns..turns + 100).for_each(&mut turn);
                turns += 100;
            }
            start.elapsed().as_secs_f64() * 1e9 / turns as f64
        };
        let nanos = (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min);
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "| {what} | {nanos:.0} ns | {:.0} |", 1e9 / nanos);
        nanos
    }

    /// Prints the table, and writes it down where the arguments ask for that.
    fn tell(&self) -> anyhow::Result<()> {
        let cores = std::thread::available_parallelism()?;
        let text = format!(
            "# Figures: who asks, and whether he may\n\n\
             Written by `hack/bench identity` on one core of a machine with {cores}: {ROLES} roles of ten rules, \
             {BINDINGS} bindings in {NAMESPACES} namespaces. A check of roles may cost {BUDGET} ns.\n\n\
             | what | once | in a second |\n|---|---:|---:|\n{}",
            self.0
        );
        print!("{text}");
        let mut args = std::env::args().skip(1);
        match (args.next().as_deref(), args.next()) {
            (None, _) => Ok(()),
            (Some("--record"), Some(dir)) => {
                std::fs::write(PathBuf::from(dir).join("identity.md"), text).context("--record")
            }
            _ => anyhow::bail!("the arguments are: [--record DIR]"),
        }
    }
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

/// Checks of roles; what the dearest costs, in nanoseconds.
fn roles(figures: &mut Figures) -> f64 {
    let (index, mut worst) = (index(), 0.0_f64);
    let mut check = |what: &str, user: &User, verb: &str, resource: &str| {
        let spaces: Vec<String> = (0..NAMESPACES).map(|i| format!("ns-{i}")).collect();
        let nanos = figures.measure(&format!("roles: {what}"), |i| {
            let namespace = spaces[i % NAMESPACES].as_str();
            let asked = Attributes {
                namespace,
                name: "name",
                ..Attributes::about(user, verb, "", "v1", resource)
            };
            let found = index.visit(user, namespace, &mut Vec::new(), |r| r.allows(&asked));
            black_box(found);
        });
        worst = worst.max(nanos);
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
    check(
        "a group bound 1,250 times, refused for the resource",
        &everywhere,
        "get",
        "secrets",
    );
    check("a stranger, refused", &user("nobody", &[]), "get", "pods");
    worst
}

fn tokens(figures: &mut Figures) -> anyhow::Result<()> {
    let files = Files::new();
    let pair = component::testing::Ca::new("ca").server(&["127.0.0.1"]);
    let key = files.write("key.pem", &pair.key);
    let config = Tokens {
        issuers: vec!["https://issuer.example".to_owned()],
        key_files: Vec::new(),
        signing: Signing::Key(key.clone()),
        audiences: vec!["api".to_owned()],
        lookup: true,
        max_expiration: Duration::ZERO,
        extend_expiration: false,
        extended: Duration::ZERO,
        jwks_uri: String::new(),
    };
    let issuer = Issuer::with_key(&config, &key)?;
    let claims = Claims {
        iss: issuer.issuer().to_owned(),
        aud: vec!["api".to_owned()],
        exp: 2000,
        ..Claims::default()
    };
    let signed =
        { issuer.sign(&claims).now_or_never() }.context("a key at hand waits for nobody")?;
    let token = signed.map_err(anyhow::Error::msg)?;
    let audiences = issuer.audiences().to_vec();
    figures.measure("a service account's token (ES256), verified", |_| {
        black_box(issuer.verify(&token, &audiences, 1000).is_ok());
    });
    let set = keys::read_set(issuer.key_set().to_string().as_bytes())?;
    let all = Algorithm::all();
    figures.measure("another issuer's token (ES256), verified", |_| {
        let Ok(jws) = Jws::parse(&token, &all) else {
            return;
        };
        black_box(
            set.iter()
                .any(|key| key.may_have_signed(&jws) && key.verifies(&jws)),
        );
    });
    let cache = Arc::new(Cache::new(&Metrics::new()));
    figures.measure("a token that is remembered", |_| {
        let look = || {
            std::future::ready(Ok(Verified {
                user: user("ann", &["dev"]),
                audiences: Vec::new(),
                warnings: Vec::new(),
                annotations: Vec::new(),
            }))
        };
        let known = cache.get(&token, look).now_or_never();
        black_box(known.is_some_and(|found| found.is_ok()));
    });
    Ok(())
}
