use super::*;
use crate::logging::tests::said;
use crate::serving::{ClientCa, Pair};
use crate::testing::{Ca, Files};

fn listens(files: &Files, pair: &Pair) -> (PathBuf, Acceptor) {
    let (cert, key) = (
        files.write("tls.crt", &pair.cert),
        files.write("tls.key", &pair.key),
    );
    let identity = Identity::Files {
        cert: cert.clone(),
        key,
    };
    (cert, Acceptor::new(&Tls::new(identity), true).unwrap())
}

#[test]
fn a_certificate_that_has_ended_is_told_of_once_with_its_file_and_what_to_do() {
    let (ca, files) = (Ca::new("ca"), Files::new());
    let ended = ca.client_with("server", &[], |c| {
        c.not_before = rcgen::date_time_ymd(2020, 1, 1);
        c.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let mut file = PathBuf::new();
    let log = said(|| {
        for _ in 0..2 {
            file = listens(&files, &ended).0;
        }
        ClientCa::from_file(&files.write("ca.crt", &ca.pem)).unwrap();
    });
    let lines: Vec<_> = log.lines().collect();
    let [line] = lines[..] else { panic!("{log}") };
    for part in [
        "\"A certificate has ended\"",
        &format!("origin=\"{}\"", file.display()),
        "subject=\"server\"",
        "ended=\"2021-01-01T00:00:00Z\"",
        "remedy=\"replace certificate and key in their files",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(line.starts_with('W'), "{line}");
}

#[test]
fn an_authority_that_has_ended_is_told_of() {
    let (ca, files) = (Ca::new("ca"), Files::new());
    let old = ca.client_with("old authority", &[], |c| {
        c.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        c.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    // As while authorities are exchanged: the one that is good is not spoken of.
    let file = files.write("ca.crt", &format!("{}{}", old.cert, ca.pem));
    let log = said(|| drop(ClientCa::from_file(&file).unwrap()));
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("subject=\"old authority\"") && log.contains("add its successor"),
        "{log}"
    );
}
