//! Kubeconfigs as other tools write them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::pki::kubeconfig::{Data, Kubeconfig};

const CERT: &str = "-----BEGIN CERTIFICATE-----\none\n";

fn config(user: &str) -> String {
    format!("kind: Config\nusers: # ünïcode\n- name: a\n  user:\n{user}contexts: []\n")
}

fn replaced(text: &str) -> Result<String, Unusable> {
    let read = Kubeconfig::read(text, Path::new("/dir"))?;
    let Some(Data::Embedded { pem, span }) = &read.users[0].certificate else {
        panic!("nothing is embedded");
    };
    assert_eq!(pem, CERT);
    read.with(vec![(span.clone(), "two".to_owned())])
}

#[test]
fn a_value_is_replaced_however_it_is_quoted() {
    let (one, two) = (STANDARD.encode(CERT), STANDARD.encode("two"));
    for quote in ["", "'", "\""] {
        let old = config(&format!(
            "    client-certificate-data: {quote}{one}{quote} # x\n"
        ));
        let new = replaced(&old).unwrap();
        let again = Kubeconfig::read(&new, Path::new("")).unwrap();
        let Some(Data::Embedded { pem, .. }) = &again.users[0].certificate else {
            panic!("nothing is embedded");
        };
        assert_eq!(pem, "two");
        assert!(new.contains("# x\ncontexts: []\n"), "{new}");
        assert!(new.contains(&two));
    }
    let json = format!(
        r#"{{"kind":"Config","users":[{{"name":"a","user":{{"client-certificate-data":"{one}"}}}}]}}"#
    );
    assert!(replaced(&json).unwrap().contains(&two));
}

#[test]
fn a_value_of_several_lines_is_replaced_whole_or_not_at_all() {
    let one = STANDARD.encode(CERT);
    let (first, second) = one.split_at(20);
    for style in ["|", ">-"] {
        let user = format!(
            "    client-certificate-data: {style}\n      {first}\n      {second}\n    x: y\n"
        );
        match replaced(&config(&user)) {
            Ok(new) => assert!(new.contains("x: y") && !new.contains(first), "{new}"),
            Err(error) => assert!(matches!(error, Unusable::Form), "{error}"),
        }
    }
}

#[test]
fn files_are_found_from_where_the_kubeconfig_is_and_data_is_stronger() {
    let user = "    client-certificate: pki/a.crt\n    client-key: /abs/a.key\n";
    let read = Kubeconfig::read(&config(user), Path::new("/dir")).unwrap();
    let file = |path: &str| Some(Data::File(PathBuf::from(path)));
    assert_eq!(read.users[0].certificate, file("/dir/pki/a.crt"));
    assert_eq!(read.users[0].key, file("/abs/a.key"));
    let both = format!(
        "    client-certificate-data: {}\n{user}",
        STANDARD.encode(CERT)
    );
    let read = Kubeconfig::read(&config(&both), Path::new("/dir")).unwrap();
    assert!(matches!(
        &read.users[0].certificate,
        Some(Data::Embedded { .. })
    ));
}

#[test]
fn other_files_are_no_kubeconfigs() {
    let other = |text: &str| Kubeconfig::read(text, Path::new("")).unwrap_err();
    assert!(matches!(
        other("kind: KubeletConfiguration\n"),
        Unusable::Other
    ));
    assert!(matches!(other("a: [\n"), Unusable::Syntax { .. }));
    let bad = config("    client-certificate-data: \"%%\"\n");
    assert!(matches!(other(&bad), Unusable::Data(_)));
}
