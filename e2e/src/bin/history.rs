//! `navarch-history`: clients, faults and a checker around local clusters. `hack/history` wraps it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use e2e::cluster::{Daemon, Upstream};
use e2e::history::ledger::{CLEAN, Kind, Ledger, Line};
use e2e::history::plan::{self, Shape};
use e2e::history::proxy::{self, Lie};
use e2e::history::run::{self, Options, Report};
use e2e::init;
use e2e::progress::Progress;
use e2e::workshop::{self, Workshop};

fn main() -> ExitCode {
    let args = command().get_matches();
    let result = match args.get_one::<PathBuf>("check") {
        Some(dir) => check(dir),
        None => runs(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> clap::Command {
    let number = |name: &'static str, value: &'static str| {
        Arg::new(name)
            .long(name)
            .value_parser(value_parser!(u64).range(1..))
            .default_value(value)
    };
    clap::Command::new("navarch-history")
        .about("Records what clients of API servers are told while faults are injected, and checks it")
        .arg(number("runs", "1").help("How many, each with the next seed"))
        .arg(number("minutes", "3").help("How long load and faults of a run last"))
        .arg(
            number("seconds", "180")
                .conflicts_with("minutes")
                .help("The same for short runs"),
        )
        .arg(number("seed", "1").help("Of the first run; plans and what clients do follow from it"))
        .arg(
            Arg::new("etcd")
                .long("etcd")
                .value_parser(["1", "3"])
                .default_value("1")
                .help("Members of etcd"),
        )
        .arg(
            Arg::new("apiservers")
                .long("apiservers")
                .default_value("ours")
                .help("One word per API server: ours or upstream"),
        )
        .arg(
            Arg::new("faults")
                .long("faults")
                .default_value("all")
                .value_parser(plan::parse_kinds)
                .help("Names, or all, or none"),
        )
        .arg(
            Arg::new("resume")
                .long("resume")
                .action(ArgAction::SetTrue)
                .help("Leaves out runs that are recorded already"),
        )
        .arg(
            Arg::new("lies")
                .long("lies")
                .value_parser(proxy::parse_lies)
                .help("Names, or all: what a proxy before the API server does to answers; the run has to turn red, and is not recorded"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_parser(value_parser!(PathBuf))
                .default_value("target/history")
                .help("Holds the cluster and a directory per run"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Only judges what an earlier run recorded"),
        )
        .arg(workshop::profile("dev"))
}

fn check(dir: &Path) -> anyhow::Result<bool> {
    let report = run::judge(dir).map_err(|error| anyhow::Error::msg(init::chain(&error)))?;
    print!("{}", report.text());
    Ok(report.is_clean())
}

/// Which API servers are upstream's.
fn upstream(servers: &str) -> anyhow::Result<(usize, Upstream)> {
    let words: Vec<&str> = servers.split(',').collect();
    let mut upstream = Upstream::default();
    for (index, word) in words.iter().enumerate() {
        match *word {
            "ours" => {}
            "upstream" => upstream = upstream.and(Daemon::KubeApiserver, &run::host(index)),
            other => anyhow::bail!("an API server is ours or upstream, not {other}"),
        }
    }
    Ok((words.len(), upstream))
}

/// Whether all runs were clean.
fn runs(args: &ArgMatches) -> anyhow::Result<bool> {
    let number = |name: &str| *args.get_one::<u64>(name).expect("it has a default");
    let text = |name: &str| args.get_one::<String>(name).expect("it has a default");
    let servers = text("apiservers").clone();
    let (api_servers, upstream) = upstream(&servers)?;
    let explicit = args.value_source("seconds") == Some(clap::parser::ValueSource::CommandLine);
    let seconds = if explicit {
        number("seconds")
    } else {
        number("minutes") * 60
    };
    let faults = args
        .get_one::<Vec<plan::Kind>>("faults")
        .expect("it has a default")
        .clone();
    let lies = args
        .get_one::<Vec<Lie>>("lies")
        .cloned()
        .unwrap_or_default();
    let shape = Shape {
        etcd_members: text("etcd").parse()?,
        api_servers,
    };
    let kind = Kind {
        seconds,
        shape,
        servers,
        faults: faults.clone(),
    };
    let workshop = Workshop::new(text("profile"));
    build(&workshop, &upstream)?;
    let dir: &PathBuf = args.get_one("dir").expect("it has a default");
    let dir = std::path::absolute(dir)?;
    let launcher = std::env::current_exe()?.with_file_name("navarch-cluster");
    let (ledger, commit) = (Ledger::of(workshop.root()), commit(workshop.root()));
    let mut clean = true;
    for seed in number("seed")..number("seed") + number("runs") {
        if args.get_flag("resume") && ledger.knows(&kind, seed) {
            continue;
        }
        let options = Options {
            dir: dir.join(format!(
                "{}-{}x{}",
                seed, shape.etcd_members, shape.api_servers
            )),
            seed,
            length: Duration::from_secs(seconds),
            shape,
            upstream: upstream.clone(),
            faults: faults.clone(),
            lies: lies.clone(),
            launcher: launcher.clone(),
            progress: Progress::Screen,
        };
        let report = run::run(&workshop, &options)
            .map_err(|error| anyhow::anyhow!("seed {seed}: {}", init::chain(&error)))?;
        print!("{}", report.text());
        println!(
            "seed {seed}: {}; {}",
            verdict(&report),
            options.dir.display()
        );
        if lies.is_empty() {
            ledger
                .add(&kind, &line(seed, &report, &commit)?)
                .context("the run cannot be written down")?;
        }
        clean &= report.is_clean();
    }
    Ok(clean)
}

fn build(workshop: &Workshop, upstream: &Upstream) -> anyhow::Result<()> {
    let mut tools = vec![Daemon::Etcd.name(), "kubectl"];
    if upstream.runs_somewhere(Daemon::KubeApiserver) {
        tools.push(Daemon::KubeApiserver.name());
    }
    workshop.ensure_tools(&tools)?;
    // A cluster's specification names all daemons, started or not.
    workshop.ensure_daemons(e2e::cluster::OURS)?;
    Ok(())
}

fn verdict(report: &Report) -> String {
    let rules = report.verdict.by_rule();
    let broken: Vec<String> = rules
        .iter()
        .map(|(rule, count)| format!("{rule} {count}"))
        .collect();
    let mut words = broken;
    if !report.stuck.is_empty() {
        words.push("did not come back".to_owned());
    }
    if words.is_empty() {
        words.push(CLEAN.to_owned());
    }
    if !report.failed.is_empty() {
        words.push(format!("{} faults failed", report.failed.len()));
    }
    words.join(", ")
}

fn line(seed: u64, report: &Report, commit: &str) -> anyhow::Result<Line> {
    Ok(Line {
        when: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        seed,
        operations: report.history.operations.len(),
        changes: report.history.truth.changes.len(),
        unobserved: report.verdict.unobserved,
        verdict: verdict(report),
        commit: commit.to_owned(),
    })
}

/// What the programs were made from, as far as the clone can tell: its commit, and whether it differs from that.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(args).output();
        let text = output.ok().filter(|o| o.status.success())?.stdout;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":!e2e/history",
    ]);
    if changed.is_none_or(|files| files.is_empty()) {
        commit
    } else {
        format!("{commit}+")
    }
}
