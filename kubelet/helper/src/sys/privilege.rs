//! What a process may do: user and groups, capabilities, filters, profiles.
#![allow(unsafe_code, reason = "the module that speaks to the kernel")]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use super::{check, owned};

/// Becomes this user, keeping all permitted capabilities, and has them in force.
pub(crate) fn set_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length are of one live slice.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setresuid(uid, uid, uid))?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))?;
    }
    let (header, mut sets) = (header(), [0_u32; 6]);
    // SAFETY: the arrays have the layout of version 3: effective, permitted, inheritable, twice.
    unsafe {
        check(libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) as i32)?;
        (sets[0], sets[3]) = (sets[1], sets[4]);
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) as i32)?;
    }
    Ok(())
}

/// `_LINUX_CAPABILITY_VERSION_3`, this process.
const fn header() -> [u32; 2] {
    [0x2008_0522, 0]
}

/// One bit per capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CapabilitySets {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// The capabilities that this kernel knows.
fn known_capabilities() -> u64 {
    let known = |number: &u64| {
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_CAPBSET_READ, *number, 0, 0, 0) >= 0 }
    };
    (0..64)
        .take_while(known)
        .fold(0, |all, number| all | 1 << number)
}

fn bits(set: u64) -> impl Iterator<Item = libc::c_ulong> {
    (0..64).filter(move |number| set >> number & 1 == 1)
}

/// Takes everything else out of the bounding set.
pub(crate) fn limit_bounding(bounding: u64) -> io::Result<()> {
    for capability in bits(known_capabilities() & !bounding) {
        // SAFETY: no memory is passed.
        check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })?;
    }
    Ok(())
}

/// Has exactly these, bounding apart.
pub(crate) fn set_capabilities(wanted: &CapabilitySets) -> io::Result<()> {
    let known = known_capabilities();
    let low = |set: u64| (set & known) as u32;
    let high = |set: u64| ((set & known) >> 32) as u32;
    let CapabilitySets {
        effective,
        permitted,
        inheritable,
        ambient,
        ..
    } = *wanted;
    let sets = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    // SAFETY: the arrays have the layout of version 3; nothing else is passed.
    unsafe {
        check(libc::syscall(libc::SYS_capset, header().as_ptr(), sets.as_ptr()) as i32)?;
        check(libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        ))?;
        for capability in bits(ambient & known) {
            let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
            check(libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0))?;
        }
    }
    Ok(())
}

pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    Ok(())
}

/// Installs a BPF program of this many instructions.
pub(crate) fn install_filter(flags: u32, program: &[u8], instructions: usize) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let program = libc::sock_fprog {
        len: u16::try_from(instructions).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies `len` instructions of 8 bytes out of the live buffer; it does not ask for
    // alignment.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    check(result as i32)?;
    Ok(())
}

/// Loads a program for the devices of a cgroup and attaches it; it stays as long as the cgroup.
pub(crate) fn attach_device_filter(code: &[u64], cgroup: &fs::File) -> io::Result<()> {
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    /// The begin of `union bpf_attr` for loading; the kernel takes the rest as zeros.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        code: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
    }
    #[repr(C)]
    struct Attach {
        cgroup: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
    };
    // SAFETY: the structures have the layout that the kernel reads, with their sizes; the code and the
    // license live through the calls.
    unsafe {
        let program =
            owned(
                libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) as i32,
            )?;
        let attach = Attach {
            cgroup: cgroup.as_raw_fd().cast_unsigned(),
            program: program.as_raw_fd().cast_unsigned(),
            kind: ATTACH_CGROUP_DEVICE,
            flags: ALLOW_MULTI,
        };
        let size = size_of::<Attach>();
        check(libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size) as i32)?;
    }
    Ok(())
}

/// Enters an AppArmor profile with the next exec. Written only to a real procfs: the container could
/// have put something else there.
pub(crate) fn set_apparmor(profile: &str) -> io::Result<()> {
    const PROC_MAGIC: libc::c_long = 0x9fa0;
    let open = |path: &str| fs::OpenOptions::new().write(true).open(path);
    let mut file =
        open("/proc/self/attr/apparmor/exec").or_else(|_| open("/proc/self/attr/exec"))?;
    // SAFETY: statfs is plain data, filled by the call.
    let system = unsafe {
        let mut system: libc::statfs = std::mem::zeroed();
        check(libc::fstatfs(file.as_raw_fd(), &raw mut system))?;
        system
    };
    if system.f_type != PROC_MAGIC {
        return Err(io::Error::other("/proc is not a procfs"));
    }
    io::Write::write_all(&mut file, format!("exec {profile}").as_bytes())
}
