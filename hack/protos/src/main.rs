//! Writes the Rust of every `.proto` here: `cargo run --manifest-path hack/protos/Cargo.toml`.
//!
//! The results are committed, so that a build of Navarch needs neither a protobuf compiler nor a build
//! script. The test below holds the committed files against the generator.

use std::path::{Path, PathBuf};

/// One file of messages.
struct Proto {
    file: &'static str,
    package: &'static str,
    /// From the root of the tree.
    target: &'static str,
    /// Whether tests serve it, too.
    server: bool,
}

const PROTOS: &[Proto] = &[
    Proto { file: "etcd.proto", package: "etcdserverpb", target: "store/src/etcd/pb.rs", server: false },
    Proto { file: "kms.proto", package: "v2", target: "apiserver/src/plugin/pb/kms.rs", server: true },
    Proto { file: "kms_v1.proto", package: "v1beta1", target: "apiserver/src/plugin/pb/kms_v1.rs", server: true },
    Proto { file: "envelope.proto", package: "envelope", target: "apiserver/src/plugin/pb/envelope.rs", server: false },
    Proto { file: "signer.proto", package: "v1", target: "apiserver/src/plugin/pb/signer.rs", server: true },
    Proto { file: "otlp.proto", package: "opentelemetry.proto.collector.trace.v1", target: "component/src/tracing/pb.rs", server: true },
];

fn main() {
    for proto in PROTOS {
        let target = proto.committed();
        std::fs::write(&target, proto.generate()).expect("the tree is writable");
        println!("wrote {}", target.display());
    }
}

impl Proto {
    fn committed(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(self.target)
    }

    /// The generated module, as it is committed.
    fn generate(&self) -> String {
        let here = env!("CARGO_MANIFEST_DIR");
        let messages = protox::compile([self.file], [here]).expect("the messages are valid");
        let out = self.directory();
        tonic_prost_build::configure()
            .build_server(self.server)
            .build_transport(false)
            .bytes(".") // keys and values are slices of the response they came in
            .btree_map(".") // equal messages have equal bytes
            .out_dir(&out)
            .compile_fds(messages)
            .expect("the messages generate");
        let written = out.join(format!("{}.rs", self.package));
        let code = std::fs::read_to_string(written).expect("one package, one file");
        std::fs::remove_dir_all(&out).expect("the directory is ours");
        code
    }

    /// Where it is generated.
    fn directory(&self) -> PathBuf {
        let name = format!("navarch-protos-{}-{}", std::process::id(), self.package);
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        dir
    }
}

#[test]
fn the_committed_files_are_what_the_generator_writes() {
    for proto in PROTOS {
        let committed = std::fs::read_to_string(proto.committed()).expect("it is committed");
        let command = "cargo run --manifest-path hack/protos/Cargo.toml";
        assert!(committed == proto.generate(), "{}: run {command}", proto.file);
    }
}
