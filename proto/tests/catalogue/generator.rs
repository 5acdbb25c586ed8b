//! Holds the text files against the program that writes them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Go builds what both tests need once, if it is not asked by both at once.
static GO: Mutex<()> = Mutex::new(());

#[test]
fn the_text_files_are_what_the_generator_writes() {
    let Some(hack) = generator() else { return };
    let out = std::env::temp_dir().join(format!("navarch-catalogue-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("a temporary directory");
    let alone = GO.lock().unwrap_or_else(PoisonError::into_inner);
    succeed(Command::new(hack.join("catalogue")).arg(&out));
    drop(alone);
    let mut compared = 0;
    for path in files(&out) {
        let name = path.strip_prefix(&out).expect("it was found there");
        let written = std::fs::read(&path).expect("just written");
        let committed = std::fs::read(hack.join("..").join(name)).unwrap_or_default();
        let same = written == committed;
        assert!(same, "{} is not what hack/catalogue writes", name.display());
        compared += 1;
    }
    assert_eq!(compared, 7);
    std::fs::remove_dir_all(out).expect("removable");
}

#[test]
fn the_defaults_pass_the_generators_own_test() {
    let Some(hack) = generator() else { return };
    let _alone = GO.lock().unwrap_or_else(PoisonError::into_inner);
    succeed(
        // Vetting one small program would analyse all of upstream's packages below it, for minutes. Built as `hack/tools`
        // builds, so that the packages are those that it has built.
        Command::new("go")
            .args([
                "test",
                "-vet=off",
                "-trimpath",
                "-ldflags=-s",
                "./catalogue",
            ])
            .env("CGO_ENABLED", "0")
            .current_dir(hack.join("go/kubernetes")),
    );
}

/// The directory of `catalogue`, the generator, if Go is here to build it; in CI it must be.
fn generator() -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_ok() {
        return Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack"));
    }
    assert!(std::env::var_os("CI").is_none(), "Go is missing");
    eprintln!("nothing was compared: Go is missing");
    None
}

fn succeed(command: &mut Command) {
    let done = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        text(&done.stdout),
        text(&done.stderr)
    );
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .expect("readable")
        .map(|e| e.expect("readable").path());
    entries
        .flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] })
        .collect()
}
