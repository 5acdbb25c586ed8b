//! libFuzzer around the targets: `fuzz TARGET [libFuzzer's flags, corpora and inputs]`.
//!
//! `fuzz --list` names the targets, `fuzz --seeds TARGET DIRECTORY` writes what a target starts from.
#![allow(unsafe_code, reason = "libFuzzer is called, and calls back")]

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

unsafe extern "C" {
    /// Of `libclang_rt.fuzzer_no_main`: takes over, and ends the process itself where something is found.
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        one: extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

extern "C" fn one(data: *const u8, size: usize) -> c_int {
    let input = if size == 0 {
        &[]
    } else {
        // SAFETY: libFuzzer gives `size` bytes that stay as they are during the call.
        unsafe { std::slice::from_raw_parts(data, size) }
    };
    TARGET
        .get()
        .expect("set before the driver runs")
        .check(input);
    0
}

fn main() -> ExitCode {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    match rest
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["--list"] => fuzz::TARGETS.iter().for_each(|t| println!("{}", t.name)),
        ["--seeds", name, directory] => match fuzz::find(name) {
            Some(target) => return write_seeds(target, Path::new(directory)),
            None => return unknown(name),
        },
        [name, flags @ ..] if !name.starts_with('-') => match fuzz::find(name) {
            Some(target) => return run(target, &program, flags),
            None => return unknown(name),
        },
        _ => {
            eprintln!(
                "usage: fuzz --list | --seeds TARGET DIRECTORY | TARGET [flags and corpora of libFuzzer]"
            );
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn unknown(name: &str) -> ExitCode {
    eprintln!("fuzz: no target is called {name}");
    ExitCode::from(64)
}

fn write_seeds(target: &Target, directory: &Path) -> ExitCode {
    for (i, seed) in (target.seeds)().iter().enumerate() {
        if let Err(error) = std::fs::write(directory.join(format!("{i:04}")), seed) {
            eprintln!("fuzz: {}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(target: &'static Target, program: &str, flags: &[&str]) -> ExitCode {
    TARGET.get_or_init(|| target);
    // An unwinding panic would end in libFuzzer's frames; aborting is what it takes for a finding.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        told(info);
        std::process::abort();
    }));
    let words = std::iter::once(program).chain(flags.iter().copied());
    let owned: Vec<CString> = words
        .map(|w| CString::new(w).expect("arguments hold no zero byte"))
        .collect();
    let mut argv: Vec<*mut c_char> = owned.iter().map(|w| w.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let mut argc = c_int::try_from(owned.len()).expect("few arguments");
    let mut argv = argv.as_mut_ptr();
    // SAFETY: as C's `main` gets them; all outlive the call.
    let code = unsafe { LLVMFuzzerRunDriver(&raw mut argc, &raw mut argv, one) };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
