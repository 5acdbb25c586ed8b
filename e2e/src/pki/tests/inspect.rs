//! What is told of certificates, and each thing that can be wrong with one.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::pki::inspect::{Report, Row, inspect};

fn report(dir: &Path, now: SystemTime) -> Report {
    inspect(&[dir.to_owned()], 30, now).unwrap()
}

fn row<'a>(report: &'a Report, name: &str) -> &'a Row {
    let mut rows = report
        .certificates
        .iter()
        .chain(&report.certificate_authorities);
    rows.find(|row| row.name == name).unwrap()
}

#[test]
fn a_new_cluster_is_fine_and_all_of_it_is_told() {
    let (dir, pki, now) = fresh();
    let report = report(dir.path(), now);
    assert!(report.is_fine(), "{}", report.table());
    let kubeadms = row(&report, "etcd-server");
    assert_eq!(kubeadms.ca_name.as_deref(), Some("etcd-ca"));
    assert_eq!(kubeadms.usages, ["server auth", "client auth"]);
    assert_eq!(
        row(&report, "admin.kubeconfig").file,
        pki.kubeconfig("admin")
    );
    let authorities: Vec<_> = report.certificate_authorities.iter().collect();
    assert_eq!(authorities.len(), 3);
    let table = inspect(&[dir.path().to_owned()], 30, now + DAY)
        .unwrap()
        .table();
    let mut lines = table.lines();
    let head = "CERTIFICATE                     EXPIRES                  RESIDUAL TIME   CERTIFICATE AUTHORITY   EXTERNALLY MANAGED";
    assert_eq!(lines.next(), Some(head));
    let line = lines.find(|line| line.starts_with("apiserver ")).unwrap();
    assert!(
        line.contains("364d            ca                      no"),
        "{line}"
    );
    assert!(table.contains("\n\nCERTIFICATE AUTHORITY "));
}

#[test]
fn json_has_kubeadms_fields() {
    let (dir, _, now) = fresh();
    let json = serde_json::to_value(report(dir.path(), now)).unwrap();
    let first = &json["certificates"][0];
    for field in [
        "name",
        "expirationDate",
        "residualTime",
        "externallyManaged",
        "caName",
        "file",
        "subject",
        "usages",
    ] {
        assert!(first.get(field).is_some(), "{field} in {first}");
    }
    assert_eq!(json["certificateAuthorities"].as_array().unwrap().len(), 3);
}

#[test]
fn each_fault_is_told() {
    type Spoil = fn(&Pki);
    fn copy(from: PathBuf, to: PathBuf) {
        fs::write(to, text(&from)).unwrap();
    }
    let cases: &[(Spoil, &str, &str)] = &[
        (
            |pki| copy(pki.key("admin"), pki.key("apiserver")),
            "apiserver",
            "does not belong",
        ),
        (
            |pki| fs::remove_file(pki.key("apiserver")).unwrap(),
            "apiserver",
            "is missing",
        ),
        (
            |pki| fs::write(pki.key("apiserver"), "x").unwrap(),
            "apiserver",
            "no key in PEM",
        ),
        (
            |pki| {
                fs::set_permissions(pki.key("apiserver"), fs::Permissions::from_mode(0o644))
                    .unwrap()
            },
            "apiserver",
            "can be read by others (mode 0644): chmod 600",
        ),
        (
            |pki| {
                copy(pki.cert("etcd/server"), pki.cert("apiserver"));
                copy(pki.key("etcd/server"), pki.key("apiserver"));
            },
            "apiserver",
            "is not signed by the authority in",
        ),
        (
            |pki| {
                copy(pki.cert("admin"), pki.cert("apiserver"));
                copy(pki.key("admin"), pki.key("apiserver"));
            },
            "apiserver",
            "lacks the usage \"server auth\"",
        ),
        (
            |pki| {
                let renamed = text(&pki.kubeconfig("admin")).replace("client-key-data", "x");
                fs::write(pki.kubeconfig("admin"), renamed).unwrap();
            },
            "admin.kubeconfig",
            "is missing",
        ),
        (
            |pki| copy(pki.cert("front-proxy-ca"), pki.cert("etcd/ca")),
            "etcd-server",
            "is not signed by the authority in",
        ),
        (
            |pki| copy(pki.cert("apiserver"), pki.cert("ca")),
            "ca",
            "may not sign",
        ),
    ];
    for (spoil, name, says) in cases {
        let (dir, pki, now) = fresh();
        spoil(&pki);
        let report = report(dir.path(), now);
        let problems = &row(&report, name).problems;
        assert!(
            problems.iter().any(|problem| problem.contains(says)),
            "{says}: {problems:?}"
        );
        assert!(!report.is_fine());
        assert!(report.table().contains(says));
    }
}

#[test]
fn time_is_told() {
    let (dir, _, now) = fresh();
    let said = |now: SystemTime| {
        row(&report(dir.path(), now), "apiserver")
            .problems
            .join(";")
    };
    assert_eq!(said(now), "");
    assert!(said(now + DAY * 340).starts_with("ends soon"));
    assert!(said(now + DAY * 366).starts_with("expired"));
    assert!(said(now - DAY).starts_with("is not valid before"));
    let week = inspect(&[dir.path().to_owned()], 7, now + DAY * 340).unwrap();
    assert!(week.is_fine(), "{}", week.table());
}

#[test]
fn a_kubeconfig_that_trusts_another_authority_is_told() {
    let (dir, pki, now) = fresh();
    let encode = |name: &str| {
        base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            text(&pki.cert(name)),
        )
    };
    let path = pki.kubeconfig("admin");
    fs::write(
        &path,
        text(&path).replace(&encode("ca"), &encode("etcd/ca")),
    )
    .unwrap();
    // It is the certificate of another file, but not the one to trust here.
    let table = report(dir.path(), now).table();
    assert!(table.contains("does not trust the authority in"), "{table}");
}

#[test]
fn an_authority_without_its_key_is_managed_elsewhere() {
    let (dir, pki, now) = fresh();
    fs::remove_file(pki.key("ca")).unwrap();
    let report = report(dir.path(), now);
    assert!(report.is_fine(), "{}", report.table());
    assert!(row(&report, "ca").externally_managed);
    assert!(row(&report, "apiserver").externally_managed);
    assert!(!row(&report, "etcd-server").externally_managed);
}

#[test]
fn a_kubelets_own_certificate_is_found_where_its_kubeconfig_says() {
    let (dir, pki, now) = fresh();
    let kubelet = tempfile::tempdir().unwrap();
    let current = kubelet.path().join("kubelet-client-current.pem");
    fs::write(
        &current,
        text(&pki.cert("node-1")) + &text(&pki.key("node-1")),
    )
    .unwrap();
    fs::set_permissions(&current, fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        "kind: Config\nusers:\n- name: a\n  user:\n    client-certificate: {0}\n    client-key: {0}\n",
        current.display()
    );
    fs::write(dir.path().join("kubelet.conf"), &config).unwrap();
    let told = report(dir.path(), now);
    assert!(told.is_fine(), "{}", told.table());
    let own = told
        .certificates
        .iter()
        .find(|row| row.file == current)
        .unwrap();
    assert!(own.externally_managed);
    assert_eq!(own.ca_name.as_deref(), Some("ca"));
    fs::remove_file(&current).unwrap();
    let told = report(dir.path(), now);
    assert!(
        told.problems[0]
            .problem
            .contains("which it names, cannot be read")
    );
}

#[test]
fn single_files_are_judged_by_the_authorities_beside_them() {
    let (dir, pki, now) = fresh();
    let files = [pki.cert("etcd/server"), pki.cert("apiserver")];
    let told = inspect(&files, 30, now).unwrap();
    assert!(told.is_fine(), "{}", told.table());
    assert_eq!(told.certificates.len(), 2);
    assert_eq!(told.certificate_authorities.len(), 0);
    assert_eq!(
        row(&told, "etcd-server").ca_name.as_deref(),
        Some("etcd-ca")
    );
    let broken = dir.path().join("broken.crt");
    fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    assert!(!inspect(&[broken], 30, now).unwrap().is_fine());
    assert!(inspect(&[pki.key("sa")], 30, now).is_err());
    assert!(inspect(&[dir.path().join("none")], 30, now).is_err());
}

#[test]
fn what_kubeadm_made_is_told() {
    let kubeadm = kubeadm::Kubeadm::new();
    let told = inspect(&[kubeadm.dir.path().to_owned()], 7, SystemTime::now()).unwrap();
    assert!(told.is_fine(), "{}", told.table());
    let admin = row(&told, "admin.conf");
    assert_eq!(
        admin.subject,
        "O=kubeadm:cluster-admins, O=second, CN=kubernetes-admin"
    );
    assert_eq!(
        row(&told, "apiserver").names,
        ["api.example.org", "fd00::1", "urn:x", "a@b.c"]
    );
}
