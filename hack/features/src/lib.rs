//! Nothing but dependencies: one set of features for each, whatever cargo is asked to build.
//!
//! Cargo turns on those features of a crate that the *selected* packages ask for. `cargo check -p scheduler`,
//! `cargo test -p kubelet` and the build of `hack/up` would each compile tokio and all that stands on it once more.
//! Every member that has dependencies of size depends on this one, which asks for all features that any member, or a test,
//! asks for. `e2e/tests/dependencies.rs` says what is missing.
