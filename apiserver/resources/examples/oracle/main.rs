//! Ours against upstream's registry: the same defaults, the same stored objects, the same errors in the
//! same order, the same warnings.
//!
//! Upstream's answers come from `hack/go/kubernetes/oracle`, one line a case, and one more where it says something
//! else under other feature gates; `hack/oracle` makes them and calls this program. What is known to differ, and why, is in `known.txt`: a difference that is not
//! there, and one of there that is gone, make it fail.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

mod cases;
mod compare;
mod known;
mod report;

const USAGE: &str = "\
usage: oracle ANSWERS KNOWN [--show RESOURCE|all] [--limit N] [--grep TEXT] [--list] [--deep]
  ANSWERS   what upstream said
  KNOWN     what is known to differ
  --show    the cases that differ, of one resource (pods, deployments.apps) or all
  --limit   cases of each group that are shown; 1 if not given
  --grep    show only groups whose line contains this
  --list    print the groups that are not known, as lines for KNOWN
  --deep    under other gates, try also what upstream says the same of as by default";

#[derive(Default)]
struct Args {
    files: Vec<PathBuf>,
    show: Option<String>,
    limit: Option<usize>,
    grep: String,
    list: bool,
    deep: bool,
}

impl Args {
    fn parse() -> anyhow::Result<Self> {
        let mut args = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().context(USAGE);
            match word.as_str() {
                "--show" => args.show = Some(value()?),
                "--limit" => args.limit = Some(value()?.parse()?),
                "--grep" => args.grep = value()?,
                "--list" => args.list = true,
                "--deep" => args.deep = true,
                flag if flag.starts_with('-') => bail!(USAGE),
                file => args.files.push(file.into()),
            }
        }
        Ok(args)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse()?;
    let [answers, known] = args.files.as_slice() else {
        bail!(USAGE);
    };
    let known = known::Known::read(known)?;
    let only = args.show.as_deref().filter(|r| *r != "all");
    let answers = cases::Answers::read(answers, only)?;
    let questions = answers.questions(args.deep);
    let results = compare::run(&answers, &questions);
    let report = report::Report::new(&questions, &results, &known);
    if args.list {
        report.list();
        return Ok(ExitCode::SUCCESS);
    }
    if args.show.is_some() {
        report.groups(&args.grep, args.limit.unwrap_or(1));
    }
    report.counts();
    Ok(if report.verdict(only.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
