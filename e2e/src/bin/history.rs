//! `navarch-history`: clients, faults and a checker around local clusters. `hack/history` wraps it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::cluster::{Daemon, Upstream};
use e2e::history::plan::{self, Shape};
use e2e::history::proxy::{self, Lie};
use e2e::history::run::{self, Options, Report};
use e2e::init;
use e2e::progress::Progress;
use e2e::workshop::{self, Workshop};

/// Below the clone: a line per run.
const RUNS: &str = "e2e/history/runs.tsv";
const HEAD: &str =
    "when\tseed\tseconds\tetcd\tapiservers\tfaults\toperations\tchanges\tunobserved\tverdict\n";

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

fn command() -> Command {
    let number = |name: &'static str, value: &'static str| {
        Arg::new(name)
            .long(name)
            .value_parser(value_parser!(u64).range(1..))
            .default_value(value)
    };
    Command::new("navarch-history")
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

/// What all runs share, as it is written into their lines.
struct Kind {
    seconds: u64,
    shape: Shape,
    servers: String,
    faults: String,
}

impl Kind {
    /// What tells this run's line from those of others, the time apart.
    fn key(&self, seed: u64) -> String {
        let Self {
            seconds,
            shape,
            servers,
            faults,
        } = self;
        let members = shape.etcd_members;
        format!("{seed}\t{seconds}\t{members}\t{servers}\t{faults}")
    }
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
        faults: names(&faults),
    };
    let workshop = Workshop::new(text("profile"));
    build(&workshop, &upstream)?;
    let dir: &PathBuf = args.get_one("dir").expect("it has a default");
    let dir = std::path::absolute(dir)?;
    let launcher = std::env::current_exe()?.with_file_name("navarch-cluster");
    let known = fs::read_to_string(workshop.root().join(RUNS)).unwrap_or_default();
    let mut clean = true;
    for seed in number("seed")..number("seed") + number("runs") {
        let wanted = format!("{}\t", kind.key(seed));
        let is_it = |line: &str| {
            line.split_once('\t')
                .is_some_and(|(_, rest)| rest.starts_with(&wanted))
        };
        if args.get_flag("resume") && known.lines().any(is_it) {
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
            record(workshop.root(), &kind, seed, &report)?;
        }
        clean &= report.is_clean();
    }
    Ok(clean)
}

fn names(faults: &[plan::Kind]) -> String {
    if plan::parse_kinds("all").is_ok_and(|all| all == faults) {
        return "all".to_owned();
    }
    let names: Vec<String> = faults.iter().map(plan::Kind::to_string).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    }
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
        words.push("clean".to_owned());
    }
    if !report.failed.is_empty() {
        words.push(format!("{} faults failed", report.failed.len()));
    }
    words.join(", ")
}

fn record(root: &Path, kind: &Kind, seed: u64, report: &Report) -> anyhow::Result<()> {
    let path = root.join(RUNS);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|_| HEAD.to_owned());
    let when = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    text.push_str(&format!(
        "{when}\t{}\t{}\t{}\t{}\t{}\n",
        kind.key(seed),
        report.history.operations.len(),
        report.history.truth.changes.len(),
        report.verdict.unobserved,
        verdict(report)
    ));
    let beside = path.with_extension("part");
    let mut file = fs::File::create(&beside).with_context(|| beside.display().to_string())?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, &path).with_context(|| path.display().to_string())
}
