//! `navarch-cluster`: brings local clusters up and down. `hack/up` and `hack/down` wrap it.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::cluster::{
    self, Cluster, ETCD_MEMBERS, MAX_API_SERVERS, MAX_NODES, NOT_OURS_YET, Spec, Upstream,
};
use e2e::progress::Progress;
use e2e::workshop::{self, Workshop};
use e2e::{balancer, image, init};

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
        Some(("balance", args)) => balance(args),
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
                        .value_parser(|text: &str| one_of(text, 1..=MAX_NODES))
                        .default_value("2")
                        .help("How many nodes"),
                )
                .arg(
                    Arg::new("etcd")
                        .long("etcd")
                        .value_parser(|text: &str| one_of(text, ETCD_MEMBERS.iter().copied()))
                        .default_value("1")
                        .help("How many members etcd has"),
                )
                .arg(
                    Arg::new("apiservers")
                        .long("apiservers")
                        .value_parser(|text: &str| one_of(text, 1..=MAX_API_SERVERS))
                        .default_value("1")
                        .help("How many API servers; a load balancer stands before several"),
                )
                .arg(
                    Arg::new("upstream")
                        .long("upstream")
                        .default_value(NOT_OURS_YET)
                        .help("Daemons that are upstream's instead of ours: names, control-plane, all or none; NAME@HOST for the one on a host"),
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
        .subcommands(internals())
}

/// What the cluster library and its tests start.
fn internals() -> [Command; 4] {
    let path = |name: &'static str| {
        Arg::new(name)
            .value_parser(value_parser!(PathBuf))
            .required(true)
    };
    let address = |name: &'static str| {
        Arg::new(name)
            .value_parser(value_parser!(SocketAddr))
            .required(true)
    };
    let hidden =
        |name: &'static str, about: &'static str| Command::new(name).about(about).hide(true);
    let stage = |name: &'static str| Command::new(name).arg(path("spec"));
    [
        hidden("guard", "Ends a cluster when standard input ends").arg(path("dir").long("dir")),
        hidden("registry", "Serves image archives")
            .arg(address("listen").long("listen"))
            .arg(path("cert").long("cert"))
            .arg(path("key").long("key"))
            .arg(path("archive").action(ArgAction::Append).required(false)),
        hidden("balance", "Stands before several API servers")
            .arg(address("listen").long("listen"))
            .arg(path("authority").long("authority"))
            .arg(address("server").action(ArgAction::Append)),
        hidden("init", "The first process of a host")
            .subcommand_required(true)
            .subcommands([stage("launch"), stage("first")]),
    ]
}

fn up(args: &ArgMatches) -> anyhow::Result<()> {
    let dir: PathBuf = required(args, "dir");
    let upstream: String = required(args, "upstream");
    let upstream = Upstream::parse(&upstream).map_err(anyhow::Error::msg)?;
    let workshop = Workshop::new(&required::<String>(args, "profile"));
    workshop.ensure_programs(&upstream)?;
    let mut images = Vec::new();
    for name in IMAGES {
        let built =
            Progress::Screen.step(&format!("image {name}"), || image::build(&workshop, name))?;
        images.push(built.archive);
    }
    let launcher = std::env::current_exe().context("cannot find this program's file")?;
    let spec = Spec {
        nodes: required(args, "nodes"),
        etcd_members: required(args, "etcd"),
        api_servers: required(args, "apiservers"),
        upstream,
        images,
        secured: true,
        ..workshop.spec(&dir, &launcher)
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

fn one_of(text: &str, counts: impl IntoIterator<Item = usize>) -> Result<usize, String> {
    let counts: Vec<usize> = counts.into_iter().collect();
    let known = |count: &usize| counts.contains(count);
    text.parse()
        .ok()
        .filter(known)
        .ok_or_else(|| match counts[..] {
            [first, .., last] if counts.len() > 2 => format!("{first} to {last} can be had"),
            _ => {
                let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
                format!("{} can be had", counts.join(" or "))
            }
        })
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

fn balance(args: &ArgMatches) -> anyhow::Result<()> {
    let servers: Vec<SocketAddr> = args
        .get_many("server")
        .unwrap_or_default()
        .copied()
        .collect();
    let authority: PathBuf = required(args, "authority");
    Ok(balancer::run(
        required(args, "listen"),
        &authority,
        &servers,
    )?)
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
