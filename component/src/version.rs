//! What this build says it is.

use serde::Serialize;

/// The Kubernetes version whose behaviour this build has.
pub const KUBERNETES: &str = "v1.37.1";

/// `/version`, as `k8s.io/apimachinery/pkg/version.Info` prints it. Clients compare the first three
/// fields; the rest says which build it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub major: &'static str,
    pub minor: &'static str,
    pub emulation_major: String,
    pub emulation_minor: String,
    pub min_compatibility_major: String,
    pub min_compatibility_minor: String,
    pub git_version: &'static str,
    pub git_commit: &'static str,
    pub git_tree_state: &'static str,
    pub build_date: &'static str,
    /// The name is the protocol's; the value names our compiler.
    pub go_version: &'static str,
    pub compiler: &'static str,
    pub platform: String,
}

/// The commit that the build was made from, where the build knows it.
pub const COMMIT: &str = match option_env!("NAVARCH_COMMIT") {
    Some(commit) => commit,
    None => "$Format:%H$",
};

/// What this build is.
#[must_use]
pub fn info() -> Info {
    Info {
        major: "1",
        minor: "37",
        emulation_major: "1".to_owned(),
        emulation_minor: "37".to_owned(),
        min_compatibility_major: "1".to_owned(),
        min_compatibility_minor: "36".to_owned(),
        git_version: KUBERNETES,
        git_commit: COMMIT,
        git_tree_state: "",
        build_date: option_env!("NAVARCH_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        go_version: concat!("navarch-", env!("CARGO_PKG_VERSION")),
        compiler: "rustc",
        platform: platform(),
    }
}

/// Operating system and architecture in Go's words: `linux/amd64`.
#[must_use]
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// The `User-Agent` of a daemon, in the shape that upstream's daemons send:
/// `kube-scheduler/v1.37.1 (linux/amd64) kubernetes/0123456`.
#[must_use]
pub fn user_agent(daemon: &str) -> String {
    let commit = COMMIT.get(..7).unwrap_or(COMMIT);
    format!("{daemon}/{KUBERNETES} ({}) kubernetes/{commit}", platform())
}
