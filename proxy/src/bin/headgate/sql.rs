//! `headgate sql`: one trip to the admin console from the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::ExitCode;

use proxy::config::{ADMIN_DATABASE, Cluster, Config, Engine as Kind};

use transport::tls::Mode;

use super::command::Sql;
use super::dispatch;
use super::engine::{Engine, Reply, Task};
use super::output::{fail, print, record, table};

/// More columns than this do not fit beside one another on a terminal.
const COLUMNS_MAX: usize = 10;

/// Sends the statement and prints what comes.
pub(crate) async fn run(sql: Sql) -> ExitCode {
    let asked = match sql.url {
        Some(url) => dispatch::of_url("--url", &url).map(|kind| (kind, At::Url(url))),
        None => console_of(&sql.config).map(|console| (console.engine, At::Console(console))),
    };
    let statement = sql.statement;
    match asked {
        Ok((kind, at)) => dispatch::with(kind, Ask { at, statement }).await,
        Err(text) => fail(&text),
    }
}

/// Where the console is.
enum At {
    Url(String),
    Console(Cluster),
}

struct Ask {
    at: At,
    statement: String,
}

impl Task for Ask {
    async fn run<E: Engine>(self) -> ExitCode {
        let console = match self.at {
            At::Url(url) => E::parse_url("--url", &url),
            At::Console(console) => Ok((console, None)),
        };
        let asked = async {
            let (console, database) = console?;
            let database = database.as_deref().unwrap_or(ADMIN_DATABASE);
            E::query(&console, database, &self.statement).await
        };
        match asked.await {
            Ok(said) => {
                print(&lay_out(&said));
                ExitCode::SUCCESS
            }
            Err(text) => fail(&text),
        }
    }
}

/// The console of the Headgate that a configuration file describes, with its account.
fn console_of(path: &Path) -> Result<Cluster, String> {
    let config = Config::read(path).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}: {}", path.display(), lines.join("; "))
    })?;
    let address = config.listen.address;
    let ip = match address.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    let engine: Kind = config.engine;
    Ok(Cluster {
        engine,
        host: ip.to_string(),
        port: address.port(),
        user: config.admin.user,
        password: Some(config.admin.password),
        password_command: None,
        // The certificate is as often as not one of Headgate's own making, and this is Headgate's own host.
        tls: Mode::Prefer,
        tls_ca: None,
        tls_certificate: None,
        tls_key: None,
        proxy_protocol: config.listen.proxy_protocol_networks.contains(ip),
    })
}

fn lay_out(said: &[Reply]) -> String {
    let mut text = String::new();
    for one in said {
        match one {
            Reply::Done => text.push_str("done\n"),
            Reply::Rows { columns, rows } if columns.len() > COLUMNS_MAX => {
                let records = rows.iter().map(|row| record(columns, row));
                text.push_str(&records.collect::<Vec<_>>().join("\n"));
            }
            Reply::Rows { columns, rows } => text.push_str(&table(columns, rows)),
        }
    }
    text
}
