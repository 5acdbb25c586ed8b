//! Becoming a process of a container: the last step of create and exec alike.
//!
//! Starts as root in the container's namespaces and root file system; ends as the program, with exactly
//! the user, groups, capabilities, filter, environment and directory that the specification says.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

use crate::error::Error;
use crate::seccomp::Filter;
use crate::sys::{self, CapabilitySets};

#[derive(Clone)]
pub(crate) struct Identity {
    args: Vec<String>,
    env: Vec<String>,
    cwd: PathBuf,
    make_cwd: bool,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    capabilities: CapabilitySets,
    no_new_privileges: bool,
    filter: Option<Filter>,
    apparmor: Option<String>,
}

impl Identity {
    pub(crate) fn of(process: &Process, filter: Option<Filter>) -> Result<Self, Error> {
        let user = process.user();
        Ok(Self {
            args: process.args().clone().unwrap_or_default(),
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().clone(),
            make_cwd: false,
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: user.umask().unwrap_or(0o022),
            capabilities: process
                .capabilities()
                .as_ref()
                .map(sets)
                .unwrap_or_default(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter,
            apparmor: process
                .apparmor_profile()
                .clone()
                .filter(|name| !name.is_empty()),
        })
    }

    /// Makes a working directory that is missing, as runtimes do when they create.
    pub(crate) fn making_working_dir(mut self) -> Self {
        self.make_cwd = true;
        self
    }

    /// The same process with another command.
    pub(crate) fn running(mut self, command: &[String]) -> Self {
        self.args = command.to_vec();
        self
    }

    /// The same with a variable set.
    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        let prefix = format!("{name}=");
        self.env.retain(|entry| !entry.starts_with(&prefix));
        self.env.push(prefix + value);
        self
    }

    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Becomes the program. Returns only why it could not.
    pub(crate) fn run(&self) -> Error {
        let (env, program) = match self.prepare() {
            Ok(env) => (env, self.args.first()),
            Err(error) => return error,
        };
        match program {
            Some(program) => self.exec(program, &env),
            None => Error::Spec("no command".into()),
        }
    }

    fn prepare(&self) -> Result<Vec<String>, Error> {
        sys::set_umask(self.umask);
        sys::give_streams_to(self.uid);
        let entered = self.enter_working_dir()?;
        if let Some(profile) = &self.apparmor {
            sys::set_apparmor(profile).map_err(Error::doing("AppArmor profile"))?;
        }
        let env = self.environment();
        let doing = Error::doing;
        sys::set_user(self.uid, self.gid, &self.groups).map_err(doing("changing the user"))?;
        sys::limit_bounding(self.capabilities.bounding).map_err(doing("bounding capabilities"))?;
        if let (Some(filter), false) = (&self.filter, self.no_new_privileges) {
            // Needs a capability that the process may lose now.
            filter.install().map_err(doing("seccomp filter"))?;
        }
        sys::set_capabilities(&self.capabilities).map_err(doing("capabilities"))?;
        if !entered {
            let root = sys::open_root(Path::new("/"));
            let dir = root.and_then(|root| sys::open_dir(&root, &self.cwd, false));
            dir.and_then(|dir| sys::enter_dir(&dir))
                .map_err(Error::at(&self.cwd))?;
        }
        // A directory outside of the root file system has no name (CVE-2024-21626).
        match std::env::current_dir() {
            Ok(path) if path.is_absolute() => {}
            _ => {
                return Err(Error::Spec(
                    "the working directory is outside of the container".into(),
                ));
            }
        }
        sys::reset_signals();
        if self.no_new_privileges {
            sys::set_no_new_privileges().map_err(doing("no new privileges"))?;
            if let Some(filter) = &self.filter {
                filter.install().map_err(doing("seccomp filter"))?;
            }
        }
        Ok(env)
    }

    /// Whether it could be entered; if not, the user itself may be able to.
    fn enter_working_dir(&self) -> Result<bool, Error> {
        let root = sys::open_root(Path::new("/"));
        let entered = root.and_then(|root| sys::open_dir(&root, &self.cwd, self.make_cwd));
        match entered.and_then(|dir| sys::enter_dir(&dir)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(cause) => Err(Error::File {
                path: self.cwd.clone(),
                cause,
            }),
        }
    }

    /// With `HOME`, as runtimes add it.
    fn environment(&self) -> Vec<String> {
        let mut env = self.env.clone();
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            let passwd = read_passwd().unwrap_or_default();
            env.push(format!("HOME={}", home(&passwd, self.uid)));
        }
        env
    }

    /// Runs the program, looked for as a shell does. The words of the errors are runc's: people and
    /// tests look for them.
    fn exec(&self, program: &str, env: &[String]) -> Error {
        let failed = |why: String| Error::Program {
            program: program.into(),
            why,
        };
        let strings = |all: &[String]| all.iter().map(|s| CString::new(s.as_str())).collect();
        let (args, env_strings): (Vec<CString>, Vec<CString>) =
            match (strings(&self.args), strings(env)) {
                (Ok(args), Ok(env)) => (args, env),
                _ => return failed("argument with a zero byte".into()),
            };
        if program.contains('/') {
            let error = sys::exec(Path::new(program), &args, &env_strings);
            return match error.kind() {
                io::ErrorKind::NotFound => {
                    failed(format!("stat {program}: no such file or directory"))
                }
                _ => failed(words(&error)),
            };
        }
        let path = env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or_default();
        let mut denied = None;
        for dir in path.split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            let error = sys::exec(&Path::new(dir).join(program), &args, &env_strings);
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                io::ErrorKind::PermissionDenied => denied = Some(error),
                _ => return failed(words(&error)),
            }
        }
        match denied {
            Some(error) => failed(words(&error)),
            None => failed("executable file not found in $PATH".into()),
        }
    }
}

/// The kernel's word for an error, in the case of other runtimes.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// The container's user database. The image is not trusted: it may be a pipe, or endless.
fn read_passwd() -> io::Result<String> {
    const MOST: u64 = 4 << 20;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/etc/passwd")?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn home(passwd: &str, uid: u32) -> &str {
    let of = |line: &'_ str| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid);
    let line = passwd.lines().find(|line| of(line));
    let home = line
        .and_then(|line| line.split(':').nth(5))
        .filter(|home| !home.is_empty());
    home.unwrap_or(if uid == 0 { "/root" } else { "/" })
}

fn sets(capabilities: &LinuxCapabilities) -> CapabilitySets {
    let mask = |set: &Option<std::collections::HashSet<Capability>>| {
        let numbers = set.iter().flatten().filter_map(|capability| {
            let name = serde_json::to_value(capability).ok()?;
            shim::capability::number(name.as_str()?)
        });
        numbers.fold(0, |mask, number| mask | 1 << number)
    };
    CapabilitySets {
        bounding: mask(capabilities.bounding()),
        effective: mask(capabilities.effective()),
        permitted: mask(capabilities.permitted()),
        inheritable: mask(capabilities.inheritable()),
        ambient: mask(capabilities.ambient()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\nodd:x:7:7::\n";

    #[test]
    fn home_is_what_the_user_database_says() {
        assert_eq!(home(PASSWD, 33), "/var/www");
        assert_eq!(home(PASSWD, 7), "/");
        assert_eq!(home(PASSWD, 99), "/");
        assert_eq!(home("", 0), "/root");
    }

    #[test]
    fn every_capability_of_the_specification_has_a_number() {
        let all: std::collections::HashSet<Capability> = shim::capability::NAMES
            .iter()
            .map(|name| serde_json::from_value(serde_json::json!(format!("CAP_{name}"))).unwrap())
            .collect();
        let mut capabilities = LinuxCapabilities::default();
        capabilities.set_bounding(Some(all)).set_effective(None);
        let sets = sets(&capabilities);
        assert_eq!(sets.bounding, (1 << 41) - 1);
        assert_eq!(sets.effective, 0);
    }
}
