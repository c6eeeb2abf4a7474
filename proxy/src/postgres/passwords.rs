//! Who may log in, and with what Headgate logs in itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use protocol::postgres::auth::{Credential, Md5Verifier, Verifier};
use rand::Rng;

use crate::config::{Config, Method, Secret};

/// The rounds of the verifiers made from the configured passwords: PostgreSQL's own default.
const SCRAM_ITERATIONS: u32 = 4096;

/// The verifiers and passwords of a configuration, made once, because each takes thousands of hashes.
#[derive(Debug)]
pub struct Passwords {
    /// Makes the verifiers of users who do not exist, so that they fail like a wrong password.
    mock: [u8; 32],
    known: ArcSwap<Known>,
    /// Passwords that clients have shown and servers have taken, in memory only.
    shown: Mutex<BTreeMap<String, Secret>>,
    /// What logins have revealed that is less than the password, and opens a role with the same verifier; in memory only.
    revealed: Mutex<BTreeMap<String, Credential>>,
}

/// What one login is about.
#[derive(Debug)]
pub struct Terms {
    /// What the client has to prove.
    pub demand: Demand,
    /// What a server is answered with, where the configuration has it.
    pub credential: Option<Credential>,
    /// The query that gives a role's verifier, where it is not read from the catalogue.
    pub auth_query: Option<String>,
}

/// What a client has to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: the cluster decides.
    Nothing,
    /// That it has the password of this verifier, by SCRAM.
    Scram(Verifier),
    /// The same, by MD5.
    Md5(Md5Verifier),
    /// The password itself, which the cluster judges.
    Password,
    /// What the role's verifier on the cluster says.
    OfAccount,
}

/// The most users whose passwords are kept because they were shown.
const SHOWN_MAX: usize = 10_000;

/// What one reading of the configuration knows.
#[derive(Debug)]
pub struct Known {
    admin: (String, Configured),
    method: Method,
    auth_query: Option<String>,
    users: BTreeMap<String, User>,
}

/// A password of the configuration.
#[derive(Clone, Debug)]
struct Configured {
    password: Secret,
    verifier: Verifier,
}

/// A user of the configuration.
#[derive(Clone, Debug)]
struct User {
    password: Option<Configured>,
    certificate: Option<String>,
}

impl Configured {
    fn new(password: &Secret) -> Self {
        let mut salt = [0; 16];
        rand::rng().fill_bytes(&mut salt);
        Self {
            password: password.clone(),
            verifier: Verifier::from_password(password.reveal().as_bytes(), &salt, SCRAM_ITERATIONS),
        }
    }
}

impl Known {
    /// Makes the verifiers, but for those of passwords that `before` has already.
    fn new(config: &Config, before: Option<&Self>) -> Self {
        let make = |known: Option<&Configured>, password: &Secret| match known {
            Some(known) if known.password == *password => known.clone(),
            _ => Configured::new(password),
        };
        let users = config.users.iter().map(|(name, user)| {
            let known = before.and_then(|before| before.users.get(name)?.password.as_ref());
            let password = user.password.as_ref().map(|password| make(known, password));
            (name.clone(), User { password, certificate: user.certificate.clone() })
        });
        let admin = before.map(|before| &before.admin.1);
        Self {
            admin: (config.admin.user.clone(), make(admin, &config.admin.password)),
            method: config.login.method,
            auth_query: config.login.auth_query.clone(),
            users: users.collect(),
        }
    }
}

impl Passwords {
    /// Makes the verifiers.
    pub fn new(config: &Config) -> Self {
        let mut mock = [0; 32];
        rand::rng().fill_bytes(&mut mock);
        Self {
            mock,
            known: ArcSwap::from_pointee(Known::new(config, None)),
            shown: Mutex::default(),
            revealed: Mutex::default(),
        }
    }

    /// What another configuration knows; nobody is asked for it before [`Passwords::renew`].
    pub fn prepare(&self, config: &Config) -> Known {
        Known::new(config, Some(&self.known.load()))
    }

    /// From now on logins are judged by this.
    pub fn renew(&self, known: Known) {
        self.known.store(Arc::new(known));
    }

    /// What a user of the console must prove.
    pub fn of_admin(&self, user: &str) -> Verifier {
        let (name, admin) = &self.known.load().admin;
        if user == name { admin.verifier.clone() } else { self.unknown(user) }
    }

    /// What a user of an application must prove, as far as the configuration says. A password that Headgate would answer the
    /// cluster with must be known to the client too, or anybody could come in by it.
    pub fn demand(&self, user: &str) -> Demand {
        self.terms(user, None).demand
    }

    /// What a login of this user is about, by one reading of the configuration, whatever comes after: what must be proven,
    /// and what a server is answered with. A certificate of that name may prove the user.
    pub fn terms(&self, user: &str, certificate: Option<&str>) -> Terms {
        let all = self.known.load();
        let known = all.users.get(user);
        let shown =
            certificate.is_some_and(|name| known.is_some_and(|known| known.certificate.as_deref() == Some(name)));
        let configured = known.and_then(|known| known.password.as_ref());
        Terms {
            demand: if shown { Demand::Nothing } else { self.demanded(&all, user) },
            credential: configured.map(|known| Credential::password(known.password.reveal().as_bytes())),
            auth_query: all.auth_query.clone(),
        }
    }

    fn demanded(&self, all: &Known, user: &str) -> Demand {
        match (all.users.get(user).and_then(|known| known.password.as_ref()), all.method) {
            (Some(known), _) => Demand::Scram(known.verifier.clone()),
            (None, Method::Trust) => Demand::Nothing,
            (None, Method::ScramSha256) => Demand::Scram(self.unknown(user)),
            (None, Method::Accounts) => Demand::OfAccount,
            (None, Method::Password) => Demand::Password,
        }
    }

    /// What somebody proves who has no password: nothing that is right.
    pub fn of_nobody(&self, user: &str) -> Demand {
        Demand::Scram(self.unknown(user))
    }

    /// Whether nothing that this user could prove lets it in.
    pub fn turns_away(&self, user: &str) -> bool {
        let all = self.known.load();
        all.method == Method::ScramSha256
            && all.users.get(user).is_none_or(|known| known.password.is_none() && known.certificate.is_none())
    }

    /// A password that a server has just taken for this user's.
    pub fn remember(&self, user: &str, password: &[u8]) {
        let Ok(text) = std::str::from_utf8(password) else { return };
        let mut shown = self.shown.lock();
        if shown.len() < SHOWN_MAX || shown.contains_key(user) {
            shown.insert(user.to_owned(), Secret::new(text.to_owned()));
        }
    }

    /// The server does not take it any more.
    pub fn forget(&self, user: &str, password: &[u8]) {
        let mut shown = self.shown.lock();
        if shown.get(user).is_some_and(|known| known.reveal().as_bytes() == password) {
            shown.remove(user);
        }
    }

    /// What a login of this user has revealed, which has opened a session on its cluster.
    pub fn reveal(&self, user: &str, credential: &Credential) {
        if !matches!(credential, Credential::Scram(_) | Credential::Md5(_)) {
            return;
        }
        let mut revealed = self.revealed.lock();
        if revealed.len() < SHOWN_MAX || revealed.contains_key(user) {
            revealed.insert(user.to_owned(), credential.clone());
        }
    }

    /// What logins of this user have revealed.
    pub fn revealed(&self, user: &str) -> Option<Credential> {
        self.revealed.lock().get(user).cloned()
    }

    /// The password of a user as the configuration has it, or as its client has shown it.
    pub fn password(&self, user: &str) -> Option<Secret> {
        self.for_server(user).or_else(|| self.shown.lock().get(user).cloned())
    }

    /// What Headgate answers where a server asks for this user's password.
    pub fn for_server(&self, user: &str) -> Option<Secret> {
        let all = self.known.load();
        all.users.get(user)?.password.as_ref().map(|known| known.password.clone())
    }

    /// What Headgate proves this user by to a server, where the configuration has its password.
    pub fn credential(&self, user: &str) -> Option<Credential> {
        let password = self.for_server(user)?;
        Some(Credential::password(password.reveal().as_bytes()))
    }

    fn unknown(&self, user: &str) -> Verifier {
        Verifier::doomed(&self.mock, user.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(users: &str) -> Config {
        let text = format!(
            "[admin]\npassword = \"a\"\n[clusters.blue]\nengine = \"postgres\"\nhost = \"h\"\nuser = \"u\"\n\
             [routes.shop]\ncluster = \"blue\"\n{users}"
        );
        Config::parse(&text, &|_| None).expect("valid")
    }

    #[test]
    fn another_configuration_counts_from_its_renewal_on_and_the_rest_stays_as_it_is() {
        let method = "[login]\nmethod = \"scram-sha-256\"\n";
        let config = |users: &str| config(&[method, users].concat());
        let passwords = Passwords::new(&config("[users.app]\npassword = \"p\"\n"));
        let (app, nobody) = (passwords.demand("app"), passwords.demand("web"));
        let both = "[users.app]\npassword = \"p\"\n[users.web]\npassword = \"w\"\n";
        let known = passwords.prepare(&config(both));
        assert_eq!(passwords.demand("web"), nobody);
        assert!(passwords.turns_away("web") && !passwords.turns_away("app"));
        passwords.renew(known);
        assert!(passwords.demand("web") != nobody && passwords.for_server("web").is_some());
        assert_eq!(passwords.demand("app"), app, "another salt tells of a reload");
        passwords.renew(passwords.prepare(&config("[users.web]\npassword = \"v\"\n")));
        assert!(passwords.for_server("app").is_none());
    }

    #[test]
    fn who_is_not_configured_proves_what_the_method_says() {
        let with = |method: &str| {
            let users = "[users.app]\npassword = \"p\"\n[users.web]\n";
            let mut config = config(&format!("[login]\nmethod = \"{method}\"\n{users}"));
            config.users.get_mut("web").expect("there").certificate = Some("web.example".to_owned());
            Passwords::new(&config)
        };
        for (method, expected) in
            [("trust", Demand::Nothing), ("accounts", Demand::OfAccount), ("password", Demand::Password)]
        {
            let passwords = with(method);
            assert_eq!(passwords.demand("web"), expected);
            assert!(matches!(passwords.demand("app"), Demand::Scram(_)) && !passwords.turns_away("web"), "{method}");
            let with = |certificate: &str, user: &str| passwords.terms(user, Some(certificate)).demand;
            assert_eq!(with("web.example", "web"), Demand::Nothing, "{method}");
            assert!(with("web.example", "app") != Demand::Nothing && with("app", "app") != Demand::Nothing, "{method}");
        }
    }

    #[test]
    fn a_password_that_was_shown_is_known_until_a_server_refuses_it() {
        let passwords = Passwords::new(&config(""));
        passwords.remember("web", b"old");
        passwords.remember("web", b"new");
        passwords.forget("web", b"old");
        assert_eq!(passwords.password("web").expect("known").reveal(), "new");
        assert!(passwords.for_server("web").is_none(), "the configuration has none");
        passwords.forget("web", b"new");
        assert!(passwords.password("web").is_none());
    }
}
