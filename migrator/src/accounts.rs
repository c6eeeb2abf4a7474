//! Who can log in on the target once it serves: every account of the source is proved, or named as not proved.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};
use crate::model::definitions::named;
use crate::preflight::{Check, Level};

/// An account that can log in on the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, as the operator writes it to waive it: a role, or `user@host`.
    pub name: String,
    /// Whether it can log in on the target with what its clients know.
    pub verdict: Verdict,
    /// Headgate itself would turn its clients away, whichever side serves.
    pub turned_away: bool,
}

/// What is known about an account's login on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can: the reason says what was looked at.
    Proved(&'static str),
    /// Nobody has seen that it can.
    Unproved {
        /// What was seen instead, or what could not be seen.
        why: String,
        /// What the operator can do.
        remedy: String,
        /// The statement that does it; empty where none does as it stands.
        fix: String,
    },
}

/// What a login that was tried came to, or the reason why it failed; `None` where there was nothing to try it with.
pub type Trial<'a> = Pin<Box<dyn Future<Output = Option<std::result::Result<(), String>>> + Send + 'a>>;

/// The passwords of the application's accounts that Headgate knows, kept in memory only.
pub trait Secrets: Send + Sync + 'static {
    /// The password of a user: as the operator configured it, or as a client has shown it where that may be kept.
    fn password(&self, user: &str) -> Option<String>;

    /// Logs in on the cluster at `host` and `port` as this user by what its client's login through Headgate has revealed, where
    /// that is less than the password.
    fn log_in<'a>(&'a self, host: &'a str, port: u16, database: &'a str, user: &'a str) -> Trial<'a> {
        let _ = (host, port, database, user);
        Box::pin(async { None })
    }

    /// Whether Headgate turns this user's clients away, because the configuration does not have it.
    fn turns_away(&self, user: &str) -> bool {
        let _ = user;
        false
    }
}

/// Nobody's password is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn password(&self, _user: &str) -> Option<String> {
        None
    }
}

const NAME: &str = "accounts";

/// Accounts that log in on the source, and that Headgate does not let in: their clients cannot be pointed at it.
fn configured(accounts: &[Account]) -> Option<Check> {
    let missing: Vec<&str> =
        (accounts.iter()).filter(|account| account.turned_away).map(|account| account.name.as_str()).collect();
    let first = missing.first()?;
    let evidence = format!(
        "log in on the source, and cannot come through Headgate, because [users] lacks them: {}",
        missing.join(", ")
    );
    let remedy = format!(
        "for each that an application uses, write a section such as [users.{first}] with its password into the \
         configuration, and send SIGHUP"
    );
    Some(Check::new("configured_users", Level::Warning, evidence, remedy, ""))
}

/// One finding per account that is not proved, or one for all of them.
pub fn findings(accounts: &[Account], waived: &[String]) -> Vec<Check> {
    let mut ways: BTreeSet<&str> = BTreeSet::new();
    let mut checks = Vec::new();
    for account in accounts {
        match &account.verdict {
            Verdict::Proved(how) => drop(ways.insert(how)),
            Verdict::Unproved { why, remedy, fix } => {
                let is_waived = waived.contains(&account.name);
                let level = if is_waived { Level::Warning } else { Level::Error };
                let evidence = format!("{}: {why}", account.name);
                checks.push(Check::new(NAME, level, evidence, remedy, fix));
            }
        }
    }
    if checks.is_empty() {
        let ways: Vec<&str> = ways.into_iter().collect();
        checks.push(Check::ok(
            NAME,
            format!("all {} accounts can log in on the target: {}", accounts.len(), ways.join("; ")),
        ));
    }
    checks.extend(configured(accounts));
    checks
}

/// The same before a migration begins, when an account may still be proved: nothing of it is an error yet.
pub fn early(accounts: &[Account]) -> Vec<Check> {
    let mut checks = findings(accounts, &[]);
    for check in &mut checks {
        check.level = check.level.min(Level::Warning);
    }
    checks
}

/// Refuses where an account is neither proved nor waived by its name.
pub fn admit(accounts: &[Account], waived: &[String]) -> Result<()> {
    let unproved: Vec<String> = findings(accounts, waived)
        .into_iter()
        .filter(|check| check.level == Level::Error)
        .map(|check| check.evidence)
        .collect();
    if unproved.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("nobody has seen that these accounts can log in on the target: {}", named(&unproved)))
        .remedy(
            "SHOW READINESS has the remedy for each; or waive accounts by name, at your own risk: \
         WITH (waive_accounts = 'NAME, NAME')",
        ))
}

#[cfg(test)]
mod tests {
    use super::{Account, Verdict, admit};

    #[test]
    fn one_account_that_nobody_proved_blocks_unless_its_own_name_is_waived() {
        let account = |name: &str, verdict| Account { name: name.to_owned(), verdict, turned_away: false };
        let unproved = Verdict::Unproved {
            why: "its password cannot be read".to_owned(),
            remedy: String::new(),
            fix: String::new(),
        };
        let accounts = [account("shop", Verdict::Proved("same verifier")), account("till", unproved)];
        assert!(admit(&accounts[..1], &[]).is_ok());
        let refused = admit(&accounts, &["shop".to_owned()]).expect_err("till is not proved");
        assert!(refused.full_text().contains("till: its password"), "{refused}");
        assert!(admit(&accounts, &["till".to_owned()]).is_ok());
    }
}
