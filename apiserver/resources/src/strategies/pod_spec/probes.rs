//! Probes and hooks of a container: one action each, and that one complete.
//!
//! Upstream: `validateLifecycle`, `validateProbe` and below.

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::view::core_v1::{Container, PodSpec, Probe};
use proto::view::{Node, View};

use super::volumes::at;
use crate::rules;

const SCHEMES: [&str; 2] = ["HTTP", "HTTPS"];
const PROTOCOLS: [&str; 2] = ["HTTP1", "HTTP2"];
const GRPC_MODES: [&str; 2] = ["Plaintext", "TLS"];
const SIGNALS_OF_WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];
/// Sorted, as upstream shows them.
const SIGNALS_OF_LINUX: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// Hooks and probes of a container that runs as long as its pod.
pub(super) fn of_container(e: &mut Errors<'_>, container: Container<'_>, spec: PodSpec<'_>) {
    let grace = spec.termination_grace_period_seconds();
    if let Some(lifecycle) = container.lifecycle() {
        let hooks = [lifecycle.post_start(), lifecycle.pre_stop()];
        for hook in hooks.into_iter().flatten() {
            let actions = [Action::Exec, Action::Http, Action::Tcp, Action::Sleep];
            handler(e, hook.node(), &actions, grace);
        }
        if let Some(signal) = lifecycle.stop_signal() {
            stop_signal(e, Spot::of(lifecycle).field(n::STOP_SIGNAL), signal, spec);
        }
    }
    if let Some(live) = container.liveness_probe() {
        probe(e, live, grace);
        once(e, live);
    }
    if let Some(ready) = container.readiness_probe() {
        probe(e, ready, grace);
        if let Some(seconds) = ready.termination_grace_period_seconds() {
            let field = Spot::of(ready).field(n::TERMINATION_GRACE_PERIOD_SECONDS);
            e.invalid(field, seconds, "must not be set for readinessProbes");
        }
    }
    if let Some(started) = container.startup_probe() {
        probe(e, started, grace);
        once(e, started);
    }
}

/// One success is enough where no other is waited for.
fn once(e: &mut Errors<'_>, probe: Probe<'_>) {
    let successes = probe.success_threshold();
    if successes != 1 {
        e.invalid(
            Spot::of(probe).field(n::SUCCESS_THRESHOLD),
            successes,
            "must be 1",
        );
    }
}

fn probe(e: &mut Errors<'_>, probe: Probe<'_>, grace: Option<i64>) {
    let actions = [Action::Exec, Action::Http, Action::Tcp, Action::Grpc];
    handler(e, probe.node(), &actions, grace);
    for field in [
        n::INITIAL_DELAY_SECONDS,
        n::TIMEOUT_SECONDS,
        n::PERIOD_SECONDS,
        n::SUCCESS_THRESHOLD,
        n::FAILURE_THRESHOLD,
    ] {
        rules::not_negative(e, probe, field);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds()
        && seconds <= 0
    {
        let field = Spot::of(probe).field(n::TERMINATION_GRACE_PERIOD_SECONDS);
        e.invalid(field, seconds, "must be greater than 0");
    }
}

#[derive(Clone, Copy)]
enum Action {
    Exec,
    Http,
    Tcp,
    Grpc,
    Sleep,
}

impl Action {
    fn field(self) -> NameId {
        match self {
            Self::Exec => n::EXEC,
            Self::Http => n::HTTP_GET,
            Self::Tcp => n::TCP_SOCKET,
            Self::Grpc => n::GRPC,
            Self::Sleep => n::SLEEP,
        }
    }
}

/// Exactly one action.
fn handler(e: &mut Errors<'_>, owner: Node<'_>, actions: &[Action], grace: Option<i64>) {
    let mut found = false;
    for action in actions {
        let Some(node) = owner.get(action.field()).map(Node::new) else {
            continue;
        };
        if found {
            let field = at(owner).field(action.field());
            e.forbidden(field, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match action {
            Action::Exec => {
                if node.items(n::COMMAND).is_empty() {
                    e.required(at(node).field(n::COMMAND), "");
                }
            }
            Action::Http => http(e, node),
            Action::Tcp => port(e, node),
            Action::Grpc => {
                let number = node.int(n::PORT);
                e.invalid_each(
                    at(node).field(n::PORT),
                    number,
                    names::port_number_problems(number),
                );
                if let Some(mode) = node.opt_str(n::MODE) {
                    rules::known(e, at(node).field(n::MODE), mode, &GRPC_MODES);
                }
            }
            Action::Sleep => sleep(e, node, grace),
        }
    }
    if !found {
        e.required(at(owner), "must specify a handler type");
    }
}

fn port(e: &mut Errors<'_>, node: Node<'_>) {
    rules::port_or_name(e, proto::view::core_v1::TCPSocketAction::of(node), n::PORT);
}

fn sleep(e: &mut Errors<'_>, node: Node<'_>, grace: Option<i64>) {
    let seconds = node.int(n::SECONDS);
    // Without a grace period something else is wrong already.
    if let Some(grace) = grace
        && !(0..=grace).contains(&seconds)
    {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        e.invalid(at(node), seconds, detail);
    }
}

fn http(e: &mut Errors<'_>, node: Node<'_>) {
    if node.str(n::PATH).is_empty() {
        e.required(at(node).field(n::PATH), "");
    }
    port(e, node);
    let scheme = node.str(n::SCHEME);
    rules::known(e, at(node).field(n::SCHEME), scheme, &SCHEMES);
    for header in node.items(n::HTTP_HEADERS).iter().map(Node::new) {
        // Upstream says it of the list.
        let name = header.str(n::NAME);
        let problems = names::http_header_name_problems(name);
        e.invalid_each(at(node).field(n::HTTP_HEADERS), name, problems);
    }
    let Some(protocol) = node.opt_str(n::PROTOCOL) else {
        return;
    };
    let field = at(node).field(n::PROTOCOL);
    if protocol == "HTTP2" && scheme != "HTTP" {
        e.invalid(field, Named(protocol), "is only supported with HTTP (H2C)");
    } else if protocol == "HTTP2" && !node.str(n::HOST).is_empty() {
        let detail = "must be empty when `protocol` is \"HTTP2\"";
        e.invalid(at(node).field(n::HOST), node.str(n::HOST), detail);
    } else {
        rules::known(e, field, protocol, &PROTOCOLS);
    }
}

fn stop_signal(e: &mut Errors<'_>, at: Spot<'_>, signal: &str, spec: PodSpec<'_>) {
    match spec.os().map(|os| os.name()) {
        None => e.forbidden(
            at,
            "may not be set for containers with empty `spec.os.name`",
        ),
        Some("windows") => rules::known(e, at, signal, &SIGNALS_OF_WINDOWS),
        Some("linux") => rules::known(e, at, signal, &SIGNALS_OF_LINUX),
        Some(_) => {}
    }
}
