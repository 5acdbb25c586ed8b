//! Starting helpers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use shim::protocol::helper_fd;

use crate::sys;

/// Above every number that a helper is given.
const ASIDE: i32 = 100;

/// A helper that was started.
pub(crate) struct Helper {
    pub(crate) pid: i32,
    /// The shim's end of the socket on which it reports.
    pub(crate) report: UnixStream,
}

/// Runs the helper's image with these arguments and descriptors at these numbers; standard streams that
/// are not among them are `/dev/null`.
pub(crate) fn helper(
    image: &OwnedFd,
    args: &[String],
    fds: &[(&OwnedFd, i32)],
) -> io::Result<Helper> {
    let args = args
        .iter()
        .map(|arg| {
            CString::new(arg.as_str()).map_err(|_| io::Error::other("argument with a zero byte"))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let null: OwnedFd = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into();
    let (report, other) = UnixStream::pair()?;
    let other = OwnedFd::from(other);
    let mut wanted = vec![
        (&null, 0),
        (&null, 1),
        (&null, 2),
        (&other, helper_fd::REPORT),
    ];
    wanted.retain(|(_, place)| !fds.iter().any(|(_, taken)| taken == place));
    wanted.extend_from_slice(fds);
    let pid = sys::fork()?;
    if pid == 0 {
        let error = become_helper(image, &args, &wanted);
        eprintln!("starting helper: {error}");
        sys::exit_now(126);
    }
    Ok(Helper { pid, report })
}

/// In the child: places the descriptors, through numbers where they cannot be in each other's way.
fn become_helper(image: &OwnedFd, args: &[CString], fds: &[(&OwnedFd, i32)]) -> io::Error {
    let prepare = || -> io::Result<OwnedFd> {
        sys::reset_signals();
        let image = sys::duplicate_from(image.as_fd(), ASIDE)?;
        let aside = fds
            .iter()
            .map(|(fd, place)| Ok((sys::duplicate_from(fd.as_fd(), ASIDE)?, *place)))
            .collect::<io::Result<Vec<_>>>()?;
        for (fd, place) in aside {
            sys::place(fd.as_fd(), place)?;
        }
        Ok(image)
    };
    match prepare() {
        Ok(image) => sys::exec_file(image.as_fd(), args),
        Err(error) => error,
    }
}
