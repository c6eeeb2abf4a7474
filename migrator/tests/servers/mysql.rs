//! Real servers of MySQL and MariaDB.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use migrator::accounts::NoSecrets;
use migrator::model::plan::Settings;
use migrator::mysql::client::Flavor;
use migrator::mysql::{Endpoint, Mysql, MysqlDatabase, rights};
use migrator::preflight::Check;
use migrator::rights::{Grant, Need, Side};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, FromRowError, OptsBuilder, Row, prelude::FromRow};

use super::whole::mended;
use super::{command, daemon, free_port, give_away, kept, new_folder, root_of, wait_for, with_least_rights};

/// The account that has the least rights, and its password.
pub(crate) const LEAST: &str = "headgate";
const PASSWORD: &str = "least";
const TIMEOUT: Duration = Duration::from_mins(1);
/// Lets a session change something whatever the server's settings are.
const WHATEVER_IS_SET: &str = "SET SESSION TRANSACTION READ WRITE; SET SESSION sql_mode = ''";

/// A server and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// MySQL 9.7, with GTIDs unless the settings say otherwise.
    Mysql97,
    /// MySQL 5.6, without GTIDs.
    Mysql56,
    /// MariaDB 10.11.
    Mariadb1011,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Mysql97 | Self::Mysql56 => "mysqld",
            Self::Mariadb1011 => "mariadbd",
        }
    }

    fn root(self) -> PathBuf {
        let (title, variable, folder, installed) = match self {
            Self::Mysql97 => ("MySQL 9.7", "HEADGATE_MYSQL_97", "mysql-9.7", "/opt/mysql-9.7"),
            Self::Mysql56 => ("MySQL 5.6", "HEADGATE_MYSQL_56", "mysql-5.6", "/opt/mysql-5.6"),
            Self::Mariadb1011 => ("MariaDB 10.11", "HEADGATE_MARIADB_1011", "mariadb-10.11", "/usr"),
        };
        root_of(title, variable, folder, installed, self.program())
    }

    /// How it makes a data directory.
    fn birth(self) -> &'static [&'static str] {
        match self {
            Self::Mysql97 => &["--initialize-insecure", "--innodb-redo-log-capacity=8M"],
            Self::Mysql56 | Self::Mariadb1011 => &["--bootstrap", "--innodb-log-file-size=16M"],
        }
    }

    /// How it runs.
    fn life(self) -> &'static [&'static str] {
        match self {
            Self::Mysql97 => {
                &["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--binlog-row-metadata=FULL"]
            }
            Self::Mysql56 => &["--innodb-log-file-size=16M", "--table-open-cache=256", "--table-definition-cache=400"],
            Self::Mariadb1011 => &["--innodb-log-file-size=16M", "--binlog-row-metadata=FULL"],
        }
    }
}

/// A running server, whose root needs no password.
pub(crate) struct Server {
    /// What it is.
    pub(crate) kind: Kind,
    folder: PathBuf,
    arguments: Vec<String>,
    /// The time zone of the machine, as the server sees it.
    zone: String,
    /// Whether it reads no file of settings at all, and so none that were persisted.
    pub(crate) without_defaults: bool,
    process: Option<Child>,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server with these settings besides, named as on its command line; `TZ` is its machine's time zone.
    pub(crate) fn start(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let template = template(kind);
        let folder = new_folder();
        let copied = command(Path::new("cp")).arg("-R").arg(template.join("data")).arg(&folder).status();
        assert!(copied.is_ok_and(|status| status.success()), "a data directory can be copied");
        let digits = format!("{:032x}", rand::random::<u128>());
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        // Left to themselves, two servers of 5.6 that start at the same time take the same one.
        let identity = format!("[auto]\nserver-uuid={}\n", parts.join("-"));
        fs::write(folder.join("data/auto.cnf"), identity).expect("the folder is ours");
        let mut server = Self {
            kind,
            folder,
            zone: settings.iter().find(|(name, _)| *name == "TZ").map_or("UTC", |(_, zone)| zone).to_owned(),
            arguments: settings
                .iter()
                .filter(|(name, _)| *name != "TZ")
                .map(|(name, value)| format!("--{name}={value}"))
                .collect(),
            without_defaults: false,
            process: None,
            port: free_port(),
        };
        // Somebody else may have taken the port since it was free.
        while let Err(said) = server.try_launch() {
            assert!(said.contains("ddress already in use"), "{said}");
            server.port = free_port();
        }
        server
    }

    /// Root's way into a database.
    pub(crate) fn endpoint(&self, database: &str) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "root".into(),
            password: None,
            tls: transport::Tls::default(),
            proxy_protocol: false,
            database: database.into(),
        }
    }

    /// The way into a database of the account that has the least rights.
    pub(crate) fn least(&self, database: &str) -> Endpoint {
        Endpoint { user: LEAST.into(), password: Some(PASSWORD.into()), ..self.endpoint(database) }
    }

    /// Creates an account with the printed rights, but for the statements with these numbers.
    pub(crate) async fn grant(&self, side: Side, user: &str, without: &[usize]) {
        self.grant_to(side, user, &["shop".to_owned()], without).await;
    }

    async fn grant_to(&self, side: Side, user: &str, databases: &[String], without: &[usize]) {
        let printed = Self::printed_for(self.kind, side, user, databases);
        for (number, grant) in printed.into_iter().enumerate() {
            if !without.contains(&number) {
                let password = format!("'{PASSWORD}'");
                let grant = grant.statement.replace("<password>", &password);
                self.run("", &format!("{WHATEVER_IS_SET}; {grant}")).await;
            }
        }
    }

    /// Lets the account with the least rights migrate.
    async fn prepare_least(&self, side: Side, databases: &[String]) {
        // Whatever the server's settings are.
        let asked = format!("SET SESSION sql_big_selects = 1; SELECT User FROM mysql.user WHERE User = '{LEAST}'");
        let mut session = self.connect("").await;
        let mut known = session.query_iter(asked).await.expect("it can be asked");
        let _set: Vec<Row> = known.collect().await.expect("it is set");
        let known: Vec<Row> = known.collect().await.expect("it can be read");
        let mut without = Self::left_out(&self.grants(side, LEAST), true);
        if !known.is_empty() {
            without.push(0);
        }
        self.grant_to(side, LEAST, databases, &without).await;
    }

    /// The numbers of the printed statements that nobody runs who wants a way back, or who wants none.
    pub(crate) fn left_out(printed: &[Grant], way_back: bool) -> Vec<usize> {
        let not_run = |grant: &Grant| match grant.need {
            Need::Where(_) => way_back,
            Need::Always | Need::Helpful => !way_back && grant.check.ends_with("_way_back"),
        };
        let numbered = printed.iter().enumerate();
        numbered.filter_map(|(number, grant)| not_run(grant).then_some(number)).collect()
    }

    /// The printed rights for this server.
    pub(crate) fn grants(&self, side: Side, user: &str) -> Vec<Grant> {
        Self::printed(self.kind, side, user)
    }

    /// The printed rights for a server of this kind.
    pub(crate) fn printed(kind: Kind, side: Side, user: &str) -> Vec<Grant> {
        Self::printed_for(kind, side, user, &["shop".to_owned()])
    }

    fn printed_for(kind: Kind, side: Side, user: &str, databases: &[String]) -> Vec<Grant> {
        let (flavor, written) = match kind {
            Kind::Mysql97 => (Flavor::Mysql, "9.7"),
            Kind::Mysql56 => (Flavor::Mysql, "5.6"),
            Kind::Mariadb1011 => (Flavor::Mariadb, "10.11"),
        };
        let version = rights::version(flavor, Some(written)).expect("it is a version");
        let whose = rights::For { account: &rights::account(user, "%"), databases };
        rights::grants(side, version, whose)
    }

    /// A session of root with the server's own defaults; without a database where its name is empty.
    pub(crate) async fn connect(&self, database: &str) -> Conn {
        self.connect_as("root", None, database).await
    }

    /// A session of somebody else.
    pub(crate) async fn connect_as(&self, user: &str, password: Option<&str>, database: &str) -> Conn {
        let connected = self.try_connect_as(user, password, database).await;
        connected.expect("the server answers")
    }

    /// As [`Server::connect_as`], of somebody who may be refused.
    pub(crate) async fn try_connect_as(
        &self,
        user: &str,
        password: Option<&str>,
        database: &str,
    ) -> Result<Conn, mysql_async::Error> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(user))
            .pass(password)
            .db_name((!database.is_empty()).then_some(database))
            .prefer_socket(false);
        Conn::new(options).await
    }

    /// Runs statements of root in a session of their own.
    pub(crate) async fn run(&self, database: &str, statements: &str) {
        let mut session = self.connect(database).await;
        let done = session.query_drop(statements).await;
        done.unwrap_or_else(|error| panic!("{error}; in {statements}"));
    }

    /// The rows of a query of root in a session of its own.
    pub(crate) async fn rows<T: FromRow + Send + 'static>(&self, database: &str, query: &str) -> Vec<T> {
        let mut session = self.connect(database).await;
        let rows: Vec<Row> = session.query(query).await.unwrap_or_else(|error| panic!("{error}; in {query}"));
        let read: Result<Vec<T>, FromRowError> = rows.into_iter().map(T::from_row_opt).collect();
        read.unwrap_or_else(|error| panic!("{error}; in {query}"))
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again on the same port and data after it was killed; kills it first when it still runs.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn launch(&mut self) {
        self.try_launch().unwrap_or_else(|said| panic!("{said}"));
    }

    /// Fails with what the server said instead of becoming ready.
    fn try_launch(&mut self) -> Result<(), String> {
        let path = self.folder.join("log");
        let log = File::options().create(true).append(true).open(&path).expect("the folder is ours");
        let before = log.metadata().map_or(0, |found| found.len());
        let root = self.kind.root();
        let at = |name: &str| self.folder.join(name).display().to_string();
        // A file and not none: without one, MySQL reads no settings that were persisted either.
        let file = "[mysqld]\nmax-connect-errors=1000\n";
        fs::write(self.folder.join("my.cnf"), file).expect("the folder is ours");
        let mut command = command(&daemon(&root, self.kind.program()));
        command
            .arg(if self.without_defaults {
                "--no-defaults".to_owned()
            } else {
                format!("--defaults-file={}", at("my.cnf"))
            })
            .arg(format!("--basedir={}", root.display()))
            .arg(format!("--datadir={}", at("data")))
            .arg(format!("--tmpdir={}", at("")))
            .arg(format!("--socket={}", at("socket")))
            .arg(format!("--pid-file={}", at("pid")))
            .arg(format!("--port={}", self.port))
            .arg(format!("--server-id={}", self.port))
            .args([
                "--bind-address=127.0.0.1",
                "--log-bin=binlog",
                "--binlog-format=ROW",
                "--local-infile=ON",
                "--secure-file-priv=",
                "--innodb-buffer-pool-size=64M",
                "--innodb-flush-log-at-trx-commit=2",
                "--sync-binlog=0",
            ])
            .args(self.kind.life())
            .args(&self.arguments)
            .env("TZ", &self.zone);
        let process = command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the server can be run");
        let process = self.process.insert(process);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let said = fs::read(&path).unwrap_or_default();
            let said = said.get(usize::try_from(before).unwrap_or(0)..);
            let said = String::from_utf8_lossy(said.unwrap_or_default()).into_owned();
            if said.contains("ready for connections") {
                return Ok(());
            }
            let gone = process.try_wait().is_ok_and(|status| status.is_some());
            if gone || Instant::now() >= deadline {
                return Err(format!("{:?} did not start: {said}", self.kind));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder with a fresh data directory, made the first time.
fn template(kind: Kind) -> PathBuf {
    let root = kind.root();
    kept("template", (kind, kind.birth(), &root), |work| {
        let data = work.join("data");
        fs::create_dir(&data).expect("the folder is new");
        give_away(&data);
        let first = work.join("first.sql");
        fs::write(&first, first_statements(kind, &root)).expect("the folder is new");
        let mut birth: Command = command(&daemon(&root, kind.program()));
        birth
            .arg("--no-defaults")
            .arg(format!("--basedir={}", root.display()))
            .arg(format!("--datadir={}", data.display()))
            .args(kind.birth())
            .current_dir(&data)
            .stdin(File::open(&first).expect("just written"));
        if kind == Kind::Mysql97 {
            birth.arg(format!("--init-file={}", first.display()));
        } else {
            // A server that starts removes what looks like its own from there, also what another one uses.
            birth.arg(format!("--tmpdir={}", data.display()));
        }
        let output = birth.output().expect("the server can be run");
        assert!(output.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
        // The server's identity, which no two may share.
        let _ = fs::remove_file(data.join("auto.cnf"));
    })
}

/// Root by the address as well as by the name of this machine, and nobody without a name.
fn first_statements(kind: Kind, root: &Path) -> String {
    let files: &[&str] = match kind {
        Kind::Mysql97 => {
            return "CREATE USER root@'127.0.0.1';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
                .to_owned();
        }
        Kind::Mysql56 => &["mysql_system_tables.sql", "mysql_system_tables_data.sql"],
        Kind::Mariadb1011 => &[
            "mysql_system_tables.sql",
            "mysql_performance_tables.sql",
            "mysql_system_tables_data.sql",
            "maria_add_gis_sp_bootstrap.sql",
            "mysql_sys_schema.sql",
        ],
    };
    let share = root.join("share");
    let read = |name: &&str| {
        let file = [share.join(name), share.join("mysql").join(name)];
        file.iter()
            .find_map(|file| fs::read_to_string(file).ok())
            .unwrap_or_else(|| panic!("there is no {name} in {}", share.display()))
    };
    let tables: String = files.iter().map(read).collect();
    format!(
        "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n{tables}\n\
         USE mysql;\nDELETE FROM mysql.user WHERE user = '';\nDELETE FROM mysql.db WHERE db LIKE 'test%';\n"
    )
}

/// Source and target of a migration.
pub(crate) struct Pair {
    /// Where the rows are.
    pub(crate) source: Server,
    /// Where they go.
    pub(crate) target: Server,
}

impl Pair {
    /// Starts both servers.
    pub(crate) fn start(source: Kind, target: Kind) -> Self {
        Self::start_with((source, &[]), (target, &[]))
    }

    /// Starts a server of this kind and the one that its databases move to as a rule.
    pub(crate) fn of(source: Kind) -> Self {
        let target = match source {
            Kind::Mariadb1011 => Kind::Mariadb1011,
            Kind::Mysql56 | Kind::Mysql97 => Kind::Mysql97,
        };
        Self::start(source, target)
    }

    /// Starts both servers, each with settings of its own.
    pub(crate) fn start_with(source: (Kind, &[(&str, &str)]), target: (Kind, &[(&str, &str)])) -> Self {
        std::thread::scope(|both| {
            let source = both.spawn(|| Server::start(source.0, source.1));
            let target = Server::start(target.0, target.1);
            Self { source: source.join().expect("the source starts"), target }
        })
    }

    /// Grants, where migrations have the least rights, what the precheck asks for besides because of what these databases
    /// have.
    pub(crate) async fn mend(&self, mysql: &MysqlDatabase) {
        if with_least_rights() {
            let wanted = |check: &Check| {
                check.name != "definers" && check.fix.starts_with("GRANT ")
                    || check.fix.contains("log_bin_trust_function_creators")
            };
            mended(mysql, wanted, async |check| {
                let on_source = check.name.starts_with("source");
                let server = if on_source { &self.source } else { &self.target };
                let fix = format!("{WHATEVER_IS_SET}; {}", check.fix);
                server.run("", &fix).await;
            })
            .await;
        }
    }

    /// A migration of the database `shop`, by name.
    pub(crate) fn migration(&self, name: &str, settings: Settings) -> MysqlDatabase {
        migration(name, &self.source, &self.target, settings)
    }
}

/// The ways into the database `shop` of both ends, for a migration with whatever rights it is to have.
fn ends(source: &Server, target: &Server, schemas: &[String]) -> (Endpoint, Endpoint) {
    if !with_least_rights() {
        return (source.endpoint("shop"), target.endpoint("shop"));
    }
    let route = ["shop".to_owned()];
    let databases = if schemas.is_empty() { &route } else { schemas };
    wait_for(async {
        source.prepare_least(Side::Source, databases).await;
        target.prepare_least(Side::Target, databases).await;
    });
    (source.least("shop"), target.least("shop"))
}

/// A migration of the database `shop` between two servers.
pub(crate) fn migration(name: &str, source: &Server, target: &Server, settings: Settings) -> MysqlDatabase {
    let (source, target) = ends(source, target, &settings.schemas);
    MysqlDatabase::new(Mysql::new(name, source, target, settings, Arc::new(NoSecrets)))
}
