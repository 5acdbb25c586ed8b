//! The command line, written by shims and the kubelet only.

use std::path::PathBuf;

use crate::error::Error;

const USAGE: &str = "create --id ID --dir DIR --spec FILE [--seccomp FILE] | \
     exec --pid PID --spec FILE [--seccomp FILE] [--tty WxH] -- COMMAND... | seccomp PROFILE FILTER";

pub(crate) enum Call {
    Create(Create),
    Exec(Exec),
    Seccomp { profile: PathBuf, filter: PathBuf },
}

pub(crate) struct Create {
    pub(crate) id: String,
    /// Where to keep what belongs to the container.
    pub(crate) dir: PathBuf,
    pub(crate) spec: PathBuf,
    /// The compiled filter.
    pub(crate) seccomp: Option<PathBuf>,
}

pub(crate) struct Exec {
    /// The container's first process.
    pub(crate) pid: i32,
    pub(crate) spec: PathBuf,
    pub(crate) seccomp: Option<PathBuf>,
    /// Width and height of the terminal, if there is to be one.
    pub(crate) tty: Option<(u16, u16)>,
    pub(crate) command: Vec<String>,
}

pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Call, Error> {
    read(args).ok_or(Error::Usage(USAGE))
}

fn read(mut args: impl Iterator<Item = String>) -> Option<Call> {
    let what = args.next()?;
    if what == "seccomp" {
        let (profile, filter) = (args.next()?.into(), args.next()?.into());
        return args
            .next()
            .is_none()
            .then_some(Call::Seccomp { profile, filter });
    }
    let (mut id, mut dir, mut spec, mut seccomp, mut pid, mut tty) =
        (None, None, None, None, None, None);
    let mut command = Vec::new();
    while let Some(name) = args.next() {
        if name == "--" {
            command.extend(args.by_ref());
            break;
        }
        let value = args.next()?;
        match name.as_str() {
            "--id" => id = Some(value),
            "--dir" => dir = Some(value.into()),
            "--spec" => spec = Some(value.into()),
            "--seccomp" => seccomp = Some(value.into()),
            "--pid" => pid = Some(value.parse().ok()?),
            "--tty" => {
                let (width, height) = value.split_once('x')?;
                tty = Some((width.parse().ok()?, height.parse().ok()?));
            }
            _ => return None,
        }
    }
    match what.as_str() {
        "create" => Some(Call::Create(Create {
            id: id?,
            dir: dir?,
            spec: spec?,
            seccomp,
        })),
        "exec" if !command.is_empty() => Some(Call::Exec(Exec {
            pid: pid?,
            spec: spec?,
            seccomp,
            tty,
            command,
        })),
        _ => None,
    }
}
