//! The images of shim and helper, in sealed memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Error, at};

pub(super) struct Programs {
    shim: OwnedFd,
    helper: OwnedFd,
}

impl Programs {
    /// Reads both from the directory, or from beside this program.
    pub(super) fn load(dir: Option<&Path>) -> Result<Self, Error> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => beside_this_program()?,
        };
        let load = |name: &str| {
            let path = dir.join(name);
            seal(&path).map_err(at(&path))
        };
        Ok(Self {
            shim: load("navarch-shim")?,
            helper: load("navarch-helper")?,
        })
    }

    /// A command that runs the shim.
    pub(super) fn shim(&self) -> Command {
        Command::new(path_of(&self.shim))
    }

    /// A command that runs the helper.
    pub(super) fn helper(&self) -> Command {
        Command::new(path_of(&self.helper))
    }

    /// The helper's image, to hand over.
    pub(super) fn helper_image(&self) -> Result<OwnedFd, Error> {
        self.helper
            .try_clone()
            .map_err(super::doing("descriptor of the helper"))
    }
}

fn beside_this_program() -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(super::doing("path of this program"))?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_owned())
}

/// The child has the descriptor under the same number until it executes.
fn path_of(image: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", image.as_raw_fd())
}

fn seal(path: &Path) -> io::Result<OwnedFd> {
    let mut file = File::open(path)?;
    let plain = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let executable = plain | MFdFlags::from_bits_retain(libc::MFD_EXEC);
    // Kernels before 6.3 do not know the flag, and let memory files be executed without it.
    let memory =
        memfd_create(c"navarch", executable).or_else(|_| memfd_create(c"navarch", plain))?;
    let mut memory = File::from(memory);
    io::copy(&mut file, &mut memory)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(memory.into())
}
