//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use migrator::rights::Side;
use migrator::service::Service;

/// Moves a live PostgreSQL, MySQL or MariaDB database to a new cluster while the application keeps running.
///
/// The application connects to Headgate as it would to its database. Headgate copies the data underneath, follows
/// every change, proves that both sides are equal, and switches in one short pause of writes.
#[derive(Parser)]
#[command(name = "headgate", version, arg_required_else_help = true)]
pub(crate) struct Line {
    /// Write the log as JSON, one object a line; HEADGATE_LOG chooses what is told, such as "debug"
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve applications and the admin console until SIGTERM or SIGINT
    ///
    /// The first signal stops accepting, waits for open transactions up to limits.drain_timeout, and closes the
    /// sessions with 57P01; a cutover under way is waited for up to 75 seconds. The second signal does not wait.
    /// Migrations stop where they are and go on with the next start. SIGHUP reads the configuration file again and
    /// applies users, routes, certificates and new clusters, all of it or nothing; what needs a restart is logged.
    Run {
        /// The configuration file
        #[arg(long, env = "HEADGATE_CONFIG", default_value = "headgate.toml")]
        config: PathBuf,
    },
    /// Tell every problem of a configuration file, without opening a socket
    CheckConfig {
        /// The configuration file
        #[arg(long, env = "HEADGATE_CONFIG", default_value = "headgate.toml")]
        config: PathBuf,
    },
    /// Tell about the configuration file's keys
    Config(ConfigCommand),
    /// Print the least rights that Headgate's own account needs, as SQL
    ///
    /// For the source and for the target of a migration apart. Each statement says what it is for, and what is lost
    /// without it; the precheck asks for the same rights by the same statements. The password is not part of it: for
    /// PostgreSQL it is psql's variable password (psql -v password=...), for MySQL and MariaDB it goes where the printed
    /// text has its placeholder. What is needed only in some cases is commented out. What the application's own roles and
    /// accounts have beyond the usual, such as superuser or rights on all databases, the precheck asks for when it sees it.
    Grants(Grants),
    /// Move a database in one go, with progress on the terminal
    ///
    /// Without --cutover the command ends when both sides were found equal and the target follows; the same command with
    /// the same journal goes on, and --drop gives it up. Only connections that go through this Headgate (--listen) follow
    /// the switch; what connects to the source directly is refused by the source's fence and must be pointed to the
    /// target. With --listen and without --cutover the command serves until somebody switches on its console.
    ///
    /// Passwords that a URL does not hold are taken from HEADGATE_SOURCE_PASSWORD and HEADGATE_TARGET_PASSWORD.
    /// Applications log in at --listen as the user of --from, with its password. Connections to servers are encrypted as
    /// the URLs say (sslmode, sslrootcert; ssl-mode, ssl-ca), by default where the server offers it.
    ///
    /// Exit codes: 0 done, 1 failed (the text says why), 2 a command line that is not understood, 3 stopped by a signal
    /// before the end.
    Migrate(Migrate),
    /// Send a statement to the admin console and print its answer
    Sql(Sql),
    /// Print the version
    Version,
}

#[derive(Args)]
pub(crate) struct ConfigCommand {
    /// Print every key with its meaning, the accepted form and the default
    #[arg(long, required = true)]
    pub(crate) reference: bool,
}

#[derive(Args)]
pub(crate) struct Grants {
    /// The engine
    #[arg(long, value_enum)]
    pub(crate) engine: Family,
    /// The server that the account is for: the migration's source or its target
    #[arg(long = "for", value_enum)]
    pub(crate) side: For,
    /// The account's name
    #[arg(long, default_value = "headgate")]
    pub(crate) user: String,
    /// Where the account may come from; MySQL and MariaDB only
    #[arg(long, default_value = "%")]
    pub(crate) host: String,
    /// A database that moves; MySQL and MariaDB take several
    #[arg(long, required = true, value_name = "NAME")]
    pub(crate) database: Vec<String>,
    /// The server's version, such as 14 or 5.6, where it is not the newest known
    #[arg(long, value_name = "VERSION")]
    pub(crate) server_version: Option<String>,
    /// Who runs the server, where nobody can be a superuser there
    #[arg(long, default_value = "none", value_name = "SERVICE", value_parser = service())]
    pub(crate) service: Service,
}

fn service() -> impl TypedValueParser<Value = Service> {
    PossibleValuesParser::new(Service::words()).try_map(|word| word.parse::<Service>())
}

/// The engines that can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    /// PostgreSQL
    Postgres,
    /// MySQL
    Mysql,
    /// MariaDB
    Mariadb,
}

/// The servers of a migration.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum For {
    /// The server that has the rows
    Source,
    /// The server that gets them
    Target,
}

impl Grants {
    /// The server that the account is for.
    pub(crate) fn side(&self) -> Side {
        match self.side {
            For::Source => Side::Source,
            For::Target => Side::Target,
        }
    }
}

#[derive(Args)]
pub(crate) struct Migrate {
    /// The source, as postgresql://user:password@host:port/database or mysql://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The target, in the same form and with the same database name
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Serve applications here meanwhile; their sessions move with the switch
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Switch as soon as a check has passed
    #[arg(long)]
    pub(crate) cutover: bool,
    /// The longest that a statement may be held by the cutover, such as 500ms or 2s
    #[arg(long, default_value = "2s", value_name = "DURATION")]
    pub(crate) max_hold: String,
    /// Where the migration is remembered; the same folder goes on where an earlier run ended
    #[arg(long, default_value = "headgate.journal", value_name = "FOLDER")]
    pub(crate) journal: PathBuf,
    /// Give up what an earlier run began: remove what it left on both sides, and forget it
    #[arg(long, conflicts_with_all = ["cutover", "listen"])]
    pub(crate) drop: bool,
    /// Connections per side that copy at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) copy_workers: u16,
    /// The program that writes the schema
    #[arg(long, env = "PG_DUMP", default_value = "pg_dump")]
    pub(crate) pg_dump: PathBuf,
    /// The program that reads the schema
    #[arg(long, env = "PG_RESTORE", default_value = "pg_restore")]
    pub(crate) pg_restore: PathBuf,
}

#[derive(Args)]
pub(crate) struct Sql {
    /// The statement, or several with semicolons between; HELP lists all
    pub(crate) statement: String,
    /// The configuration file of the running Headgate
    #[arg(long, env = "HEADGATE_CONFIG", default_value = "headgate.toml")]
    pub(crate) config: PathBuf,
    /// Its address instead, as postgresql://user:password@host:port/headgate or mysql://user:password@host:port/headgate
    #[arg(long, env = "HEADGATE_URL", conflicts_with = "config", value_name = "URL")]
    pub(crate) url: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Line::command().debug_assert();
    }
}
