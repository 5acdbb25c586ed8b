//! `navarch-conformance`: upstream's conformance suite on a local cluster. `hack/conformance` wraps it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::cluster::{Daemon, NOT_OURS_YET};
use e2e::conformance::{self, Options, Outcome, Summary, Suspect, Verdict};
use e2e::init;
use e2e::workshop::{self, Workshop};

fn main() -> ExitCode {
    let args = command().get_matches();
    let result = match args.get_one::<String>("blame") {
        Some(test) => blame(&args, test),
        None => run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    Command::new("navarch-conformance")
        .about("Upstream's conformance suite on a local cluster")
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_parser(value_parser!(PathBuf))
                .default_value("target/conformance")
                .help("Holds the cluster and the run"),
        )
        .arg(Arg::new("focus").long("focus").help("Only tests whose names match this expression of Go's"))
        .arg(
            Arg::new("procs")
                .long("procs")
                .value_parser(value_parser!(u16).range(1..=64))
                .default_value("10")
                .help("Tests that run at once"),
        )
        .arg(
            Arg::new("part")
                .long("part")
                .value_name("MINUTES")
                .value_parser(value_parser!(u64).range(1..))
                .conflicts_with_all(["focus", "upstream", "blame", "resume"])
                .help("Only tests that were green in our last three runs, as many as fit into the time"),
        )
        .arg(
            Arg::new("resume")
                .long("resume")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["focus", "upstream", "blame"])
                .help("Goes on where the last run was stopped"),
        )
        .arg(
            Arg::new("upstream")
                .long("upstream")
                .default_value(NOT_OURS_YET)
                .help("Daemons that are upstream's: names, or control-plane, or all; all is the control run"),
        )
        .arg(
            Arg::new("keep")
                .long("keep")
                .action(ArgAction::SetTrue)
                .help("Leaves the cluster standing, in DIR/cluster"),
        )
        .arg(workshop::profile("dev"))
        .arg(
            Arg::new("blame")
                .long("blame")
                .value_name("TEST")
                .help("Runs the one test that matches with one daemon at a time upstream's"),
        )
}

fn options(args: &ArgMatches) -> anyhow::Result<Options> {
    let text = |name: &str| args.get_one::<String>(name).cloned();
    let upstream = text("upstream").unwrap_or_default();
    let dir: &PathBuf = args.get_one("dir").expect("it has a default");
    let procs: u16 = *args.get_one("procs").expect("it has a default");
    let this = std::env::current_exe().context("cannot find this program's file")?;
    Ok(Options {
        dir: std::path::absolute(dir).with_context(|| format!("cannot find {}", dir.display()))?,
        focus: text("focus"),
        part: args
            .get_one::<u64>("part")
            .map(|minutes| Duration::from_secs(minutes.saturating_mul(60))),
        processes: procs.into(),
        resume: args.get_flag("resume"),
        upstream: Daemon::parse_list(&upstream).map_err(anyhow::Error::msg)?,
        keep: args.get_flag("keep"),
        launcher: this.with_file_name("navarch-cluster"),
    })
}

fn workshop(args: &ArgMatches) -> Workshop {
    let profile: &String = args.get_one("profile").expect("it has a default");
    Workshop::new(profile)
}

fn run(args: &ArgMatches) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let summary = conformance::run(&workshop(args), &options)
        .map_err(|error| anyhow::Error::msg(init::chain(&error)))?;
    say(&summary);
    let red = summary
        .verdicts
        .values()
        .any(|verdict| verdict.outcome != Outcome::Passed);
    Ok(if red || summary.stopped {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn say(summary: &Summary) {
    let red: Vec<&Verdict> = summary
        .verdicts
        .values()
        .filter(|verdict| verdict.outcome != Outcome::Passed)
        .collect();
    for verdict in &red {
        println!("{}\n    {:.200}", verdict.name, verdict.reason());
    }
    let seconds = summary.took.as_secs();
    println!(
        "{} of {} passed, {} did not, in {}:{:02}",
        summary.verdicts.len() - red.len(),
        summary.planned,
        red.len(),
        seconds / 60,
        seconds % 60
    );
    if !red.is_empty() {
        println!(
            "what they and the daemons said: {}/failed",
            summary.dir.display()
        );
    }
    if summary.stopped {
        println!("stopped; --resume goes on from here");
    }
    if let Some(score) = summary.score {
        println!(
            "over the last three runs: {} pass, {} fail, {} flaky, {} not three times yet",
            score.pass, score.fail, score.flaky, score.unknown
        );
    }
}

fn blame(args: &ArgMatches, test: &str) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let tell = |suspect: &Suspect| {
        let names: Vec<&str> = suspect
            .upstream
            .iter()
            .map(|daemon| daemon.name())
            .collect();
        let whose = match names.len() {
            0 => "all ours".to_owned(),
            1 => format!("upstream's {}", names[0]),
            _ => "all upstream's".to_owned(),
        };
        let outcome = match suspect.outcome {
            Outcome::Passed => "green".to_owned(),
            Outcome::Failed | Outcome::Skipped => format!("red: {:.160}", suspect.reason),
        };
        println!("{whose:<36}{outcome}");
    };
    let (name, seen) = conformance::blame(&workshop(args), &options, test, tell)
        .map_err(|error| anyhow::Error::msg(init::chain(&error)))?;
    println!("{name}: {} runs", seen.len());
    Ok(ExitCode::SUCCESS)
}
