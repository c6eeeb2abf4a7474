//! Who may log in, and with what Headgate logs in itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use protocol::postgres::auth::Verifier;
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
}

/// What one reading of the configuration knows.
#[derive(Debug)]
pub struct Known {
    admin: (String, User),
    method: Method,
    users: BTreeMap<String, User>,
}

#[derive(Clone, Debug)]
struct User {
    password: Secret,
    verifier: Verifier,
}

impl User {
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
        let make = |known: Option<&User>, password: &Secret| match known {
            Some(known) if known.password == *password => known.clone(),
            _ => User::new(password),
        };
        let users = config.users.iter().filter_map(|(name, user)| {
            let known = before.and_then(|before| before.users.get(name));
            Some((name.clone(), make(known, user.password.as_ref()?)))
        });
        let admin = before.map(|before| &before.admin.1);
        Self {
            admin: (config.admin.user.clone(), make(admin, &config.admin.password)),
            method: config.login.method,
            users: users.collect(),
        }
    }
}

impl Passwords {
    /// Makes the verifiers.
    pub fn new(config: &Config) -> Self {
        let mut mock = [0; 32];
        rand::rng().fill_bytes(&mut mock);
        Self { mock, known: ArcSwap::from_pointee(Known::new(config, None)) }
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

    /// What a user of an application must prove; `None` where nothing is asked. A password that Headgate would answer
    /// the cluster with must be known to the client too, or anybody could come in by it.
    pub fn of_user(&self, user: &str) -> Option<Verifier> {
        let all = self.known.load();
        let known = all.users.get(user).map(|known| known.verifier.clone());
        match all.method {
            Method::Trust => known,
            Method::ScramSha256 | Method::Accounts => Some(known.unwrap_or_else(|| self.unknown(user))),
        }
    }

    /// Whether nothing that this user could prove lets it in.
    pub fn turns_away(&self, user: &str) -> bool {
        let all = self.known.load();
        all.method != Method::Trust && !all.users.contains_key(user)
    }

    /// What Headgate answers where a server asks for this user's password.
    pub fn for_server(&self, user: &str) -> Option<Secret> {
        let all = self.known.load();
        all.users.get(user).map(|known| known.password.clone())
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
        let passwords = Passwords::new(&config("[users.app]\npassword = \"p\"\n"));
        let (app, nobody) = (passwords.of_user("app"), passwords.of_user("web"));
        let both = "[users.app]\npassword = \"p\"\n[users.web]\npassword = \"w\"\n";
        let known = passwords.prepare(&config(both));
        assert_eq!(passwords.of_user("web"), nobody);
        assert!(passwords.turns_away("web") && !passwords.turns_away("app"));
        passwords.renew(known);
        assert!(passwords.of_user("web") != nobody && passwords.for_server("web").is_some());
        assert_eq!(passwords.of_user("app"), app, "another salt tells of a reload");
        passwords.renew(passwords.prepare(&config("[users.web]\npassword = \"v\"\n")));
        assert!(passwords.for_server("app").is_none());
    }
}
