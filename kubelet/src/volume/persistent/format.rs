//! File systems on devices: upstream's `mount-utils.SafeFormatAndMount`.
//!
//! The programs of the file systems make and check them; mounting is the kernel's.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::sys::mount::{self, Options};

#[derive(thiserror::Error, Debug)]
pub(super) enum Error {
    #[error("{program}: {source}")]
    Run { program: String, source: io::Error },
    #[error("{program} failed with {status}: {said}")]
    Program {
        program: String,
        status: String,
        said: String,
    },
    #[error("cannot mount unformatted disk {0} as it is in read-only mode")]
    Unformatted(String),
    #[error("'fsck' found errors on device {device} but could not correct them: {said}")]
    Broken { device: String, said: String },
    #[error("device {device} has {found:?}, no file system of type {wanted:?}: {source}")]
    Other {
        device: String,
        found: String,
        wanted: String,
        source: Box<mount::Error>,
    },
    #[error("unknown file system {0:?}")]
    Unknown(String),
    #[error(transparent)]
    Mount(#[from] mount::Error),
}

/// Mounts a device. One without any file system gets one; one with another is tried as it is asked for,
/// and never formatted.
pub(super) fn mount(
    device: &Path,
    target: &Path,
    file_system: &str,
    options: &Options,
) -> Result<(), Error> {
    if file_system.is_empty() || !file_system.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Error::Unknown(file_system.to_owned()));
    }
    let read_only = options.is_read_only();
    let found = content(device)?;
    if found.is_empty() {
        if read_only {
            return Err(Error::Unformatted(device.display().to_string()));
        }
        format(device, file_system)?;
    } else if found == file_system && file_system.starts_with("ext") && !read_only {
        check(device)?;
    }
    let mounted = mount::device(file_system, device, options).and_then(|fs| fs.attach(target));
    mounted.map_err(|source| match found.is_empty() || found == file_system {
        true => source.into(),
        false => Error::Other {
            device: device.display().to_string(),
            found,
            wanted: file_system.to_owned(),
            source: source.into(),
        },
    })
}

fn run(program: &str, args: &[&str], device: &Path) -> Result<Output, Error> {
    let output = Command::new(program).args(args).arg(device).output();
    output.map_err(|source| Error::Run {
        program: program.to_owned(),
        source,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn failed(program: &str, output: &Output) -> Error {
    let status = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    Error::Program {
        program: program.to_owned(),
        status,
        said: [text(&output.stdout), text(&output.stderr)].join(" "),
    }
}

/// The type of the file system on a device, or that it has partitions; empty if it has nothing.
fn content(device: &Path) -> Result<String, Error> {
    /// That nothing was found.
    const NOTHING: i32 = 2;
    let args = ["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export"];
    let output = run("blkid", &args, device)?;
    match output.status.code() {
        Some(0) => Ok(parse(&text(&output.stdout))),
        Some(NOTHING) => Ok(String::new()),
        _ => Err(failed("blkid", &output)),
    }
}

fn parse(said: &str) -> String {
    let value = |key: &str| {
        let mut lines = said.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    match (value("TYPE"), value("PTTYPE")) {
        (_, Some(table)) if !table.is_empty() => "unknown data, probably partitions".to_owned(),
        (Some(found), _) => found.to_owned(),
        _ => String::new(),
    }
}

fn format(device: &Path, file_system: &str) -> Result<(), Error> {
    let args: &[&str] = match file_system {
        // No blocks are kept back for root.
        "ext3" | "ext4" => &["-F", "-m0"],
        "xfs" => &["-f"],
        _ => &[],
    };
    let program = format!("mkfs.{file_system}");
    let path = device.display();
    tracing::info!(%path, file_system, "Disk appears to be unformatted, making a file system");
    let output = run(&program, args, device)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&program, &output)),
    }
}

fn check(device: &Path) -> Result<(), Error> {
    /// Errors were found and corrected.
    const CORRECTED: i32 = 1;
    /// Errors were found and are still there.
    const UNCORRECTED: i32 = 4;
    let output = match run("fsck", &["-a"], device) {
        // Upstream goes on without it, too.
        Err(Error::Run { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            tracing::warn!("fsck is not there, a device is mounted unchecked");
            return Ok(());
        }
        output => output?,
    };
    let path = device.display();
    match output.status.code() {
        Some(0) => {}
        Some(CORRECTED) => tracing::info!(%path, "Device has errors which were corrected by fsck"),
        Some(UNCORRECTED) => {
            return Err(Error::Broken {
                device: path.to_string(),
                said: text(&output.stdout),
            });
        }
        _ => tracing::info!(%path, said = text(&output.stdout), "fsck could not check a device"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_no_empty_device() {
        assert_eq!(parse("DEVNAME=/dev/x\nTYPE=ext4"), "ext4");
        assert!(parse("DEVNAME=/dev/x\nPTTYPE=dos").contains("partitions"));
        assert_eq!(parse("DEVNAME=/dev/x"), "");
    }

    #[test]
    fn a_file_system_is_a_plain_word() {
        for bad in ["", "ext4 -x", "../ext4"] {
            let refused = mount(
                Path::new("/none"),
                Path::new("/none"),
                bad,
                &Options::default(),
            );
            assert!(matches!(refused, Err(Error::Unknown(_))), "{bad:?}");
        }
    }
}
