//! `navarch-cluster`: brings local clusters up and down. `hack/up` and `hack/down` wrap it.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::cluster::{self, Cluster, Daemon, MAX_NODES, NOT_OURS_YET, Spec};
use e2e::progress::Progress;
use e2e::workshop::{self, Workshop};
use e2e::{image, init};

/// What every node has from the start: cluster DNS, the demo's server, a shell, and containerd's sandbox.
const IMAGES: &[&str] = &["coredns", "web", "busybox", "pause"];

fn main() -> ExitCode {
    let matches = command().get_matches();
    let result = match matches.subcommand() {
        Some(("up", args)) => up(args),
        Some(("down", args)) => down(args),
        Some(("image", args)) => build_image(args),
        Some(("node", args)) => return node(args),
        Some(("guard", args)) => guard(args),
        Some(("registry", args)) => registry(args),
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
    let dir = || {
        Arg::new("dir")
            .long("dir")
            .value_parser(path())
            .default_value("target/cluster")
    };
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
                        .value_parser(node_count)
                        .default_value("2")
                        .help("How many nodes"),
                )
                .arg(
                    Arg::new("upstream")
                        .long("upstream")
                        .default_value(NOT_OURS_YET)
                        .help("Daemons that are upstream's instead of ours: names, or control-plane, or all, or none"),
                )
                .arg(workshop::profile("dev")),
        )
        .subcommand(
            Command::new("down")
                .about("Ends a cluster and removes all that belongs to it")
                .arg(dir().help("The cluster's directory"))
                .arg(Arg::new("keep").long("keep").action(ArgAction::SetTrue).help("Keep the directory: data, logs")),
        )
        .subcommand(
            Command::new("image")
                .about("Builds images and prints where their archives are")
                .arg(Arg::new("name").action(ArgAction::Append).required(true).help("A recipe of e2e/images")),
        )
        .subcommand(
            Command::new("node")
                .about("Runs a command inside of a node")
                .arg(dir().help("The cluster's directory"))
                .arg(Arg::new("name").required(true).help("The node"))
                .arg(
                    Arg::new("command")
                        .action(ArgAction::Append)
                        .trailing_var_arg(true)
                        .allow_hyphen_values(true)
                        .default_value("bash"),
                ),
        )
        .subcommand(
            Command::new("guard").about("Ends a cluster when standard input ends").hide(true).arg(dir()),
        )
        .subcommand(
            Command::new("registry")
                .about("Serves image archives; started by the cluster library")
                .hide(true)
                .arg(Arg::new("listen").long("listen").value_parser(value_parser!(SocketAddr)).required(true))
                .arg(Arg::new("cert").long("cert").value_parser(path()).required(true))
                .arg(Arg::new("key").long("key").value_parser(path()).required(true))
                .arg(Arg::new("archive").value_parser(path()).action(ArgAction::Append)),
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
    let upstream: String = required(args, "upstream");
    let upstream = Daemon::parse_list(&upstream).map_err(anyhow::Error::msg)?;
    let workshop = Workshop::new(&required::<String>(args, "profile"));
    workshop.ensure_programs(&upstream)?;
    let mut images = Vec::new();
    for name in IMAGES {
        let built =
            Progress::Screen.step(&format!("image {name}"), || image::build(&workshop, name))?;
        images.push(built.archive);
    }
    let spec = Spec {
        dir: dir.clone(),
        nodes: required(args, "nodes"),
        upstream,
        programs: workshop.programs(),
        tools: workshop.tools(),
        launcher: std::env::current_exe().context("cannot find this program's file")?,
        root: workshop.root().to_owned(),
        images,
        pulled: Vec::new(),
    };
    let cluster = match Cluster::up(spec, Progress::Screen) {
        Ok(cluster) => cluster,
        Err(error) => {
            let mut text = init::chain(&error);
            if Cluster::open(&dir).is_ok() {
                let hint = format!(
                    "\nhack/up goes on from here; hack/down --dir {} removes it",
                    dir.display()
                );
                text.push_str(&hint);
            }
            anyhow::bail!(text);
        }
    };
    say_what_to_try(&cluster, &workshop);
    Ok(())
}

fn node_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_NODES) => Ok(count),
        _ => Err(format!("1 to {MAX_NODES} nodes can be had")),
    }
}

fn say_what_to_try(cluster: &Cluster, workshop: &Workshop) {
    let [kubeconfig, tools] =
        [cluster.kubeconfig(), workshop.tools()].map(|path| path.display().to_string());
    let demo = workshop.root().join("hack/demo.yaml");
    let node = cluster.nodes().remove(0).address;
    println!(
        "
The cluster is up. In this shell:
  export KUBECONFIG={kubeconfig} PATH={tools}:$PATH
Then try:
  kubectl apply -f {demo} && kubectl rollout status deployment/web
  curl http://{node}:30080/
  kubectl run shell --rm -it --image=navarch.local/busybox:1 -- sh   # there: wget -qO- http://web",
        demo = demo.display(),
    );
}

fn down(args: &ArgMatches) -> anyhow::Result<()> {
    let dir: PathBuf = required(args, "dir");
    match cluster::down(&dir, args.get_flag("keep")) {
        Err(cluster::Error::NoCluster { path }) if !path.exists() => {
            eprintln!("there is no cluster in {}", path.display());
            Ok(())
        }
        result => result.with_context(|| format!("cannot end the cluster in {}", dir.display())),
    }
}

fn build_image(args: &ArgMatches) -> anyhow::Result<()> {
    let workshop = Workshop::new("dev");
    for name in args.get_many::<String>("name").unwrap_or_default() {
        let image = image::build(&workshop, name)?;
        println!("{}  {}", image.name, image.archive.display());
    }
    Ok(())
}

/// Becomes the command; its exit code is this program's.
fn node(args: &ArgMatches) -> ExitCode {
    let dir: PathBuf = required(args, "dir");
    let mut command = match Cluster::open(&dir)
        .and_then(|cluster| cluster.inside(&required::<String>(args, "name")))
    {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{}", init::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let error = command
        .args(args.get_many::<String>("command").unwrap_or_default())
        .exec();
    eprintln!("cannot run nsenter: {error}");
    ExitCode::FAILURE
}

/// Waits until whoever holds the other end of standard input is gone, then ends the cluster. Its directory stays.
fn guard(args: &ArgMatches) -> anyhow::Result<()> {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).context("cannot wait")?;
    let dir: PathBuf = required(args, "dir");
    match cluster::down(&dir, true) {
        // Ended already, or never begun.
        Err(cluster::Error::NoCluster { .. }) => Ok(()),
        result => Ok(result?),
    }
}

fn registry(args: &ArgMatches) -> anyhow::Result<()> {
    let archives: Vec<PathBuf> = args
        .get_many("archive")
        .unwrap_or_default()
        .cloned()
        .collect();
    let [cert, key]: [PathBuf; 2] = ["cert", "key"].map(|name| required(args, name));
    e2e::registry::run(required(args, "listen"), &cert, &key, &archives)?;
    Ok(())
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
    args.get_one::<T>(name)
        .cloned()
        .expect("the argument is required or has a default")
}
