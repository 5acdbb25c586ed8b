//! Turns the facts in `catalogue/*.txt` into the static tables of `src/catalogue.rs` and the views of
//! `src/view.rs`. The text is written by `hack/catalogue`; a fact that this program does not understand
//! stops the build.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/facts.rs"]
mod facts;
#[path = "build/names.rs"]
mod names;
#[path = "build/tables.rs"]
mod tables;
#[path = "build/views.rs"]
mod views;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=catalogue");
    println!("cargo::rerun-if-changed=src/name/hash.rs");
    let facts = facts::Facts::read(Path::new("catalogue"));
    let names = names::Names::of(&facts);
    write(&out.join("tables.rs"), &tables::render(&facts, &names));
    write(&out.join("views.rs"), &views::render(&facts, &names));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
