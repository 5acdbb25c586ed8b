//! A daemon as a process: what it prints, and how it exits.
//!
//! The test's own binary is the daemon when an environment variable says so, hence no harness.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use component::args::{self, Args, Flag, Group};
use component::serving::{Endpoints, Health, Options, Server};
use component::supervisor::Shutdown;
use component::{Daemon, Supervisor, Task, config, daemon};

const STUBBORN: Flag<bool> = Flag::new("stubborn", "false", "Does not stop when asked.");
const BREAKS: Flag<bool> = Flag::new("breaks", "false", "Panics after its start.");

struct Demo {
    logging: config::Logging,
    port: u16,
    stubborn: bool,
    breaks: bool,
}

impl Daemon for Demo {
    const NAME: &'static str = "kube-demo";
    const ABOUT: &'static str = "A daemon for a test.";

    fn flags() -> Vec<Group> {
        let own = Group::new("Demo", &[&STUBBORN, &BREAKS]);
        let serving = args::secure_serving().with_default(&args::SECURE_PORT, "0");
        vec![
            own,
            serving,
            args::logs(),
            args::global(),
            Group::new("Config", &[&args::CONFIG]),
        ]
    }

    fn configure(args: &Args) -> anyhow::Result<Self> {
        if let Some(path) = args.get(&args::CONFIG) {
            anyhow::bail!(
                config::load::<File>(&path)
                    .err()
                    .map_or_else(|| "unexpected".to_owned(), |e| e.to_string())
            );
        }
        Ok(Self {
            logging: config::Logging::from_flags(args),
            port: args.get(&args::SECURE_PORT),
            stubborn: args.get(&STUBBORN),
            breaks: args.get(&BREAKS),
        })
    }

    fn logging(&self) -> &config::Logging {
        &self.logging
    }

    fn shutdown(&self) -> Shutdown {
        Shutdown {
            drain: Duration::from_secs(30),
            ..Shutdown::default()
        }
    }

    async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
        let server = Server::bind(Options::plain(([127, 0, 0, 1], self.port).into()))?;
        println!("{}", server.address());
        let endpoints = Endpoints::open(Health::new(&tasks), component::metrics::Metrics::new());
        let service = tower::service_fn(move |request| {
            let endpoints = endpoints.clone();
            async move { Ok(endpoints.serve(request).await) }
        });
        server.serve(&tasks, Task::Server, "health", service);
        if self.stubborn {
            tasks.spawn_graceful(Task::Worker, "stubborn", |_| std::future::pending::<()>());
        }
        if self.breaks {
            tasks.spawn(Task::Critical, "loop", async {
                let broken: Result<(), std::io::Error> = Err(std::io::Error::other("it broke"));
                broken
            });
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct File {}

impl config::Versioned for File {
    const API_VERSIONS: &'static [&'static str] = &["demo.config.k8s.io/v1"];
    const KIND: &'static str = "DemoConfiguration";
}

const AS_DAEMON: &str = "COMPONENT_TEST_DAEMON";

fn main() -> ExitCode {
    if std::env::var_os(AS_DAEMON).is_some() {
        return daemon::run::<Demo>();
    }
    let tests: [(&str, fn()); 7] = [
        ("bad_usage_is_one_line_and_64", bad_usage_is_one_line_and_64),
        ("help_and_version_are_answers", help_and_version_are_answers),
        (
            "a_bad_configuration_is_one_line_and_64",
            a_bad_configuration_is_one_line_and_64,
        ),
        (
            "a_port_that_is_taken_is_one_line_and_1",
            a_port_that_is_taken_is_one_line_and_1,
        ),
        ("a_signal_ends_it_well", a_signal_ends_it_well),
        (
            "a_second_signal_ends_it_at_once",
            a_second_signal_ends_it_at_once,
        ),
        ("a_broken_task_ends_it_with_1", a_broken_task_ends_it_with_1),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn command(line: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a process knows its binary"));
    command
        .args(line)
        .env(AS_DAEMON, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end: exit code, stdout, stderr.
fn run(line: &[&str]) -> (Option<i32>, String, String) {
    let output = command(line).output().expect("the daemon runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn bad_usage_is_one_line_and_64() {
    let cases = [
        (
            &["--stubborm"][..],
            "kube-demo: unknown flag: --stubborm, did you mean --stubborn?\n",
        ),
        (
            &["--secure-port"],
            "kube-demo: flag needs an argument: --secure-port\n",
        ),
        (
            &["now"],
            "kube-demo: \"kube-demo\" does not take any arguments, got \"now\"\n",
        ),
        (
            &["--feature-gates=Nope=true"],
            "unrecognized feature gate: Nope",
        ),
        (&["--logging-format=xml"], "unsupported log format"),
    ];
    for (line, wanted) in cases {
        let (code, _, said) = run(line);
        assert_eq!(
            (code, said.lines().count()),
            (Some(64), 1),
            "{line:?}: {said}"
        );
        assert!(said.contains(wanted), "{line:?}: {said}");
    }
}

fn help_and_version_are_answers() {
    let (code, said, _) = run(&["--help"]);
    assert!(code == Some(0) && said.contains("--stubborn"), "{said}");
    assert_eq!(
        run(&["--version"]),
        (Some(0), "Kubernetes v1.37.1\n".to_owned(), String::new())
    );
}

fn a_bad_configuration_is_one_line_and_64() {
    let path = std::env::temp_dir().join(format!("component-daemon-{}.yaml", std::process::id()));
    std::fs::write(&path, "apiVersion: v1\nkind: Pod\nspec: {}\n").expect("a temporary file");
    let (code, _, said) = run(&["--config", path.to_str().expect("a plain path")]);
    std::fs::remove_file(&path).expect("it was there");
    assert_eq!((code, said.lines().count()), (Some(64), 1), "{said}");
    assert!(
        said.contains("kind: must be DemoConfiguration") && said.contains("spec: unknown field"),
        "{said}"
    );
    let (code, _, said) = run(&["--config=/does/not/exist"]);
    assert!(
        code == Some(64) && said.contains("cannot read /does/not/exist"),
        "{said}"
    );
}

fn a_port_that_is_taken_is_one_line_and_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let (code, _, said) = run(&[&format!("--secure-port={port}")]);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        last.starts_with("kube-demo: cannot listen on 127.0.0.1:") && last.contains("in use"),
        "{said}"
    );
}

/// A daemon that serves, and its address.
fn serving(line: &[&str]) -> (Child, String) {
    let mut child = command(line).spawn().expect("the daemon starts");
    let mut address = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped"))
        .read_line(&mut address)
        .expect("it prints its address");
    (child, address.trim().to_owned())
}

fn signal(child: &Child, signal: libc::c_int) {
    let pid = i32::try_from(child.id()).expect("a process id");
    let sent = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(sent.success());
}

fn ended(mut child: Child) -> (ExitStatus, String) {
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("it is piped")
        .read_to_string(&mut said)
        .expect("text");
    (child.wait().expect("it ends"), said)
}

fn a_signal_ends_it_well() {
    let (child, address) = serving(&[]);
    assert!(std::net::TcpStream::connect(&address).is_ok(), "{address}");
    signal(&child, libc::SIGTERM);
    let (status, said) = ended(child);
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{said}");
}

fn a_second_signal_ends_it_at_once() {
    let (mut child, _) = serving(&["--stubborn"]);
    signal(&child, libc::SIGINT);
    let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("Shutting down") {
        assert_ne!(log.read_line(&mut said).expect("text"), 0, "{said}");
    }
    assert!(
        child.try_wait().expect("it can be asked").is_none(),
        "it waits for its work"
    );
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

fn a_broken_task_ends_it_with_1() {
    let (child, _) = serving(&["--breaks"]);
    let (status, said) = ended(child);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.ends_with("kube-demo: task loop failed: it broke\n"),
        "{said}"
    );
}
