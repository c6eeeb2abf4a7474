//! Checks of what each account may see of a server's definitions: what it may not, nobody can call equal.

use super::super::Mysql;
use super::side::Side;
use crate::mysql::check::inventory::reading::Catalogue;
use crate::preflight::{Findings, Level};

const REMEDY: &str = "grant the right: what cannot be seen can be neither carried nor compared";

pub(super) async fn run(mysql: &Mysql, name: &str, side: &str, server: &mut Side, findings: &mut Findings) {
    let catalogue = match Catalogue::open(mysql, &mut server.session).await {
        Ok(catalogue) => catalogue,
        Err(failure) => return findings.ran(name, Err(failure)),
    };
    let account = catalogue.account();
    let hidden: Vec<(String, String)> = catalogue
        .hidden()
        .iter()
        .map(|(what, grant)| {
            let evidence = format!("{what} cannot be known: {account} may not look at it on the {side}");
            (evidence, grant.clone())
        })
        .collect();
    let otherwise = "Headgate's account sees every definition that is compared";
    findings.each(name, Level::Error, &hidden, REMEDY, otherwise);
}
