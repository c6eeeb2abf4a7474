//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::demo::Demo;

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
    /// sessions with 57P01. Migrations stop where they are and go on with the next start.
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
    /// Watch a live shop move from one server to another, and prove every write
    Demo(Demo),
    /// Move a database in one go, with progress on the terminal
    ///
    /// Without --cutover the command stops when the target is ready and leaves the journal for a Headgate that
    /// serves applications. Only connections that go through this Headgate (--listen) follow the switch; what
    /// connects to the source directly is refused by the source's fence and must be pointed to the target.
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
    #[arg(
        long,
        env = "HEADGATE_URL",
        conflicts_with = "config",
        value_name = "URL"
    )]
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
