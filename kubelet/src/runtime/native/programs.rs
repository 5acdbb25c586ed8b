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
    add_seals(&memory)?;
    Ok(memory.into())
}

/// Nobody writes to this file any more, by whatever descriptor.
///
/// `F_SEAL_WRITE` asks moreover that nothing refers to the file's pages at this moment, and fails with `EBUSY` when the
/// kernel itself does (it moves pages about under load: `memfd_wait_for_pins` in Linux' mm/memfd.c). What it guards
/// against are writable mappings from before the seal; this file has had none, so `F_SEAL_FUTURE_WRITE` says as much.
fn add_seals(memory: &File) -> io::Result<()> {
    let shape = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let add = |writing| fcntl(memory, FcntlArg::F_ADD_SEALS(shape | writing));
    // Kernels before 5.1 know only the stronger one.
    add(SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE))
        .or_else(|_| add(SealFlag::F_SEAL_WRITE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_sealed_program_takes_no_writes() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, "#!/bin/true\n").unwrap();
        let image = seal(&program).unwrap();
        assert_eq!(std::fs::read(path_of(&image)).unwrap(), b"#!/bin/true\n");
        // What a container can do that has got hold of the program that entered it.
        let refused = io::ErrorKind::PermissionDenied;
        let mut again = OpenOptions::new()
            .write(true)
            .open(path_of(&image))
            .unwrap();
        assert_eq!(again.write(b"evil").unwrap_err().kind(), refused);
        assert_eq!(again.set_len(0).unwrap_err().kind(), refused);
        assert_eq!(again.set_len(100).unwrap_err().kind(), refused);
        assert_eq!(std::fs::read(path_of(&image)).unwrap(), b"#!/bin/true\n");
    }
}
