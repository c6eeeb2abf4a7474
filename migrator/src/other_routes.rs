//! Other routes to the databases that a migration moves: their clients pass other gates, so that nothing is cut over
//! before there is none.

use crate::error::{Error, Result};
use crate::model::definitions::named;
use crate::preflight::{Check, Level};
use crate::traffic::Traffic;

const NAME: &str = "other_routes";

/// Refuses where another gate than that of the route lets clients into these databases on its cluster.
pub(crate) fn refuse(traffic: &dyn Traffic, route: &str, source: &str, databases: &[String]) -> Result<()> {
    let found = traffic.other_routes(route, databases)?;
    if found.is_empty() {
        return Ok(());
    }
    let mut sections = Vec::new();
    let mut places = Vec::new();
    for (other, database) in &found {
        let (section, who) = match other.as_str() {
            "*" => ("[routes.\"*\"]".to_owned(), "the default route".to_owned()),
            other => (format!("[routes.{other}]"), format!("route {other}")),
        };
        places.push(format!("{who} serves database {database}"));
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    Err(Error::refused(format!(
        "the gate of route {route} does not hold all clients of what moves, so that the fence would refuse their writes \
         and the switch would leave them on {source}: {}",
        named(&places)
    ))
    .remedy(format!(
        "take {} out of the configuration and reload (SIGHUP), let their clients come in by route {route}, and their \
         sessions end; or, where the migration has several databases, leave those of other routes out of it and move \
         each by one of its own",
        sections.join(", ")
    )))
}

/// Whether the gate of the route holds everybody who comes to these databases through Headgate.
pub(crate) fn finding(traffic: &dyn Traffic, route: &str, source: &str, databases: &[String]) -> Check {
    match refuse(traffic, route, source, databases) {
        Ok(()) => Check::ok(NAME, "no other route serves what moves"),
        Err(error) => {
            let remedy = error.remedy_text().unwrap_or_default();
            Check::new(NAME, Level::Error, error.full_text(), remedy, "")
        }
    }
}
