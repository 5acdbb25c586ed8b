//! The kube-controller-manager binary.

fn main() -> std::process::ExitCode {
    component::daemon::run::<controller_manager::daemon::ControllerManager>()
}
