//! Passwords that Headgate knows: those of the configuration, and those that clients proved, in memory only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::config::{Config, Secret};

/// Users whose password is remembered; more than any application has.
const REMEMBERED_MAX: usize = 10_000;

/// A password as bytes, wiped when it is dropped.
pub type Password = Zeroizing<Vec<u8>>;

/// The known passwords.
pub struct Passwords {
    configured: ArcSwap<Configured>,
    proven: Mutex<HashMap<Vec<u8>, Password>>,
}

/// What one reading of the configuration knows.
struct Configured {
    admin: (String, Secret),
    users: BTreeMap<String, Secret>,
    capture: bool,
}

impl Configured {
    fn new(config: &Config) -> Self {
        let users = config.users.iter();
        Self {
            admin: (config.admin.user.clone(), config.admin.password.clone()),
            users: users.filter_map(|(name, user)| Some((name.clone(), user.password.clone()?))).collect(),
            capture: config.login.capture_passwords,
        }
    }
}

impl Passwords {
    /// Those of the configuration.
    pub fn new(config: &Config) -> Self {
        Self { configured: ArcSwap::from_pointee(Configured::new(config)), proven: Mutex::default() }
    }

    /// Those of another configuration, beside what clients have proved.
    pub fn renew(&self, config: &Config) {
        self.configured.store(Arc::new(Configured::new(config)));
    }

    /// Whether clients are asked for the password itself even where a proof would do.
    pub fn capture(&self) -> bool {
        self.configured.load().capture
    }

    /// The password of the console's user; `None` for everybody else.
    pub fn of_admin(&self, user: &[u8]) -> Option<Password> {
        let (name, password) = &self.configured.load().admin;
        (user == name.as_bytes()).then(|| bytes(password))
    }

    /// What a user's password may be: what was proven last, and what the configuration has.
    pub fn known(&self, user: &[u8]) -> Vec<Password> {
        let proven = self.proven.lock().get(user).cloned();
        let configured = self.configured.load();
        let configured = std::str::from_utf8(user).ok().and_then(|name| configured.users.get(name));
        proven.into_iter().chain(configured.map(bytes)).collect()
    }

    /// Remembers a password that a server has just accepted, until the program ends.
    pub fn remember(&self, user: &[u8], password: &Password) {
        let mut proven = self.proven.lock();
        if proven.len() < REMEMBERED_MAX || proven.contains_key(user) {
            proven.insert(user.to_vec(), password.clone());
        }
    }

    /// Forgets a password that a server has refused.
    pub fn forget(&self, user: &[u8], password: &Password) {
        let mut proven = self.proven.lock();
        if proven.get(user) == Some(password) {
            proven.remove(user);
        }
    }

    /// A user's password for a migration that has to create the account anew; only where the operator allows it.
    pub fn captured(&self, user: &str) -> Option<String> {
        let configured = self.configured.load();
        if let Some(secret) = configured.users.get(user) {
            return Some(secret.reveal().to_owned());
        }
        if !configured.capture {
            return None;
        }
        let proven = self.proven.lock();
        let password = proven.get(user.as_bytes())?;
        String::from_utf8(password.to_vec()).ok()
    }
}

fn bytes(secret: &Secret) -> Password {
    Zeroizing::new(secret.reveal().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(capture: bool) -> Passwords {
        let text = format!(
            "[admin]\npassword = \"a\"\n[clusters.blue]\nengine = \"mysql\"\nhost = \"h\"\nuser = \"u\"\n\
             [routes.shop]\ncluster = \"blue\"\n[login]\ncapture_passwords = {capture}\n[users.app]\npassword = \"p\"\n"
        );
        Passwords::new(&Config::parse(&text, &|_| None).expect("valid"))
    }

    #[test]
    fn what_clients_proved_is_given_away_only_where_the_operator_asked_for_it() {
        let proven = Zeroizing::new(b"proven".to_vec());
        for capture in [false, true] {
            let passwords = passwords(capture);
            passwords.remember(b"web", &proven);
            assert_eq!(passwords.captured("web").is_some(), capture);
            assert_eq!(passwords.captured("app").as_deref(), Some("p"));
            assert_eq!(passwords.known(b"web"), vec![proven.clone()]);
        }
    }

    #[test]
    fn a_refused_password_is_forgotten_and_a_newer_one_is_not() {
        let passwords = passwords(false);
        let (old, new) = (Zeroizing::new(b"old".to_vec()), Zeroizing::new(b"new".to_vec()));
        passwords.remember(b"web", &old);
        passwords.remember(b"web", &new);
        passwords.forget(b"web", &old);
        assert_eq!(passwords.known(b"web"), vec![new.clone()]);
        passwords.forget(b"web", &new);
        assert!(passwords.known(b"web").is_empty());
    }
}
