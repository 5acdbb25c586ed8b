//! `navarch-pki`: certificates, keys and kubeconfigs of a cluster. `hack/pki` wraps it.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::init;
use e2e::pki::inspect::inspect;
use e2e::pki::renew::{self, Outcome, Roll};
use e2e::pki::{self, Error, Host, Names};
use ipnet::IpNet;

/// What was asked for makes no sense.
const USAGE: u8 = 64;
const WITHIN: &str = "30";

fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and the version come this way too.
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let result = match matches.subcommand() {
        Some(("create", args)) => create(args),
        Some(("renew", args)) => renew(args),
        Some(("inspect", args)) => report(args),
        _ => unreachable!("clap asks for one of the subcommands above"),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", init::chain(&error));
            match error.is_usage() {
                true => ExitCode::from(USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

fn command() -> Command {
    Command::new("navarch-pki")
        .bin_name("hack/pki")
        .about("Certificates, keys and kubeconfigs of a cluster, laid out as kubeadm does")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(create_command())
        .subcommand(renew_command())
        .subcommand(inspect_command())
}

fn dir() -> Arg {
    Arg::new("dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .required(true)
        .help("Has the directory pki, such as /etc/kubernetes; or is it")
}

fn create_command() -> Command {
    let hosts = |name: &'static str, value: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_delimiter(',')
            .value_parser(value_parser!(Host))
            .action(ArgAction::Append)
    };
    Command::new("create")
        .about("Makes what is missing; what is valid stays as it is")
        .arg(dir().help("Gets pki, kubeconfigs and admin.kubeconfig"))
        .arg(
            hosts("api-server", "NAME_OR_ADDRESS")
                .required(true)
                .help("Where clients reach the API servers"),
        )
        .arg(
            Arg::new("service-range")
                .long("service-range")
                .value_name("CIDR")
                .value_delimiter(',')
                .value_parser(first_of_range)
                .default_value("10.96.0.0/12")
                .help("The addresses of Services, as in --service-cluster-ip-range"),
        )
        .arg(
            Arg::new("node")
                .long("node")
                .value_name("NAME=ADDRESS[,ADDRESS]")
                .value_parser(node)
                .action(ArgAction::Append)
                .help("A node, and where its kubelet is reached"),
        )
        .arg(
            hosts("control-plane", "NAME_OR_ADDRESS").help(
                "Where etcd, the scheduler and the controller manager listen, beside localhost",
            ),
        )
        .arg(
            Arg::new("server")
                .long("server")
                .value_name("URL")
                .help("The server in kubeconfigs [default: the first --api-server, port 6443]"),
        )
        .arg(
            Arg::new("cluster-domain")
                .long("cluster-domain")
                .value_name("DOMAIN")
                .value_parser(value_parser!(Host))
                .default_value("cluster.local")
                .help("The domain of the cluster's DNS"),
        )
}

fn renew_command() -> Command {
    Command::new("renew")
        .about("Renews certificates, with new keys, and the kubeconfigs that embed them")
        .arg(dir())
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("As inspect tells it; without names, all that end soon"),
        )
        .arg(within().conflicts_with("name"))
        .arg(
            Arg::new("authority")
                .long("authority")
                .value_name("NAME")
                .conflicts_with_all(["name", "within"])
                .help("Renews this authority instead; it keeps its key, and what it signed stays valid"),
        )
        .arg(
            Arg::new("new-key")
                .long("new-key")
                .requires("authority")
                .action(ArgAction::SetTrue)
                .help("Gives the authority another key; its file trusts the new and the old one"),
        )
        .arg(
            Arg::new("drop-old")
                .long("drop-old")
                .requires("authority")
                .conflicts_with("new-key")
                .action(ArgAction::SetTrue)
                .help("Ends that: its file trusts the new one only"),
        )
}

fn inspect_command() -> Command {
    Command::new("inspect")
        .about("Tells what certificates there are and what is wrong with them; then the exit code is 1")
        .arg(
            Arg::new("path")
                .value_name("DIR|FILE")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .required(true),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_parser(["table", "json"])
                .default_value("table")
                .help("json has subjects, issuers, usages and names too"),
        )
        .arg(within())
}

fn within() -> Arg {
    Arg::new("within")
        .long("within")
        .value_name("DAYS")
        .value_parser(value_parser!(u32))
        .default_value(WITHIN)
        .help("What ends sooner ends soon")
}

/// The first address of a range, which the Service `kubernetes` gets.
fn first_of_range(text: &str) -> Result<IpAddr, String> {
    let range: IpNet = text.parse().map_err(|_| "it is not a range of addresses")?;
    let first = match range.network() {
        IpAddr::V4(base) => base
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(base) => base
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(bits.into())),
    };
    first
        .filter(|first| range.contains(first))
        .ok_or_else(|| "it has no address for the Service kubernetes".to_owned())
}

fn node(text: &str) -> Result<(String, Vec<Host>), String> {
    let (name, hosts) = text.split_once('=').ok_or("it has no =")?;
    let parse = |text: &str| text.parse::<Host>().map_err(|error| error.to_string());
    let hosts = hosts.split(',').map(parse).collect::<Result<_, _>>()?;
    Ok((parse(name)?.to_string(), hosts))
}

fn create(args: &ArgMatches) -> Result<bool, Error> {
    let hosts =
        |name: &str| -> Vec<Host> { args.get_many(name).unwrap_or_default().cloned().collect() };
    let api_servers = hosts("api-server");
    let server = match args.get_one::<String>("server") {
        Some(url) => url.clone(),
        None => format!("https://{}:6443", api_servers[0].in_url()),
    };
    let names = Names {
        server,
        api_servers,
        kubernetes_service: args
            .get_many("service-range")
            .unwrap_or_default()
            .copied()
            .collect(),
        control_plane: hosts("control-plane"),
        nodes: args.get_many("node").unwrap_or_default().cloned().collect(),
        domain: one::<Host>(args, "cluster-domain").to_string(),
        registry: None,
    };
    let made = pki::create(&one::<PathBuf>(args, "dir"), &names, SystemTime::now())?;
    let mut text = String::new();
    for file in &made {
        text += &format!("{}: {}\n", file.path.display(), file.why);
    }
    if made.is_empty() {
        text += "nothing is missing\n";
    }
    say(&text);
    Ok(true)
}

fn renew(args: &ArgMatches) -> Result<bool, Error> {
    let (dir, now) = (one::<PathBuf>(args, "dir"), SystemTime::now());
    let outcome = match args.get_one::<String>("authority") {
        Some(name) => {
            let roll = match (args.get_flag("new-key"), args.get_flag("drop-old")) {
                (true, _) => Roll::NewKey,
                (_, true) => Roll::DropOld,
                _ => Roll::SameKey,
            };
            renew::authority(&dir, name, roll, now)?
        }
        None => {
            let names = args.get_many::<String>("name").unwrap_or_default();
            let names: Vec<String> = names.cloned().collect();
            renew::leaves(&dir, &names, one(args, "within"), now)?
        }
    };
    Ok(tell(&outcome))
}

/// Whether nothing was left that ought to have been renewed.
fn tell(outcome: &Outcome) -> bool {
    let mut text = String::new();
    for path in &outcome.written {
        text += &format!("{}: renewed\n", path.display());
    }
    if outcome.written.is_empty() && outcome.left.is_empty() {
        text += "nothing ends soon\n";
    }
    if !outcome.next.is_empty() {
        text += "\nNow:\n";
    }
    for step in &outcome.next {
        text += &format!("- {step}\n");
    }
    say(&text);
    for (name, why) in &outcome.left {
        eprintln!("{name}: not renewed: {why}");
    }
    outcome.left.is_empty()
}

fn report(args: &ArgMatches) -> Result<bool, Error> {
    let paths = args.get_many::<PathBuf>("path").unwrap_or_default();
    let paths: Vec<PathBuf> = paths.cloned().collect();
    let report = inspect(&paths, one(args, "within"), SystemTime::now())?;
    if one::<String>(args, "output") == "json" {
        let json = serde_json::to_string_pretty(&report);
        println!(
            "{}",
            json.expect("a report has text, numbers and lists only")
        );
    } else {
        print!("{}", report.table());
    }
    Ok(report.is_fine())
}

/// Whoever reads may have read enough (`| head`).
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn one<T: Clone + Send + Sync + 'static>(args: &ArgMatches, name: &str) -> T {
    args.get_one::<T>(name)
        .cloned()
        .expect("the argument is required or has a default")
}
