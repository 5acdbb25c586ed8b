//! kube-apiserver.

fn main() -> std::process::ExitCode {
    component::daemon::run::<apiserver::ApiServer>()
}
