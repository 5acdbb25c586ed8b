//! `navarch-diff`: upstream's API server and ours, asked the same. `hack/diff` wraps it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::cluster::{self, Cluster, Daemon, OURS};
use e2e::diff::case::Case;
use e2e::diff::compare::Found;
use e2e::diff::corpus::{self, Source};
use e2e::diff::known::Known;
use e2e::diff::record::{self, Recorded};
use e2e::diff::report;
use e2e::diff::run::{self, Outcome, Theirs};
use e2e::diff::server::{Server, Whose};
use e2e::init;
use e2e::progress::Progress;
use e2e::workshop::{self, Workshop};

/// Below the clone.
const EXCEPTIONS: &str = "e2e/diff/exceptions.tsv";
/// Below the cache: clusters, upstream's recorded answers and what the last run found.
const DIR: &str = "diff";
const RECORDED: &str = "recorded.jsonl.gz";
/// Below the clone: upstream's answers to a part of the cases, and the minutes that this part takes.
const PART: &str = "e2e/diff/recorded.jsonl.gz";
const PART_MINUTES: usize = 2;
const FOUND: &str = "found.json";

fn main() -> ExitCode {
    let args = command().get_matches();
    let result = match args.get_one::<String>("show") {
        Some(group) => show(&args, group),
        None => compare(&args),
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
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(usize));
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("navarch-diff")
        .about("Asks upstream's API server and ours the same and tells what differs")
        .arg(
            number("part")
                .value_name("MINUTES")
                .help("As much as fits in these minutes, against the recorded answers in the tree"),
        )
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("TEXT")
                .action(ArgAction::Append)
                .help("Cases with this in their name"),
        )
        .arg(flag("recorded").help("All cases, against upstream's answers as --record kept them"))
        .arg(flag("record").help("Keeps upstream's answers: all in the cache, a part in the tree"))
        .arg(
            flag("list")
                .help("Names the cases that were recorded, with the number of their requests"),
        )
        .arg(Arg::new("show").long("show").value_name("GROUP").help(
            "Shows what the last run found: a group's number, a part of its name, or an area",
        ))
        .arg(
            number("limit")
                .default_value("50")
                .help("Groups, or differences of a group, that are shown"),
        )
        .arg(
            Arg::new("report")
                .long("report")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Writes the groups there as well"),
        )
        .arg(workshop::profile("release"))
}

/// What one call works with.
struct Site {
    workshop: Workshop,
    dir: PathBuf,
    launcher: PathBuf,
}

impl Site {
    fn new(args: &ArgMatches) -> anyhow::Result<Self> {
        let profile = args.get_one::<String>("profile").expect("it has a default");
        let workshop = Workshop::new(profile);
        let dir = workshop.cache().join(DIR);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self {
            launcher: std::env::current_exe()?.with_file_name("navarch-cluster"),
            dir,
            workshop,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts a server in a fresh cluster, which ends when the guard does.
    fn start(&self, whose: Whose) -> anyhow::Result<(Server, Cluster, Guard)> {
        let dir = self.path(whose.name());
        // What an earlier run left, which may have been ended at any point.
        if dir.exists() && cluster::down(&dir, false).is_err() {
            fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        fs::create_dir_all(&dir)?;
        let guard = Guard::over(&self.launcher, &dir)?;
        let started = Server::start(&self.workshop, whose, &self.dir, &self.launcher);
        let (server, cluster) = started.map_err(|error| anyhow::Error::msg(init::chain(&error)))?;
        Ok((server, cluster, guard))
    }
}

/// Ends a cluster when this process ends, however that comes about.
struct Guard(Child);

impl Guard {
    fn over(launcher: &Path, dir: &Path) -> anyhow::Result<Self> {
        let mut guard = Program::new(launcher);
        guard
            .args(["guard", "--dir"])
            .arg(dir)
            .stdin(Stdio::piped());
        Ok(Self(
            guard
                .spawn()
                .with_context(|| launcher.display().to_string())?,
        ))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // What it could not end, the next run will.
        let _ = self.0.wait();
    }
}

/// Whether there is no difference that is not known, no known one that is gone, and no case that asks nothing.
fn compare(args: &ArgMatches) -> anyhow::Result<bool> {
    let site = Site::new(args)?;
    let part = args.get_one::<usize>("part").copied();
    let from_record = part.is_some() || args.get_flag("recorded");
    if args.get_flag("list") {
        for recorded in record::read(&site.path(RECORDED))? {
            println!("{:>5}  {}", recorded.case.steps.len(), recorded.case.name);
        }
        return Ok(true);
    }
    let mut tools = vec![Daemon::Etcd.name()];
    if !from_record {
        tools.extend([Daemon::KubeApiserver.name(), "kubectl"]);
    }
    site.workshop.ensure_tools(&tools)?;
    site.workshop.ensure_daemons(OURS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let began = Instant::now();
    let (ours, _cluster, _guard) = site.start(Whose::Ours)?;
    let only: Vec<&String> = args.get_many("only").unwrap_or_default().collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|text| name.contains(*text));
    let outcome = if from_record {
        let kept = match part {
            Some(_) => site.workshop.root().join(PART),
            None => site.path(RECORDED),
        };
        let (mut cases, answers) = record::split(record::read(&kept)?);
        cases.retain(|case| wanted(&case.name));
        if let Some(minutes) = part {
            cases = record::part(cases, minutes);
        }
        run::run(
            &ours,
            Theirs::Recorded(&answers),
            cases,
            false,
            Progress::Screen,
        )?
    } else {
        let (theirs, cluster, _guard) = site.start(Whose::Upstreams)?;
        let cases = live_cases(&cluster, &site.workshop)?;
        let cases = cases
            .into_iter()
            .filter(|case| wanted(&case.name))
            .collect();
        let keep = args.get_flag("record");
        let outcome = run::run(&ours, Theirs::Live(&theirs), cases, keep, Progress::Screen)?;
        seen(&theirs)?;
        if keep {
            keep_answers(&site, outcome.recorded.clone(), only.is_empty())?;
        }
        outcome
    };
    seen(&ours)?;
    let whole = part.is_none() && only.is_empty();
    println!(
        "{} requests in {} cases, {:.0} s",
        outcome.requests,
        outcome.cases,
        began.elapsed().as_secs_f64()
    );
    judge(args, &site, outcome, whole)
}

/// Keeps upstream's answers: all in the cache, a part in the tree. Some cases alone take the place of what they were answered before.
fn keep_answers(site: &Site, recorded: Vec<Recorded>, whole: bool) -> anyhow::Result<()> {
    let part = site.workshop.root().join(PART);
    for (path, minutes) in [(site.path(RECORDED), None), (part, Some(PART_MINUTES))] {
        let mut all = recorded.clone();
        if !whole && path.exists() {
            all = record::renewed(record::read(&path)?, all);
        }
        if let Some(minutes) = minutes {
            all = record::part(all, minutes);
        }
        record::write(&path, &all)?;
    }
    Ok(())
}

/// What a server stored is compared only as far as it was seen.
fn seen(server: &Server) -> anyhow::Result<()> {
    let missed = server.writes.missed();
    let whose = server.whose.name();
    anyhow::ensure!(
        missed == 0,
        "{whose}: {missed} writes were not seen in etcd"
    );
    Ok(())
}

fn live_cases(cluster: &Cluster, workshop: &Workshop) -> anyhow::Result<Vec<Case>> {
    let chain = |error: corpus::Error| anyhow::Error::msg(init::chain(&error));
    let source = Source::read(cluster, workshop).map_err(chain)?;
    let cases = corpus::all(&source, workshop.root()).map_err(chain)?;
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        *names.entry(&case.name).or_default() += 1;
    }
    let twice = names.iter().find(|(_, count)| **count > 1);
    anyhow::ensure!(twice.is_none(), "two cases are called {twice:?}");
    Ok(cases)
}

fn judge(args: &ArgMatches, site: &Site, outcome: Outcome, whole: bool) -> anyhow::Result<bool> {
    let exceptions = site.workshop.root().join(EXCEPTIONS);
    let text = fs::read_to_string(&exceptions).with_context(|| exceptions.display().to_string())?;
    let known = Known::meant(&text).with_context(|| exceptions.display().to_string())?;
    let (found, gone) = report::judge(outcome.found, &known, whole);
    fs::write(site.path(FOUND), serde_json::to_vec(&found)?)?;
    let groups = report::groups(&found);
    let limit = *args.get_one::<usize>("limit").expect("it has a default");
    let mut told = report::table(&groups, limit);
    for line in &gone {
        told.push_str(line);
        told.push('\n');
    }
    for line in &outcome.vain {
        told.push_str(line);
        told.push('\n');
    }
    print!("{told}");
    println!("{} differences in {} groups", found.len(), groups.len());
    if let Some(path) = args.get_one::<PathBuf>("report") {
        fs::write(path, &told).with_context(|| path.display().to_string())?;
    }
    Ok(found.is_empty() && gone.is_empty() && outcome.vain.is_empty())
}

fn show(args: &ArgMatches, group: &str) -> anyhow::Result<bool> {
    let path = Site::new(args)?.path(FOUND);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let found: Vec<Found> = serde_json::from_slice(&bytes)?;
    let limit = *args.get_one::<usize>("limit").expect("it has a default");
    print!("{}", report::show(&report::groups(&found), group, limit));
    Ok(true)
}
