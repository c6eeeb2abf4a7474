//! Who may log in, and with what Headgate logs in itself.

use std::collections::BTreeMap;

use protocol::postgres::auth::Verifier;
use rand::Rng;

use crate::config::{Config, Method, Secret};

/// The rounds of the verifiers made from the configured passwords: PostgreSQL's own default.
const SCRAM_ITERATIONS: u32 = 4096;

/// The verifiers and passwords of a configuration, made once, because each takes thousands of hashes.
pub struct Passwords {
    admin: String,
    admin_verifier: Verifier,
    method: Method,
    users: BTreeMap<String, Known>,
    /// Makes the verifiers of users who do not exist, so that they fail like a wrong password.
    mock: [u8; 32],
}

struct Known {
    password: Secret,
    verifier: Verifier,
}

impl Passwords {
    /// Makes the verifiers.
    pub fn new(config: &Config) -> Self {
        let users = config.users.iter().filter_map(|(name, user)| {
            let password = user.password.clone()?;
            let verifier = verifier(&password);
            Some((name.clone(), Known { password, verifier }))
        });
        let mut mock = [0; 32];
        rand::rng().fill_bytes(&mut mock);
        Self {
            admin: config.admin.user.clone(),
            admin_verifier: verifier(&config.admin.password),
            method: config.login.method,
            users: users.collect(),
            mock,
        }
    }

    /// What a user of the console must prove.
    pub fn of_admin(&self, user: &str) -> Verifier {
        if user == self.admin {
            self.admin_verifier.clone()
        } else {
            self.unknown(user)
        }
    }

    /// What a user of an application must prove; `None` where nothing is asked. A password that Headgate would answer
    /// the cluster with must be known to the client too, or anybody could come in by it.
    pub fn of_user(&self, user: &str) -> Option<Verifier> {
        let known = self.users.get(user).map(|known| known.verifier.clone());
        match self.method {
            Method::Trust => known,
            Method::ScramSha256 | Method::Accounts => {
                Some(known.unwrap_or_else(|| self.unknown(user)))
            }
        }
    }

    /// What Headgate answers where a server asks for this user's password.
    pub fn for_server(&self, user: &str) -> Option<Secret> {
        self.users.get(user).map(|known| known.password.clone())
    }

    fn unknown(&self, user: &str) -> Verifier {
        Verifier::doomed(&self.mock, user.as_bytes())
    }
}

fn verifier(password: &Secret) -> Verifier {
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    Verifier::from_password(password.reveal().as_bytes(), &salt, SCRAM_ITERATIONS)
}
