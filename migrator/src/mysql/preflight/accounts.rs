//! Checks of the accounts: who could not log in on the target, and whom the fence would not stop.

use std::collections::BTreeMap;

use super::super::{Mysql, login};
use super::side::Side;
use crate::accounts::{self as neutral, Verdict};
use crate::error::Result;
use crate::mysql::fence::passing::Passing;
use crate::mysql::schema::accounts;
use crate::mysql::schema::accounts::account::Account;
use crate::mysql::schema::accounts::options;
use crate::mysql::schema::beside;
use crate::preflight::{Findings, Level};

const OPTIONS: &str = "account_options";

pub(super) async fn run(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) {
    match judge(mysql, source, target).await {
        Ok(accounts) => findings.checks.extend(neutral::early(&accounts)),
        Err(failure) => findings.ran("accounts", Err(failure)),
    }
    let outcome = demands(mysql, source, target, findings).await;
    findings.ran(OPTIONS, outcome);
    let outcome = passing(mysql, source, findings).await;
    findings.ran("fence_accounts", outcome);
}

/// Whether each account of the source can log in on the target once the cutover has created what is still to come.
pub(super) async fn judge(mysql: &Mysql, source: &mut Side, target: &mut Side) -> Result<Vec<neutral::Account>> {
    let there = accounts::read(mysql, &mut source.session).await?;
    let here: BTreeMap<_, Account> = accounts::read_target(mysql, &mut target.session)
        .await?
        .into_iter()
        .map(|account| (account.key(), account))
        .collect();
    let offered = accounts::plugins(&mut target.session).await?;
    let demanded = options::read(mysql, &mut source.session).await?;
    let doubled = beside::second_passwords(&mut source.session, source.version).await?;
    let doubled_there = beside::second_passwords(&mut target.session, target.version).await?;
    // Where the account is not there yet, both come along.
    let is_lost = |key: &(String, String)| match doubled.get(key) {
        None => false,
        Some(both) if here.contains_key(key) => doubled_there.get(key) != Some(both),
        Some(_) => !beside::has_second_passwords(target.version),
    };
    let mut judged = Vec::new();
    let can_log_in = |account: &&Account| !account.is_role && !account.locked;
    for account in there.iter().filter(can_log_in) {
        let name = account.quoted();
        let verdict = match here.get(&account.key()) {
            _ if account.user == mysql.source().user => {
                Verdict::Proved("Headgate's own account, which is configured for each side")
            }
            _ if is_seen_elsewhere(mysql, account) => Verdict::Unproved {
                why: format!(
                    "it is for clients at {}, whose addresses only one of both clusters sees (clusters.NAME.proxy_protocol); the \
                     other sees Headgate's",
                    account.host
                ),
                remedy: "let both clusters take PROXY headers, or neither; or make an account on the target for Headgate's host"
                    .to_owned(),
                fix: String::new(),
            },
            _ if is_lost(&account.key()) => Verdict::Unproved {
                why: "it has a second password, which it does not have on the target".to_owned(),
                remedy: "let all its clients use the new password, then discard the old one".to_owned(),
                fix: format!("ALTER USER {name} DISCARD OLD PASSWORD"),
            },
            Some(same) if same.locked => Verdict::Unproved {
                why: "it is locked on the target".to_owned(),
                remedy: "unlock it there".to_owned(),
                fix: format!("ALTER USER {name} ACCOUNT UNLOCK"),
            },
            Some(same) if same.plugin == account.plugin && same.proof == account.proof => {
                Verdict::Proved("the same password on both sides")
            }
            Some(same) if has_no_password(account) && has_no_password(same) => {
                Verdict::Proved("no password on either side")
            }
            Some(same) => tried(mysql, account, same).await,
            None if accounts::is_possible(mysql, account, &offered) => {
                Verdict::Proved("created at the cutover with the same password")
            }
            None => Verdict::Unproved {
                why: format!(
                    "it logs in by {}, which {} does not have",
                    account.plugin, target.version
                ),
                remedy: "let Headgate keep the password that the client shows at its next login (login.capture_passwords), give it as users.NAME.password, or create the account on the target by hand".to_owned(),
                fix: format!(
                    "CREATE USER {name} IDENTIFIED BY '…'{}",
                    (demanded.get(&account.key()))
                        .map(|one| one.written(target.version))
                        .unwrap_or_default()
                ),
            },
        };
        let turned_away = mysql.secrets().turns_away(&account.user);
        judged.push(neutral::Account { name, verdict, turned_away });
    }
    Ok(judged)
}

/// Accounts that the target has already, and that demand or may use up something else there: the check would find them
/// different. Those that it lacks are created with all of it.
async fn demands(mysql: &Mysql, source: &mut Side, target: &mut Side, findings: &mut Findings) -> Result<()> {
    let there = accounts::read(mysql, &mut source.session).await?;
    let wanted = options::read(mysql, &mut source.session).await?;
    let here = options::read(mysql, &mut target.session).await?;
    let mut differing = Vec::new();
    let mut timed = Vec::new();
    for account in there.iter().filter(|account| !account.is_role) {
        let name = account.quoted();
        let Some(wanted) = wanted.get(&account.key()) else {
            continue;
        };
        if let Some(seconds) =
            wanted.statement_time().filter(|_| source.version.is_mariadb() && !target.version.is_mariadb())
        {
            timed.push((
                format!("{name} has its statements ended after {seconds} s (MAX_STATEMENT_TIME), and on the target they may run for ever"),
                format!("ALTER USER {name} WITH MAX_STATEMENT_TIME 0"),
            ));
        }
        let Some(has) = here.get(&account.key()) else {
            continue;
        };
        for clause in wanted.beyond(has) {
            differing.push((
                format!("{name} is on the target already, and not with the source's {clause}"),
                format!("ALTER USER {name} {clause}"),
            ));
        }
        if has.is_expired() && !wanted.is_expired() {
            differing
                .push((format!("the password of {name} has expired on the target: set it anew there"), String::new()));
        }
    }
    findings.each(
        OPTIONS,
        Level::Warning,
        &differing,
        "make it the same on the target: until then the check finds the account different",
        "accounts demand and may use up the same on both sides",
    );
    findings.each(
        "account_statement_time",
        Level::Warning,
        &timed,
        "no account of MySQL's has such a limit: let the application set max_execution_time in its sessions, and take the limit \
         away here, so that it is missed before the switch and not after it",
        "no account has a limit that the target does not know",
    );
    Ok(())
}

/// Whether everybody may log in as it: it asks for a password, and has none.
fn has_no_password(account: &Account) -> bool {
    const BY_PASSWORD: [&str; 4] = ["mysql_native_password", "caching_sha2_password", "sha256_password", "ed25519"];
    account.proof.is_empty() && BY_PASSWORD.contains(&account.plugin.as_str())
}

/// Whether the host that it is for is the client's on one side, and Headgate's on the other.
fn is_seen_elsewhere(mysql: &Mysql, account: &Account) -> bool {
    mysql.source().proxy_protocol != mysql.target().proxy_protocol && is_bound(account)
}

/// Whether it is for some hosts only, other than the server's own.
fn is_bound(account: &Account) -> bool {
    !["", "%", "localhost", "127.0.0.1", "::1"].contains(&account.host.as_str())
}

/// An account that proves itself in another way, or by something else, on the target: only a login tells.
async fn tried(mysql: &Mysql, account: &Account, target: &Account) -> Verdict {
    if mysql.target().proxy_protocol && is_bound(account) {
        return Verdict::Unproved {
            why: format!(
                "its password, or the form of it, is another one on the target, and Headgate cannot try it from {}",
                account.host
            ),
            remedy: "give it the same password on the target".to_owned(),
            fix: String::new(),
        };
    }
    let (why, remedy) = match login::try_on_target(mysql, &account.user).await {
        Some(Ok(())) => {
            return Verdict::Proved("logged in on the target with the password that Headgate has");
        }
        Some(Err(failure)) => (
            format!("the password that Headgate has does not log in on the target: {}", failure.full_text()),
            "set this password on the target",
        ),
        None if target.plugin == account.plugin => (
            "it has another password, or another form of it, on the target".to_owned(),
            "give it the same password on the target; where it is the same already, let Headgate try it (login.capture_passwords, or users.NAME.password)",
        ),
        None => (
            format!(
                "it logs in by {} here and by {} on the target, and Headgate does not know its password",
                account.plugin, target.plugin
            ),
            "let Headgate keep the password that the client shows at its next login (login.capture_passwords), or give it as users.NAME.password",
        ),
    };
    Verdict::Unproved { why, remedy: remedy.to_owned(), fix: String::new() }
}

/// Whom the fence does not stop, and what runs as somebody whom it does not stop.
async fn passing(mysql: &Mysql, source: &mut Side, findings: &mut Findings) -> Result<()> {
    let who = Passing::read(mysql, &mut source.session).await?;
    who.tell(findings);
    who.tell_of_procedures(&mut source.session, findings).await
}
