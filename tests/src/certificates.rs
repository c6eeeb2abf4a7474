//! Certificates for servers and clients of one test: an authority of its own, and what it signs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::disposable::new_folder;
use crate::headgate::{Engine, Headgate};
use crate::postgres::Postgres;

/// An authority, and the folder with all files of it. Gone with the value.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Says<'a> {
    /// Hosts and addresses that it is of.
    pub hosts: &'a [&'a str],
    /// Its common name.
    pub common_name: &'a str,
    /// It was valid for one day of the year 2020.
    pub expired: bool,
}

impl Authority {
    /// A new one, which nobody trusts who is not given its file.
    pub fn new() -> Self {
        let folder =
            new_folder(&std::env::temp_dir(), "headgate-certificates").expect("the temporary folder takes one");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        let mut parameters = CertificateParams::default();
        // Another one of the same name would be taken for it, and its signatures for forged.
        let name = format!("an authority of the tests, {:016x}", rand::random::<u64>());
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let own = parameters.self_signed(&key).expect("signed");
        fs::write(folder.join("ca.crt"), own.pem()).expect("the folder is ours");
        Self { folder, issuer: Issuer::new(parameters, key) }
    }

    /// Its own certificate's file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The keys of a cluster that is to be reached in TLS of that mode, and to be of this authority where it must prove itself.
    pub fn trusted_with(&self, tls: &str) -> String {
        let ca = format!("tls_ca = \"{}\"\n", self.file().display());
        format!("tls = \"{tls}\"\n{}", if tls.starts_with("verify") { &ca } else { "" })
    }

    /// Signs a certificate; the files of it and of its key, by that name.
    pub fn sign(&self, name: &str, says: Says<'_>) -> (PathBuf, PathBuf) {
        let hosts: Vec<String> = says.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("names of hosts");
        parameters.distinguished_name.push(DnType::CommonName, says.common_name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if says.expired {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2020, 1, 2);
        }
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.signed_by(&key, &self.issuer).expect("signed");
        let file = |end: &str, text: String| {
            let path = self.folder.join(format!("{name}.{end}"));
            fs::write(&path, text).expect("the folder is ours");
            path
        };
        let (certificate, private) = (file("crt", signed.pem()), file("key", key.serialize_pem()));
        // libpq looks at who may read a key.
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        (certificate, private)
    }

    /// The same, and everybody may read the key: MySQL's servers do not mind, and run as another user.
    pub fn sign_openly(&self, name: &str, says: Says<'_>) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(name, says);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("the file is ours");
        (certificate, key)
    }

    /// A certificate for this machine, as clients of the tests name it.
    pub fn sign_for_here(&self, name: &str) -> (PathBuf, PathBuf) {
        self.sign(name, Says { hosts: &["localhost", "127.0.0.1"], ..Says::default() })
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A Headgate that shows this certificate; `more` are further keys of its listener.
pub async fn headgate(engine: Engine, shown: &(PathBuf, PathBuf), more: &str, sections: &str) -> Headgate {
    let mut headgate = prepare(engine, shown, more, sections);
    headgate.launch().await;
    headgate
}

/// The same, and it is not started yet.
pub fn prepare(engine: Engine, shown: &(PathBuf, PathBuf), more: &str, sections: &str) -> Headgate {
    let headgate = Headgate::prepare_for(engine, sections);
    let (certificate, key) = (shown.0.display(), shown.1.display());
    let keys = format!("[listen]\ntls_certificate = \"{certificate}\"\ntls_key = \"{key}\"\n{more}");
    headgate.configure("[listen]\n", &keys);
    headgate
}

impl Postgres {
    /// Has it speak TLS with this certificate from now on; who showed theirs must be of `clients`.
    pub async fn speak_tls(&self, (certificate, key): &(PathBuf, PathBuf), clients: Option<&Path>) {
        let data = self.server.data_dir();
        let owner = fs::metadata(&data).expect("it is there");
        let mut settings = vec![("ssl", "on".to_owned())];
        let files =
            [("ssl_cert_file", Some(certificate.as_path())), ("ssl_key_file", Some(key)), ("ssl_ca_file", clients)];
        for (setting, from) in files {
            let Some(from) = from else { continue };
            let to = data.join(format!("{setting}.pem"));
            fs::copy(from, &to).expect("the folder is ours");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("the file is ours");
            chown(&to, Some(owner.uid()), Some(owner.gid())).expect("the file is ours");
            settings.push((setting, format!("{setting}.pem")));
        }
        for (name, value) in settings {
            self.sql("postgres", &format!("alter system set {name} = '{value}'")).await;
        }
        self.sql("postgres", "select pg_reload_conf()").await;
        self.until_value("postgres", "show ssl", "on").await;
    }
}
