//! Writes `store/src/etcd/pb.rs` from `etcd.proto`: `cargo run --manifest-path hack/etcd-proto/Cargo.toml`.
//!
//! The result is committed, so that a build of Navarch needs neither a protobuf compiler nor a build
//! script. The test below holds the committed file against the generator.

use std::path::{Path, PathBuf};

fn main() {
    let target = committed();
    std::fs::write(&target, generate()).expect("store/src/etcd is writable");
    println!("wrote {}", target.display());
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../store/src/etcd/pb.rs")
}

/// The generated module, as it is committed.
fn generate() -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    let messages = protox::compile(["etcd.proto"], [here]).expect("etcd.proto is valid");
    let out = tempdir();
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".") // keys and values are slices of the response they came in
        .out_dir(&out)
        .compile_fds(messages)
        .expect("etcd.proto generates");
    let code = std::fs::read_to_string(out.join("etcdserverpb.rs")).expect("one package, one file");
    std::fs::remove_dir_all(&out).expect("the directory is ours");
    code
}

fn tempdir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("navarch-etcd-proto-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    dir
}

#[test]
fn the_committed_file_is_what_the_generator_writes() {
    let committed = std::fs::read_to_string(committed()).expect("store/src/etcd/pb.rs exists");
    assert!(committed == generate(), "run: cargo run --manifest-path hack/etcd-proto/Cargo.toml");
}
