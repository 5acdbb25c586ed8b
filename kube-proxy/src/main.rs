//! The kube-proxy binary.

fn main() -> std::process::ExitCode {
    component::daemon::run::<kube_proxy::daemon::KubeProxy>()
}
