//! Seccomp filters: compiled once per profile, kept as a file, installed by create and exec alike.
//!
//! The file is a header of the flags for `seccomp(2)` (little-endian `u32`) and the BPF program as the
//! kernel takes it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use crate::error::Error;
use crate::sys;

/// `SECCOMP_FILTER_FLAG_LOG` and `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// Bytes of one BPF instruction.
const INSTRUCTION: usize = 8;
/// The kernel's limit (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled filter.
#[derive(Clone)]
pub(crate) struct Filter {
    flags: u32,
    program: Vec<u8>,
}

impl Filter {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(Error::at(path))?;
        let (flags, program) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let instructions = program.len() / INSTRUCTION;
        if program.len() % INSTRUCTION != 0 || !(1..=MAX_INSTRUCTIONS).contains(&instructions) {
            return Err(Error::Seccomp(format!(
                "{} is not a compiled filter",
                path.display()
            )));
        }
        Ok(Self {
            flags: u32::from_le_bytes(*flags),
            program: program.to_vec(),
        })
    }

    pub(crate) fn install(&self) -> io::Result<()> {
        sys::install_filter(self.flags, &self.program, self.program.len() / INSTRUCTION)
    }
}

/// Compiles a profile in the form of the OCI specification. The file is there completely or not at all.
pub(crate) fn compile_file(profile: &Path, filter: &Path) -> Result<(), Error> {
    let text = fs::read(profile).map_err(Error::at(profile))?;
    let parsed: LinuxSeccomp =
        serde_json::from_slice(&text).map_err(|error| Error::Seccomp(error.to_string()))?;
    let temporary = filter.with_extension(format!("{}.tmp", std::process::id()));
    let compile = || -> Result<(), Error> {
        let mut file = File::create(&temporary).map_err(Error::at(&temporary))?;
        file.write_all(&flags(&parsed)?.to_le_bytes())
            .map_err(Error::at(&temporary))?;
        let context = context(&parsed).map_err(|error| Error::Seccomp(error.to_string()))?;
        context
            .export_bpf(file.as_fd())
            .map_err(|error| Error::Seccomp(error.to_string()))?;
        Filter::read(&temporary)?;
        fs::rename(&temporary, filter).map_err(Error::at(filter))
    };
    compile().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, Error> {
    if profile.listener_path().is_some() {
        return Err(Error::Seccomp("listeners are not supported".into()));
    }
    let flags = profile.flags().iter().flatten().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
        // One thread installs it; nobody listens.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync
        | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    });
    Ok(flags.fold(0, |all, flag| all | flag))
}

fn context(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    context.set_ctl_nnp(false)?;
    for arch in profile.architectures().iter().flatten() {
        let name = serde_json::to_value(arch).ok();
        if let Some(arch) = name
            .as_ref()
            .and_then(|n| n.as_str())
            .and_then(architecture)
        {
            context.add_arch(arch)?;
        }
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret());
        if action == default {
            continue; // libseccomp refuses what changes nothing
        }
        for name in rule.names() {
            // Profiles name calls that this library does not know yet; the default holds for them.
            let Ok(call) = ScmpSyscall::from_name(name) else {
                continue;
            };
            match rule.args().as_deref().unwrap_or_default() {
                [] => drop(context.add_rule(action, call)?),
                // The library takes one condition per argument: more are alternatives.
                args if repeats(args) => {
                    for arg in args {
                        context.add_rule_conditional(action, call, &[comparison(arg)])?;
                    }
                }
                args => {
                    let all: Vec<_> = args.iter().map(comparison).collect();
                    context.add_rule_conditional(action, call, &all)?;
                }
            }
        }
    }
    Ok(context)
}

fn repeats(args: &[LinuxSeccompArg]) -> bool {
    args.iter()
        .enumerate()
        .any(|(at, arg)| args[..at].iter().any(|a| a.index() == arg.index()))
}

fn architecture(name: &str) -> Option<ScmpArch> {
    name.parse().ok()
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    use LinuxSeccompAction as Oci;
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    match action {
        Oci::ScmpActKill | Oci::ScmpActKillThread => ScmpAction::KillThread,
        Oci::ScmpActKillProcess => ScmpAction::KillProcess,
        Oci::ScmpActTrap => ScmpAction::Trap,
        Oci::ScmpActErrno => ScmpAction::Errno(i32::try_from(errno).unwrap_or(libc::EPERM)),
        Oci::ScmpActNotify => ScmpAction::Notify,
        Oci::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).unwrap_or(0)),
        Oci::ScmpActLog => ScmpAction::Log,
        Oci::ScmpActAllow => ScmpAction::Allow,
    }
}

fn comparison(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    use LinuxSeccompOperator as Oci;
    let index = u32::try_from(arg.index()).unwrap_or(u32::MAX);
    let (op, datum) = match arg.op() {
        Oci::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        Oci::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        Oci::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        Oci::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        Oci::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        Oci::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        Oci::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    ScmpArgCompare::new(index, op, datum)
}
