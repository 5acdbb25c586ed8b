//! Extended attributes of a name in a directory, never through a symbolic link.
#![allow(unsafe_code, reason = "the xattr system calls have no safe wrapper")]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::open::proc_path;

/// Sets `key` of `name` in `dir`.
pub fn set(dir: impl AsFd, name: &OsStr, key: &[u8], value: &[u8]) -> io::Result<()> {
    let path = cstring(proc_path(dir).join(name).as_os_str().as_bytes())?;
    let key = cstring(key)?;
    // SAFETY: lsetxattr(2) reads two C strings and `value.len()` bytes of `value`.
    let done = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            key.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The value of `key` of the file at `path`, if it has it and at most 64 KiB of it.
pub fn get(path: &Path, key: &str) -> io::Result<Option<Vec<u8>>> {
    let (path, key) = (
        cstring(path.as_os_str().as_bytes())?,
        cstring(key.as_bytes())?,
    );
    let mut value = vec![0u8; 64 * 1024];
    // SAFETY: lgetxattr(2) reads two C strings and writes at most `value.len()` bytes.
    let n = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            key.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    if n >= 0 {
        value.truncate(n as usize);
        return Ok(Some(value));
    }
    match io::Error::last_os_error() {
        err if err.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        err => Err(err),
    }
}

fn cstring(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}
