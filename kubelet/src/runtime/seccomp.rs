//! Seccomp profiles, and their compiled filters on disk.
//!
//! Owns: the `RuntimeDefault` profile and a directory of filters named by the hash of what they were
//! compiled from. A filter is compiled once, by the helper (`libseccomp` takes 6 ms), and used by every
//! create and exec after.

mod default;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::container::SecurityProfile;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("seccomp profile {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("seccomp profile {} is empty", .0.display())]
    Empty(PathBuf),
    #[error("compile seccomp profile: {0}")]
    Compile(String),
}

/// The profile of a container in the form of the OCI specification; `None` if it is unconfined.
/// `capabilities` is its bounding set, names without `CAP_`.
///
/// # Errors
/// If the profile is a file that cannot be read, or an empty one: that would be no confinement at all
/// (CVE-2023-2431).
pub fn profile(of: &SecurityProfile, capabilities: &[&str]) -> Result<Option<Vec<u8>>, Error> {
    match of {
        SecurityProfile::Unconfined => Ok(None),
        SecurityProfile::RuntimeDefault => Ok(Some(runtime_default(capabilities))),
        SecurityProfile::Localhost(path) => {
            let path = PathBuf::from(path);
            let text = fs::read(&path).map_err(|source| Error::File {
                path: path.clone(),
                source,
            })?;
            if text.iter().all(u8::is_ascii_whitespace) {
                return Err(Error::Empty(path));
            }
            Ok(Some(text))
        }
    }
}

fn runtime_default(capabilities: &[&str]) -> Vec<u8> {
    static PLAIN: OnceLock<Vec<u8>> = OnceLock::new();
    let build = || {
        default_profile(std::env::consts::ARCH, capabilities)
            .to_string()
            .into_bytes()
    };
    // Most containers have the same few capabilities, none of which but one changes the profile.
    if capabilities == crate::runtime::spec::DEFAULT_CAPABILITIES {
        PLAIN.get_or_init(build).clone()
    } else {
        build()
    }
}

fn default_profile(architecture: &str, capabilities: &[&str]) -> Value {
    let words = |names: &'static str| names.split_ascii_whitespace();
    let mut allowed: Vec<&str> = words(default::ALLOWED).collect();
    let of_arch = default::BY_ARCHITECTURE
        .iter()
        .filter(|(name, _)| *name == architecture);
    let of_caps = default::BY_CAPABILITY
        .iter()
        .filter(|(name, _)| capabilities.contains(name));
    allowed.extend(of_arch.chain(of_caps).flat_map(|(_, names)| words(names)));

    let rule = |names: &[&str], args: Value| json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args });
    let mut rules = vec![rule(&allowed, json!([]))];
    rules.push(rule(
        &["socket"],
        json!([{ "index": 0, "value": default::NO_SOCKET_FAMILY, "op": "SCMP_CMP_NE" }]),
    ));
    rules.extend(default::PERSONALITIES.iter().map(|value| {
        rule(
            &["personality"],
            json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]),
        )
    }));
    if !capabilities.contains(&"SYS_ADMIN") {
        let index = if architecture == "s390x" { 1 } else { 0 };
        let flags = default::NAMESPACE_FLAGS;
        rules.push(rule(
            &["clone"],
            json!([{ "index": index, "value": flags, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]),
        ));
        // Its flags are in memory, out of a filter's sight. Programs fall back to clone on ENOSYS only.
        rules.push(json!({
            "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS, "args": [],
        }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": architectures(architecture),
        "syscalls": rules,
    })
}

/// The machine's architecture with those whose programs it runs as well.
fn architectures(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"],
        "s390x" => &["SCMP_ARCH_S390", "SCMP_ARCH_S390X"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        _ => &[],
    }
}

/// Compiled filters on disk.
#[derive(Clone, Debug)]
pub struct Filters {
    dir: PathBuf,
}

impl Filters {
    /// Filters in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// The filter of a profile, compiled by `compile(profile file, filter file)` if it is not there yet.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub fn get(
        &self,
        profile: &[u8],
        compile: impl FnOnce(&Path, &Path) -> Result<(), String>,
    ) -> Result<PathBuf, Error> {
        let mut hash = Sha256::new();
        // Another version may compile differently.
        hash.update(concat!(env!("CARGO_PKG_VERSION"), "\0"));
        hash.update(profile);
        let name: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let filter = self.dir.join(format!("{name}.bpf"));
        if filter.exists() {
            return Ok(filter);
        }
        // Others may compile the same at this moment.
        let source = self
            .dir
            .join(format!("{name}.{:016x}.json", rand::random::<u64>()));
        fs::write(&source, profile).map_err(|error| Error::File {
            path: source.clone(),
            source: error,
        })?;
        let compiled = compile(&source, &filter).map_err(Error::Compile);
        let _ = fs::remove_file(&source);
        compiled.map(|()| filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &Value) -> Vec<&str> {
        let rules = profile["syscalls"].as_array().unwrap();
        rules
            .iter()
            .flat_map(|r| r["names"].as_array().unwrap())
            .map(|n| n.as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_capability_opens_its_calls_and_no_others() {
        let plain = default_profile("x86_64", &["CHOWN"]);
        assert!(!names(&plain).contains(&"mount"));
        assert!(!names(&plain).contains(&"chroot"));
        assert!(names(&plain).contains(&"clone3"), "with ENOSYS");
        let admin = default_profile("x86_64", &["SYS_ADMIN"]);
        assert!(names(&admin).contains(&"mount"));
        assert!(!admin.to_string().contains("errnoRet"));
    }

    #[test]
    fn what_breaks_out_of_containers_is_never_allowed_by_default() {
        let profile = default_profile("x86_64", crate::runtime::spec::DEFAULT_CAPABILITIES);
        for call in [
            "kexec_load",
            "init_module",
            "keyctl",
            "add_key",
            "userfaultfd",
            "io_uring_setup",
        ] {
            assert!(!names(&profile).contains(&call), "{call}");
        }
    }

    #[test]
    fn an_empty_profile_is_an_error_and_not_unconfined() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, " \n").unwrap();
        let path = file.path().display().to_string();
        let read = profile(&SecurityProfile::Localhost(path), &[]);
        assert!(matches!(read, Err(Error::Empty(_))));
    }
}
