//! Which devices a container may use on cgroup version 2: a BPF program on its cgroup, made from the
//! specification's rules. Version 1 has a controller for it, which libcontainer drives.
//!
//! As in the specification, the last rule that matches decides; what none matches is refused.

use std::io;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::cgroup;
use crate::error::Error;
use crate::sys;

/// Access bits and device types of `bpf_cgroup_dev_ctx` (`linux/bpf.h`).
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// What every container may use, after the rules of the specification: making nodes, and the devices
/// that its `/dev` has. Type, major, minor (-1 is any), access.
const ALWAYS: [(i32, i32, i32, i32); 12] = [
    (CHAR, -1, -1, MKNOD),
    (BLOCK, -1, -1, MKNOD),
    (CHAR, 1, 3, ALL),    // null
    (CHAR, 1, 5, ALL),    // zero
    (CHAR, 1, 7, ALL),    // full
    (CHAR, 1, 8, ALL),    // random
    (CHAR, 1, 9, ALL),    // urandom
    (CHAR, 5, 0, ALL),    // tty
    (CHAR, 5, 1, ALL),    // console
    (CHAR, 5, 2, ALL),    // ptmx
    (CHAR, 136, -1, ALL), // terminals
    (CHAR, 10, 200, ALL), // tun
];

/// A rule as the program compares it; -1 is any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rule {
    allow: bool,
    kind: i32,
    major: i32,
    minor: i32,
    access: i32,
}

/// Confines a container's cgroup, if this machine does it by program.
pub(crate) fn confine(spec: &Spec) -> Result<(), Error> {
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    let Some(mount) = cgroup::unified()? else {
        return Ok(());
    };
    let path = linux.cgroups_path().as_deref().unwrap_or(Path::new("/"));
    let dir = mount.join(path.strip_prefix("/").unwrap_or(path));
    let devices = linux
        .resources()
        .as_ref()
        .and_then(|resources| resources.devices().as_ref());
    let mut rules: Vec<Rule> = devices.into_iter().flatten().map(rule).collect();
    rules.extend(ALWAYS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    }));
    attach(&rules, &dir).map_err(Error::doing("device filter"))
}

fn attach(rules: &[Rule], cgroup: &Path) -> io::Result<()> {
    let program = program(rules);
    let code: Vec<u64> = program.iter().map(Instruction::encode).collect();
    sys::attach_device_filter(&code, &std::fs::File::open(cgroup)?)
}

fn rule(rule: &LinuxDeviceCgroup) -> Rule {
    let access = rule
        .access()
        .as_deref()
        .unwrap_or("rwm")
        .chars()
        .map(|c| match c {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => 0,
        });
    let number = |n: Option<i64>| n.and_then(|n| i32::try_from(n).ok()).unwrap_or(-1);
    Rule {
        allow: rule.allow(),
        kind: match rule.typ() {
            Some(LinuxDeviceType::B) => BLOCK,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => CHAR,
            _ => -1,
        },
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: access.fold(0, |all, bit| all | bit),
    }
}

/// One instruction of eBPF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    const fn encode(&self) -> u64 {
        let (offset, value) = (
            self.offset.cast_unsigned() as u64,
            self.value.cast_unsigned() as u64,
        );
        self.code as u64
            | (self.to as u64) << 8
            | (self.from as u64) << 12
            | offset << 16
            | value << 32
    }
}

const fn op(code: u8, to: u8, from: u8, value: i32) -> Instruction {
    Instruction {
        code,
        to,
        from,
        offset: 0,
        value,
    }
}

/// Opcodes, as classes, operations and sources make them (`linux/bpf_common.h`).
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xbc;
const MOVE_VALUE: u8 = 0xb4;
const JUMP_UNEQUAL: u8 = 0x5d;
const JUMP_UNEQUAL_VALUE: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context (and scratch), then what the context says.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program: rules from the last to the first, each leaving to the next where it does not match.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let load = |to, offset| Instruction {
        code: LOAD_WORD,
        to,
        from: CONTEXT,
        offset,
        value: 0,
    };
    let mut all = vec![
        load(KIND, 0),
        op(AND, KIND, 0, 0xffff),
        load(ACCESS, 0),
        op(SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let block = block(rule);
        let unconditional = block.len() == 2;
        all.extend(block);
        if unconditional {
            return all; // the kernel refuses what cannot be reached
        }
    }
    all.extend([op(MOVE_VALUE, ANSWER, 0, 0), op(EXIT, 0, 0, 0)]);
    all
}

fn block(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    let compare = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    block.extend(
        compare
            .into_iter()
            .filter(|(_, value)| *value >= 0)
            .map(|(register, value)| op(JUMP_UNEQUAL_VALUE, register, 0, value)),
    );
    if rule.access != ALL {
        // All that is wanted has to be among what the rule is about.
        block.push(op(MOVE, CONTEXT, ACCESS, 0));
        block.push(op(AND, CONTEXT, 0, rule.access));
        block.push(op(JUMP_UNEQUAL, CONTEXT, ACCESS, 0));
    }
    block.push(op(MOVE_VALUE, ANSWER, 0, rule.allow.into()));
    block.push(op(EXIT, 0, 0, 0));
    let length = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_UNEQUAL | JUMP_UNEQUAL_VALUE) {
            // A rule is a few instructions long.
            instruction.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// A version 2 cgroup of its own, removed at the end.
    struct Cgroup(PathBuf);

    impl Cgroup {
        fn make(name: &str) -> Self {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let mount = mounts
                .lines()
                .find(|line| line.contains(" - cgroup2 "))
                .unwrap();
            let mount = mount.split(' ').nth(4).unwrap();
            let dir =
                Path::new(mount).join(format!("navarch-devices-{name}-{}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        /// Whether a process in it can do this.
        fn can(&self, script: &str) -> bool {
            let join = format!("echo $$ >{}/cgroup.procs; {script}", self.0.display());
            Command::new("/bin/sh")
                .args(["-c", &join])
                .output()
                .unwrap()
                .status
                .success()
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    const DENY: Rule = Rule {
        allow: false,
        kind: -1,
        major: -1,
        minor: -1,
        access: ALL,
    };

    #[test]
    fn the_kernel_takes_the_program_and_the_last_rule_decides() {
        let cgroup = Cgroup::make("last");
        let read_null = Rule {
            allow: true,
            kind: CHAR,
            major: 1,
            minor: 3,
            access: READ,
        };
        let zero = Rule {
            allow: true,
            kind: CHAR,
            major: 1,
            minor: 5,
            access: ALL,
        };
        assert!(cgroup.can(": <>/dev/full"));
        attach(&[DENY, read_null, zero], &cgroup.0).unwrap();
        assert!(cgroup.can(": </dev/null"));
        assert!(!cgroup.can(": >/dev/null"), "writing was not allowed");
        assert!(!cgroup.can(": <>/dev/null"), "reading and writing was not");
        assert!(cgroup.can(": <>/dev/zero"));
        assert!(!cgroup.can(": </dev/full"), "no rule names it");
    }

    #[test]
    fn rules_before_an_unconditional_one_do_not_count() {
        let zero = Rule {
            allow: true,
            kind: CHAR,
            major: 1,
            minor: 5,
            access: ALL,
        };
        assert_eq!(program(&[zero, DENY]).len(), 6 + 2);
        let cgroup = Cgroup::make("none");
        attach(&[zero, DENY], &cgroup.0).unwrap();
        assert!(!cgroup.can(": </dev/zero"));
    }

    #[test]
    fn a_specification_is_read_as_rules() {
        let read = |json: &str| rule(&serde_json::from_str(json).unwrap());
        assert_eq!(read(r#"{"allow":false,"access":"rwm"}"#), DENY);
        let null = read(r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"r"}"#);
        assert_eq!(
            null,
            Rule {
                allow: true,
                kind: CHAR,
                major: 1,
                minor: 3,
                access: READ
            }
        );
        let any = read(r#"{"allow":true,"type":"b","major":8,"access":"rw"}"#);
        assert_eq!(
            any,
            Rule {
                allow: true,
                kind: BLOCK,
                major: 8,
                minor: -1,
                access: READ | WRITE
            }
        );
    }
}
