//! The kube-scheduler binary.

fn main() -> std::process::ExitCode {
    component::daemon::run::<scheduler::daemon::Scheduler>()
}
