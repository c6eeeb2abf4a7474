//! The data directory that a new server begins with: made once, then copied, because making one takes seconds.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use super::command;
use crate::disposable::ground::Account;
use crate::disposable::process::run;
use crate::disposable::reachable::{data_folder, identity, kept};
use crate::disposable::{Error, while_doing};

use super::binaries::{Binaries, Kind};

/// Nobody but root, from this machine, without a password. The accounts come in the same way for all: a session by TCP
/// is at 127.0.0.1 where names are not resolved, and at localhost where they are.
const ACCOUNTS: &str = "CREATE USER root@'127.0.0.1';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n";

/// The older servers have made all accounts of root themselves; one without a name would shadow accounts at '%'.
const NO_ANONYMOUS: &str = "\nDELETE FROM mysql.user WHERE user = '';\nDELETE FROM mysql.db WHERE db LIKE 'test%';\n";

/// The folder whose `data` is a fresh data directory of this server, readable for the user that servers run as.
pub(super) async fn template(binaries: &Binaries, account: Option<&Account>) -> Result<PathBuf, Error> {
    let program = binaries.program(binaries.kind.server());
    let statements = first_statements(binaries)?;
    let arguments = arguments(binaries.kind);
    let recipe = (statements.as_str(), arguments);
    let name = identity(&binaries.root, &program, recipe, binaries.kind.folder())?;
    kept(&format!("headgate-template-{name}"), async |work| {
        let data = data_folder(work, account)?;
        let script = work.join("first.sql");
        while_doing(fs::write(&script, &statements), || format!("writing {}", script.display()))?;
        let mut server = command(binaries, account, &data);
        server.arg("--no-defaults");
        server.arg(format!("--basedir={}", binaries.root.display()));
        server.arg(format!("--datadir={}", data.display()));
        server.args(arguments).stdin(Stdio::null());
        if binaries.kind == Kind::Mysql97 {
            server.arg(format!("--init-file={}", script.display()));
        } else {
            // A server that starts removes what looks like its own from there, also what another one uses.
            server.arg(format!("--tmpdir={}", data.display()));
            let input = File::open(&script);
            server.stdin(while_doing(input, || format!("opening {}", script.display()))?);
        }
        let what = format!("making the data of {}", binaries.kind.title());
        run(server, &what).await?;
        // It holds the server's identity, which no two servers may share.
        let removed = fs::remove_file(data.join("auto.cnf"));
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                while_doing(Err(error), || format!("cleaning {}", data.display()))
            }
            _ => Ok(()),
        }
    })
    .await
}

/// How the server is told to make a data directory, with logs that are small to copy.
fn arguments(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Mysql97 => &["--initialize-insecure", "--innodb-redo-log-capacity=8M"],
        Kind::Mysql56 | Kind::Mariadb1011 => &["--bootstrap", "--innodb-log-file-size=16M"],
    }
}

/// What the new data directory hears first.
fn first_statements(binaries: &Binaries) -> Result<String, Error> {
    let files: &[&str] = match binaries.kind {
        Kind::Mysql97 => return Ok(ACCOUNTS.to_owned()),
        Kind::Mysql56 => &["mysql_system_tables.sql", "mysql_system_tables_data.sql"],
        Kind::Mariadb1011 => &[
            "mysql_system_tables.sql",
            "mysql_performance_tables.sql",
            "mysql_system_tables_data.sql",
            "maria_add_gis_sp_bootstrap.sql",
            "mysql_sys_schema.sql",
        ],
    };
    let mut statements = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n".to_owned();
    for name in files {
        let path = binaries.share(name);
        let text = while_doing(fs::read_to_string(&path), || format!("reading {}", path.display()))?;
        statements.push_str(&text);
    }
    statements.push_str("\nUSE mysql;");
    statements.push_str(NO_ANONYMOUS);
    Ok(statements)
}
