//! The kubelet binary.

fn main() -> std::process::ExitCode {
    component::daemon::run::<kubelet::daemon::Kubelet>()
}
