//! Without a build script, cargo takes no notice of build dependencies.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
