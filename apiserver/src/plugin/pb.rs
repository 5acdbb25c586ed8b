//! The messages of plugins, generated from `hack/protos`.

macro_rules! generated {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[allow(clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications, dead_code, missing_docs, reason = "generated code")]
        pub mod $name;)*
    };
}

generated! {
    /// Values that are sealed by way of a key management service, as etcd has them.
    envelope;
    /// Key management services.
    kms;
    /// Key management services of the first version.
    kms_v1;
    /// Signers of tokens.
    signer;
}
