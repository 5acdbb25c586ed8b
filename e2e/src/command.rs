//! Runs programs to their end. What they printed belongs to the error.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot run {program}")]
    Start {
        program: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("{command} ended with {status}: {output}")]
    Failed {
        command: String,
        status: std::process::ExitStatus,
        output: String,
    },
}

/// Runs `program` and returns its standard output.
pub fn run(program: &str, args: &[&str]) -> Result<String, Error> {
    run_with_input(program, args, "")
}

/// Runs `program` in a directory.
pub fn run_in(dir: &Path, program: &str, args: &[&str]) -> Result<String, Error> {
    output(Command::new(program).current_dir(dir).args(args), "")
}

/// Runs `program` with `input` on its standard input.
pub fn run_with_input(program: &str, args: &[&str], input: &str) -> Result<String, Error> {
    output(Command::new(program).args(args), input)
}

/// A thread writes the input, so that neither side waits for the other.
fn output(command: &mut Command, input: &str) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |cause| Error::Start {
        program: program.clone(),
        cause,
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child
        .stdin
        .take()
        .expect("standard input was asked for as a pipe");
    let output = std::thread::scope(|scope| {
        // A program that does not read to the end is judged by its exit status.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    })
    .map_err(failed)?;
    if !output.status.success() {
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        return Err(Error::Failed {
            command: format!("{program} {}", args.join(" ")),
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `program` on the caller's own output, for what shows its progress itself.
pub fn attached(program: &str, args: &[impl AsRef<std::ffi::OsStr>]) -> Result<(), Error> {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .status()
        .map_err(|cause| Error::Start {
            program: program.to_owned(),
            cause,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        command: program.to_owned(),
        status,
        output: "see above".to_owned(),
    })
}
