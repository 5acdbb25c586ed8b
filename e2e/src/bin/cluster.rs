//! `navarch-cluster`: brings local clusters up and down. `hack/up` and `hack/down` wrap it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::cluster::{self, CONTROL_PLANE, Cluster, Daemon, OURS, Spec};
use e2e::progress::Progress;
use e2e::workshop::Workshop;
use e2e::{image, init};

/// What every node has from the start: cluster DNS, the demo's server, a shell, and containerd's sandbox.
const IMAGES: &[&str] = &["coredns", "web", "busybox", "pause"];

fn main() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        Some(("up", args)) => up(args),
        Some(("down", args)) => down(args),
        Some(("init", args)) => inside(args),
        _ => unreachable!("clap asks for one of the subcommands above"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let path = || value_parser!(PathBuf);
    let dir = || Arg::new("dir").long("dir").value_parser(path()).default_value("target/cluster");
    let spec = || Arg::new("spec").value_parser(path()).required(true);
    Command::new("navarch-cluster")
        .about("Local clusters: real daemons, nodes as network namespaces")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("up")
                .about("Brings a cluster up, or to what is asked for now")
                .arg(dir().help("Holds all of the cluster's state"))
                .arg(
                    Arg::new("nodes")
                        .long("nodes")
                        .value_parser(value_parser!(usize))
                        .default_value("2")
                        .help("How many nodes"),
                )
                .arg(
                    Arg::new("upstream")
                        .long("upstream")
                        .value_delimiter(',')
                        .help("Daemons that are upstream's instead of ours: names, or control-plane, or all"),
                )
                .arg(
                    Arg::new("profile")
                        .long("profile")
                        .value_parser(["dev", "fast", "release"])
                        .default_value("dev")
                        .help("How our daemons are built"),
                ),
        )
        .subcommand(
            Command::new("down")
                .about("Ends a cluster and removes all that belongs to it")
                .arg(dir().help("The cluster's directory"))
                .arg(Arg::new("keep").long("keep").action(ArgAction::SetTrue).help("Keep the directory: data, logs")),
        )
        .subcommand(
            Command::new("init")
                .about("The first process of a host; started by the cluster library")
                .hide(true)
                .subcommand_required(true)
                .subcommand(Command::new("launch").arg(spec()))
                .subcommand(Command::new("first").arg(spec())),
        )
}

fn up(args: &ArgMatches) -> anyhow::Result<()> {
    let dir: PathBuf = required(args, "dir");
    let upstream = args.get_many::<String>("upstream").unwrap_or_default().map(|name| daemons(name));
    let upstream: Vec<Daemon> = upstream.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)?.concat();
    let workshop = Workshop::new(&required::<String>(args, "profile"));
    workshop.ensure_programs(&upstream)?;
    let mut images = Vec::new();
    for name in IMAGES {
        let built = Progress::Screen.step(&format!("image {name}"), || image::build(&workshop, name))?;
        images.push(built.archive);
    }
    let spec = Spec {
        dir: dir.clone(),
        nodes: required(args, "nodes"),
        upstream,
        programs: workshop.programs(),
        tools: workshop.tools(),
        launcher: std::env::current_exe().context("cannot find this program's file")?,
        images,
    };
    let cluster = Cluster::up(spec, Progress::Screen)
        .with_context(|| format!("the cluster is not up; hack/down --dir {} removes it", dir.display()))?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

/// The daemons behind one word of `--upstream`.
fn daemons(name: &str) -> Result<Vec<Daemon>, String> {
    match name {
        "all" => Ok(OURS.to_vec()),
        "control-plane" => Ok(CONTROL_PLANE.to_vec()),
        name => Ok(vec![name.parse()?]),
    }
}

fn down(args: &ArgMatches) -> anyhow::Result<()> {
    let dir: PathBuf = required(args, "dir");
    cluster::down(&dir, args.get_flag("keep"))
        .with_context(|| format!("cannot end the cluster in {}", dir.display()))
}

fn inside(args: &ArgMatches) -> anyhow::Result<()> {
    let (stage, args) = args.subcommand().expect("clap asks for a stage");
    let spec: PathBuf = required(args, "spec");
    match stage {
        "launch" => Ok(init::launch(&spec)?),
        _ => Ok(init::run(&spec)?),
    }
}

fn required<T: Clone + Send + Sync + 'static>(args: &ArgMatches, name: &str) -> T {
    args.get_one::<T>(name).cloned().expect("the argument is required or has a default")
}
