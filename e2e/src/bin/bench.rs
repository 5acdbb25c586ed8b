//! `navarch-bench`: our daemons and upstream's side by side. `hack/bench` wraps it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use e2e::bench::api::{self, Size};
use e2e::bench::load::Target;
use e2e::bench::nodes;
use e2e::bench::report::{self, Figures};
use e2e::bench::store::{self, Sizes};
use e2e::bench::turns::{Place, Turns};
use e2e::cluster::{self, Cluster, Daemon, OURS, Spec, Upstream};
use e2e::image;
use e2e::progress::Progress;
use e2e::workshop::{self, Workshop};
use futures::future::try_join_all;

const IMAGES: &[&str] = &["coredns", "busybox", "pause"];
const SUITES: &[(&str, &str)] = &[
    ("api", "one API server under load, alone with etcd"),
    (
        "store",
        "one API server with what grows: objects, informers, watches, clients that come back",
    ),
    (
        "cluster",
        "idle daemons, pod starts: a cluster of two nodes",
    ),
];

fn main() -> ExitCode {
    let matches = Command::new("navarch-bench")
        .about("Measures our daemons and upstream's in one run")
        .arg(
            Arg::new("suite")
                .action(ArgAction::Append)
                .value_parser(SUITES.iter().map(|(name, _)| *name).collect::<Vec<_>>())
                .help("api, store, cluster; without one, api and cluster"),
        )
        .arg(
            Arg::new("small")
                .long("small")
                .action(ArgAction::SetTrue)
                .help("A hundredth of the load, to see that it works"),
        )
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("WORD")
                .help("Of `api`, the scenarios whose names hold it (before a `$`: end with it), and what makes their objects"),
        )
        .arg(
            Arg::new("ours")
                .long("ours")
                .action(ArgAction::SetTrue)
                .help("Not upstream's, which the last figures are of"),
        )
        .arg(
            Arg::new("samples")
                .long("samples")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Of the last scenario of `api`: where our server spends its time, for `perf report`"),
        )
        .arg(
            Arg::new("scale")
                .long("scale")
                .value_parser(value_parser!(f64))
                .default_value("1")
                .help("How much of the sizes of `store`: 0.02 takes minutes, 1 an hour"),
        )
        .arg(
            Arg::new("memory")
                .long("memory")
                .value_parser(value_parser!(u64))
                .default_value("8192")
                .help("MiB that API server and etcd may have together in `store`"),
        )
        .arg(workshop::profile("release"))
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_parser(value_parser!(PathBuf))
                .default_value("target/bench")
                .help("Where clusters stand"),
        )
        .arg(
            Arg::new("record")
                .long("record")
                .value_parser(value_parser!(PathBuf))
                .help("A directory that gets one file of figures per suite"),
        )
        .get_matches();
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What all measurements share.
struct Bench {
    workshop: Workshop,
    dir: PathBuf,
    images: Vec<PathBuf>,
    launcher: PathBuf,
    size: Size,
    only: Option<String>,
    samples: Option<PathBuf>,
    sizes: Sizes,
    /// Bytes.
    memory: u64,
    runtime: tokio::runtime::Runtime,
}

fn run(args: &ArgMatches) -> anyhow::Result<()> {
    let suites: Vec<&str> = match args.get_many::<String>("suite") {
        Some(named) => named.map(String::as_str).collect(),
        // It takes an hour in full.
        None => SUITES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name != "store")
            .collect(),
    };
    let profile: &String = args.get_one("profile").expect("it has a default");
    let workshop = Workshop::new(profile);
    let ours_alone = args.get_flag("ours");
    if suites.contains(&"cluster") {
        if !ours_alone {
            workshop.ensure_programs(&Upstream::from(OURS))?;
        }
        workshop.ensure_programs(&Upstream::default())?;
    } else {
        workshop.ensure_tools(&[Daemon::Etcd.name()])?;
        if !ours_alone {
            workshop.ensure_tools(&[Daemon::KubeApiserver.name()])?;
        }
        workshop.ensure_daemons(&[Daemon::KubeApiserver])?;
    }
    // The other suites have no nodes, and no other daemons.
    let images = IMAGES
        .iter()
        .filter(|_| suites.contains(&"cluster"))
        .map(|name| Ok(image::build(&workshop, name)?.archive));
    let bench = Bench {
        images: images.collect::<anyhow::Result<_>>()?,
        // Built beside this program, as all of the package.
        launcher: std::env::current_exe()?.with_file_name("navarch-cluster"),
        dir: args
            .get_one::<PathBuf>("dir")
            .expect("it has a default")
            .clone(),
        size: if args.get_flag("small") {
            Size::SMALL
        } else {
            Size::FULL
        },
        only: args.get_one("only").cloned(),
        samples: args.get_one("samples").cloned(),
        sizes: Sizes::scaled(if args.get_flag("small") {
            0.01
        } else {
            *args.get_one("scale").expect("it has a default")
        }),
        memory: args.get_one::<u64>("memory").expect("it has a default") << 20,
        runtime: tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
        workshop,
    };
    for suite in suites {
        let theirs: &[Daemon] = match suite {
            "cluster" => OURS,
            _ => &[Daemon::KubeApiserver],
        };
        let mut sides: Vec<(&str, &[Daemon])> = vec![("ours", &[])];
        if !ours_alone {
            sides.push(("upstream", theirs));
        }
        let mut figures = match suite {
            "api" => bench.beside(&sides)?,
            _ => bench.one_by_one(suite, &sides)?,
        };
        let upstream = figures.split_off(1).pop().unwrap_or_default();
        let ours = figures.pop().unwrap_or_default();
        let table = report::table(&ours, &upstream);
        println!("{table}");
        if let Some(dir) = args.get_one::<PathBuf>("record") {
            record(dir, suite, profile, &table)?;
        }
    }
    Ok(())
}

impl Bench {
    /// Measures clusters in which these daemons are upstream's, one after the other.
    fn one_by_one(&self, suite: &str, sides: &[(&str, &[Daemon])]) -> anyhow::Result<Vec<Figures>> {
        let measure = |(whose, upstream): &(&str, &[Daemon])| {
            let (spec, _gone) = self.site(whose, upstream)?;
            let figures = match suite {
                "store" => self.store(spec, whose),
                _ => self.cluster(spec, whose),
            };
            figures.with_context(|| format!("{suite}, {whose}"))
        };
        sides.iter().map(measure).collect()
    }

    /// Where a cluster stands in which `upstream` are upstream's. It is gone with what comes with it.
    fn site(&self, whose: &str, upstream: &[Daemon]) -> anyhow::Result<(Spec, Gone)> {
        let dir = std::path::absolute(self.dir.join(whose))?;
        // What an earlier run left, which may have been ended at any point.
        if dir.exists() && cluster::down(&dir, false).is_err() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let spec = Spec {
            nodes: 2,
            checked: false,
            upstream: upstream.into(),
            images: self.images.clone(),
            ..self.workshop.spec(&dir, &self.launcher)
        };
        Ok((spec, Gone(dir)))
    }

    /// Measures API servers by turns.
    fn beside(&self, sides: &[(&str, &[Daemon])]) -> anyhow::Result<Vec<Figures>> {
        let turns = Turns::default();
        let mut stand = Vec::new();
        for (whose, upstream) in sides {
            let (spec, gone) = self.site(whose, upstream)?;
            let mut figures = Figures::default();
            let cluster = Cluster::up_api_server(spec, Progress::Screen)?;
            // The first start also makes what a new cluster contains.
            let starts = (0..3)
                .map(|_| restart(&cluster))
                .collect::<Result<Vec<_>, _>>()?;
            let fastest = starts.iter().min().copied().unwrap_or_default();
            figures.add("start to /readyz", "ms", fastest.as_secs_f64() * 1000.0);
            let target = Target::of(&cluster)?;
            let place = || Place::among(&turns, vec![target.server, target.etcd]);
            let target = Target {
                samples: self.samples.clone().filter(|_| *whose == "ours"),
                place: (sides.len() > 1).then(|| Arc::new(place())),
                ..target
            };
            stand.push((*whose, target, figures, (cluster, gone)));
        }
        let runs = stand
            .into_iter()
            .map(|(whose, target, mut figures, gone)| async move {
                let tell = |what: &str| eprintln!("  {whose}: {what}");
                let only = self.only.as_deref();
                let ran = api::run(&target, self.size, only, &mut figures, &tell).await;
                ran.with_context(|| format!("api, {whose}"))?;
                Ok::<_, anyhow::Error>((figures, gone))
            });
        let (figures, _gone): (Vec<_>, Vec<_>) = self
            .runtime
            .block_on(try_join_all(runs))?
            .into_iter()
            .unzip();
        Ok(figures)
    }

    fn store(&self, spec: Spec, whose: &str) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let cluster = Cluster::up_api_server(spec, Progress::Screen)?;
        cluster.limit_memory(None, self.memory)?;
        store::allow_many_connections();
        let tell = |what: &str| eprintln!("  {whose}: {what}");
        let run = store::run(&cluster, self.sizes, &mut figures, &tell);
        // What was measured before one of them broke is worth as much.
        if let Err(failure) = self.runtime.block_on(run) {
            eprintln!("  {whose}: {:#}", anyhow::Error::from(failure));
        }
        Ok(figures)
    }

    fn cluster(&self, spec: Spec, whose: &str) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let cluster = Cluster::up(spec, Progress::Screen)?;
        let target = Target::of(&cluster)?;
        let tell = |what: &str| eprintln!("  {whose}: {what}");
        self.runtime.block_on(async {
            nodes::idle(&cluster, &mut figures, &tell).await;
            nodes::pods(&target, &mut figures, &tell).await
        })?;
        Ok(figures)
    }
}

/// Takes a cluster away when it goes.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        // What is left of it tells less than why there are no figures, and the next run takes it away.
        if let Err(error) = cluster::down(&self.0, false) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// Ends the API server and starts it again; how long until it was ready.
fn restart(cluster: &Cluster) -> anyhow::Result<Duration> {
    cluster.stop(None, Daemon::KubeApiserver)?;
    let start = std::time::Instant::now();
    cluster.start(None, Daemon::KubeApiserver)?;
    Ok(start.elapsed())
}

fn record(dir: &Path, suite: &str, profile: &str, table: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("{suite}.md"));
    let what = SUITES
        .iter()
        .find(|(name, _)| *name == suite)
        .map_or("", |(_, what)| what);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!(
        "# Figures: {what}\n\nWritten by `hack/bench {suite}` on a machine with {cores} cores that load, etcd and server share; ours built with the {profile} profile.\n\n{table}"
    );
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}
