//! A directory that kubeadm could have made: RSA keys in PKCS#1, kubeconfigs of its own, subjects of several parts.

use super::*;
use crate::pki::renew::{self, Roll};

pub(super) struct Kubeadm {
    pub(super) dir: tempfile::TempDir,
}

impl Kubeadm {
    pub(super) fn new() -> Self {
        let made = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(made.path("pki/etcd")).unwrap();
        for (name, subject) in [
            ("ca", "/CN=kubernetes"),
            ("etcd/ca", "/CN=etcd-ca"),
            ("front-proxy-ca", "/OU=one/OU=two/CN=front-proxy-ca"),
        ] {
            made.authority(name, subject);
        }
        let server = "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:api.example.org,IP:fd00::1,URI:urn:x,email:a@b.c\n";
        made.leaf("apiserver", "ca", "/CN=kube-apiserver", server);
        let client = "extendedKeyUsage=clientAuth\n";
        made.leaf(
            "front-proxy-client",
            "front-proxy-ca",
            "/CN=front-proxy-client",
            client,
        );
        // Its certificate is only in the kubeconfig.
        let two = "/O=kubeadm:cluster-admins/O=second/CN=kubernetes-admin";
        made.leaf("embedded", "ca", two, client);
        let [ca, cert, key] =
            ["ca.crt", "embedded.crt", "embedded.key"].map(|name| made.encoded(name));
        for name in ["embedded.crt", "embedded.key"] {
            fs::remove_file(made.path(&format!("pki/{name}"))).unwrap();
        }
        let text = format!(
            "# kept\napiVersion: v1\nkind: Config\npreferences: {{}}\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    \
             server: https://fd00::1:6443 # ä\n  name: kubernetes\nusers:\n- name: kubernetes-admin\n  user:\n    \
             client-certificate-data: {cert}\n    client-key-data: \"{key}\"\n"
        );
        fs::write(made.path("admin.conf"), text).unwrap();
        made.close("admin.conf");
        made
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text_path(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn encoded(&self, name: &str) -> String {
        use base64::Engine;
        let pem = text(&self.path(&format!("pki/{name}")));
        base64::engine::general_purpose::STANDARD.encode(pem)
    }

    fn close(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn authority(&self, name: &str, subject: &str) {
        let [key, cert] = ["key", "crt"].map(|end| self.text_path(&format!("pki/{name}.{end}")));
        openssl(&["genrsa", "-traditional", "-out", &key, "2048"]);
        assert!(text(Path::new(&key)).contains("RSA PRIVATE KEY"));
        let usage = "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign";
        openssl(&[
            "req", "-x509", "-new", "-key", &key, "-out", &cert, "-subj", subject, "-days", "3650",
            "-addext", usage,
        ]);
    }

    fn leaf(&self, name: &str, authority: &str, subject: &str, extensions: &str) {
        let [key, cert, csr, ext] =
            ["key", "crt", "csr", "ext"].map(|end| self.text_path(&format!("pki/{name}.{end}")));
        let [ca, ca_key] =
            ["crt", "key"].map(|end| self.text_path(&format!("pki/{authority}.{end}")));
        openssl(&["genrsa", "-traditional", "-out", &key, "2048"]);
        openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &csr]);
        let usage = "keyUsage=critical,digitalSignature,keyEncipherment\nbasicConstraints=critical,CA:FALSE\n";
        fs::write(&ext, format!("{usage}{extensions}")).unwrap();
        openssl(&[
            "x509", "-req", "-in", &csr, "-CA", &ca, "-CAkey", &ca_key, "-days", "20", "-extfile",
            &ext, "-out", &cert,
        ]);
        for path in [csr, ext] {
            fs::remove_file(path).unwrap();
        }
    }

    fn user(&self) -> Certificate {
        let survey = survey::Survey::of(self.dir.path()).unwrap();
        let mut entries = survey.entries.into_iter();
        let user = |entry: &survey::Entry| entry.place == survey::Place::User;
        let entry = entries.find(user).unwrap();
        assert!(entry.has_its_key());
        entry.certificate
    }
}

/// What is said of a certificate's holder, as openssl tells it.
fn said(cert: &Certificate) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cert");
    fs::write(&path, cert.pem()).unwrap();
    let path = path.display().to_string();
    let extensions = "subjectAltName,keyUsage,extendedKeyUsage,basicConstraints";
    openssl(&[
        "x509", "-in", &path, "-noout", "-subject", "-issuer", "-ext", extensions,
    ])
}

#[test]
fn leaves_with_rsa_keys_are_renewed_as_they_are() {
    let kubeadm = Kubeadm::new();
    let now = SystemTime::now();
    let apiserver = kubeadm.path("pki/apiserver.crt");
    let (served, user) = (certificate(&apiserver), kubeadm.user());
    let config = text(&kubeadm.path("admin.conf"));
    let outcome = renew::leaves(kubeadm.dir.path(), &[], 30, now).unwrap();
    assert_eq!(outcome.left, []);
    assert_eq!(outcome.written.len(), 3, "{:?}", outcome.written);

    let (new_served, new_user) = (certificate(&apiserver), kubeadm.user());
    assert_eq!(said(&served), said(&new_served));
    assert_eq!(said(&user), said(&new_user));
    assert!(!served.has_key_of(&new_served));
    let ca = text(&kubeadm.path("pki/ca.crt"));
    let year = now + DAY * 364;
    assert!(believes(
        &ca,
        &new_served.pem(),
        Some("api.example.org"),
        year
    ));
    assert!(believes(&ca, &new_user.pem(), None, year));
    let proxy = text(&kubeadm.path("pki/front-proxy-client.crt"));
    assert!(believes(
        &text(&kubeadm.path("pki/front-proxy-ca.crt")),
        &proxy,
        None,
        year
    ));

    // Of the kubeconfig only two values are others.
    let new_config = text(&kubeadm.path("admin.conf"));
    let other = |(old, new): &(&str, &str)| old != new;
    let lines = config.lines().zip(new_config.lines());
    let changed: Vec<_> = lines.filter(other).map(|(_, new)| new.trim()).collect();
    assert_eq!(changed.len(), 2);
    assert!(changed[0].starts_with("client-certificate-data: "));
    assert!(changed[1].starts_with("client-key-data: "));
}

#[test]
fn an_authority_with_an_rsa_key_is_renewed_and_openssl_believes_old_leaves() {
    let kubeadm = Kubeadm::new();
    let (dir, now) = (kubeadm.dir.path(), SystemTime::now());
    let [ca, leaf, key] =
        ["ca.crt", "apiserver.crt", "ca.key"].map(|name| kubeadm.path(&format!("pki/{name}")));
    let (before, key_before) = (certificate(&ca), text(&key));
    let in_nine_years = now + DAY * 3285;
    renew::authority(dir, "ca", Roll::SameKey, in_nine_years).unwrap();
    let after = certificate(&ca);
    assert!(after.not_after > before.not_after + 9 * 365 * 86_400 - 86_400);
    assert_eq!(said(&before), said(&after));
    assert_eq!(key_before, text(&key));
    let [ca, leaf] = [ca, leaf].map(|path| path.display().to_string());
    let at = seconds(in_nine_years).to_string();
    openssl(&["verify", "-attime", &at, "-CAfile", &ca, &ca]);
    openssl(&["verify", "-no_check_time", "-CAfile", &ca, &leaf]);
    assert!(text(&kubeadm.path("admin.conf")).contains(&kubeadm.encoded("ca.crt")));
}

#[test]
fn what_kubeadm_made_is_kept_and_completed() {
    let kubeadm = Kubeadm::new();
    let now = SystemTime::now();
    let before = snapshot(kubeadm.dir.path());
    let wanted = Names {
        api_servers: vec![host("api.example.org")],
        ..names(0)
    };
    let made = create(kubeadm.dir.path(), &wanted, now).unwrap();
    // kubeadm would have named these too; this certificate of the test does not.
    let apiserver = kubeadm.path("pki/apiserver.crt");
    let why = made.iter().find(|made| made.path == apiserver).unwrap().why;
    assert_eq!(why, "it lacked a name");
    // What it had beside those that are asked for, it keeps.
    assert!(
        certificate(&apiserver)
            .names
            .contains(&"fd00::1".to_owned())
    );
    for (path, text_before) in before {
        if !path.starts_with(kubeadm.path("pki")) || !path.to_string_lossy().contains("apiserver") {
            assert_eq!(text_before, text(&path), "{path:?}");
        }
    }
    let ca = text(&kubeadm.path("pki/ca.crt"));
    let admin = text(&kubeadm.path("pki/admin.crt"));
    assert!(believes(&ca, &admin, None, now));
}

#[test]
fn keys_are_read_in_the_forms_that_openssl_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key").display().to_string();
    let forms: &[&[&str]] = &[
        &["genrsa", "-traditional", "-out", &file, "2048"],
        &["genrsa", "-out", &file, "3072"],
        &["ecparam", "-name", "prime256v1", "-genkey", "-out", &file],
        &[
            "ecparam",
            "-name",
            "secp384r1",
            "-genkey",
            "-noout",
            "-out",
            &file,
        ],
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-out",
            &file,
        ],
    ];
    for form in forms {
        openssl(form);
        let key = keys::parse(&text(Path::new(&file))).unwrap();
        let public = openssl(&["pkey", "-in", &file, "-pubout"]);
        assert_eq!(key.public_key_pem(), public, "{form:?}");
    }
    openssl(&["ecparam", "-name", "secp521r1", "-genkey", "-out", &file]);
    let unknown = keys::parse(&text(Path::new(&file)));
    assert_eq!(unknown.err(), Some(Unreadable::Kind));
    assert_eq!(keys::parse("").err(), Some(Unreadable::NoKey));
}
