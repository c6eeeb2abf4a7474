//! What a managed service adds to a server of MySQL or MariaDB, and in which words it gives what it takes from everybody. Read
//! from the services' own documentation: what decides is tried on the server itself.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};

use super::catalogue::ask;
use crate::error::Result;
use crate::service::Service;

/// Each service by a procedure of its own, which ends a session of another account.
const ENDING: [(Service, &str); 2] = [(Service::Rds, "rds_kill"), (Service::Azure, "az_kill")];
/// What keeps an account from KILL: the session is another's, or a right lacks.
const MAY_NOT: [u16; 2] = [1095, 1227];
/// There is no such procedure, or it may not be called.
const NO_PROCEDURE: [u16; 4] = [1044, 1142, 1305, 1370];
/// What MySQL calls the log's retention on RDS.
const RETENTION: &str = "binlog retention hours";

/// Who runs a server: told by a procedure of the service's that this session may call.
pub(super) async fn of(session: &mut Conn) -> Result<Service> {
    let names: Vec<String> = ENDING.iter().map(|(_, name)| format!("'{name}'")).collect();
    let query = format!(
        "SELECT ROUTINE_NAME FROM information_schema.ROUTINES
         WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME IN ({})",
        names.join(", ")
    );
    let rows = ask(session, &query, "cannot see who runs a server").await?;
    let found = rows.first().map(|row| row.owned(0)).unwrap_or_default();
    Ok(ENDING.iter().find(|(_, name)| *name == found).map_or(Service::Own, |(service, _)| *service))
}

/// Ends a session by KILL, or where that is denied by the service's procedure. Fails with what KILL said.
pub(super) async fn end_session(session: &mut Conn, id: u64) -> std::result::Result<(), Failure> {
    let denied = match session.query_drop(format!("KILL CONNECTION {id}")).await {
        Err(Failure::Server(reported)) if MAY_NOT.contains(&reported.code) => Failure::Server(reported),
        outcome => return outcome,
    };
    for (_, name) in ENDING {
        match session.query_drop(format!("CALL mysql.{name}({id})")).await {
            Err(Failure::Server(reported)) if NO_PROCEDURE.contains(&reported.code) => {}
            outcome => return outcome,
        }
    }
    Err(denied)
}

/// Whether an account, or a role, is the service's own: neither made nor looked at elsewhere.
pub(super) fn is_services(user: &str) -> bool {
    user.starts_with("rdsadmin")
        || user.starts_with("rdsrepladmin")
        || user.starts_with("cloudsql")
        || user.starts_with("azure_superuser")
        || user.starts_with("AWS_")
        || matches!(user, "rds_superuser_role" | "rdsproxyadmin" | "doadmin")
}

/// How many hours RDS keeps the log: none says that it is purged as soon as nobody of RDS needs it. `None` where the server is
/// not RDS's.
pub(super) async fn retention_hours(session: &mut Conn) -> Result<Option<Option<u64>>> {
    if of(session).await? != Service::Rds {
        return Ok(None);
    }
    let rows = ask(session, "CALL mysql.rds_show_configuration()", "cannot read how long the log is kept").await?;
    let row = rows.iter().find(|row| row.text(0) == RETENTION);
    Ok(Some(row.and_then(|row| row.text(1).parse().ok())))
}

/// The statement that has RDS keep its log.
pub(super) fn keep_log(hours: u64) -> String {
    format!("CALL mysql.rds_set_configuration('{RETENTION}', {hours})")
}
