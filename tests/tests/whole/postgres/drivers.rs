//! Real drivers stay connected, over TLS, while their database moves and comes back.

use std::path::Path;

use tests::certificates::{Authority, Says};
use tests::postgres::Postgres;
use tests::staying::{Login, Script, UNHURRIED, there_and_back};
use tests::world::DATABASE;

use super::tls::{HBA, world};

/// The roles' password, which no configuration has.
const PASSWORD: &str = "known to its client alone";

/// That of the role whose clients prove themselves by a certificate, and do not know it.
const PROVEN: &str = "known to Headgate alone";

const PSYCOPG: (&str, Script) = ("psycopg", Script::Python("staying_psycopg.py", None));
const ASYNCPG: (&str, Script) = ("asyncpg", Script::Python("staying_asyncpg.py", None));
const NODE: (&str, Script) = ("pg", Script::Node("staying_pg.mjs"));
const JDBC: (&str, Script) = ("pgjdbc", Script::Jdbc("postgresql"));
const RUST: (&str, Script) = ("tokio-postgres", Script::Rust(env!("CARGO_BIN_EXE_staying"), "tokio-postgres"));

/// What the drivers work with.
const SCHEMA: &str = "create table taken (driver text, session int, number int, amount numeric, ratio double precision,
        even boolean, body bytea, note text, moment timestamptz, absent text, primary key (driver, session, number));
    create table many (id int primary key, body text);
    insert into many select n, repeat(md5(n::text), 4) from generate_series(1, 500) n";

/// The rows of each driver that are as they were written, and all of them.
const COUNTED: &str =
    "select driver collate \"C\", count(*) filter (where amount = number * 1.25 and ratio = number / 4.0
        and even = (number % 2 = 0) and body = decode(lpad(to_hex(number), 8, '0'), 'hex') and note = 'zwölf ' || number
        and moment = timestamptz '2024-02-29 12:00:00+00' + number * interval '1 s' and absent is null), count(*)
    from taken group by 1 order by 1";

async fn application(source: &Postgres) {
    let roles = format!(
        "create role app login password '{PASSWORD}'; create role app_proven login password '{PROVEN}';
         set password_encryption = 'md5'; create role app_md5 login password '{PASSWORD}'"
    );
    source.sql("postgres", &roles).await;
    source.sql(DATABASE, &format!("{SCHEMA}; grant all on taken, many to app, app_md5, app_proven")).await;
}

/// Moves a database there and back under these drivers, each with how it is encrypted and its role.
async fn no_driver_notices(hba: &str, login: &str, drivers: &[((&str, Script), &str, &str)]) {
    let authority = Authority::new();
    let ca = authority.file();
    let listener = format!("tls = \"allow\"\ntls_client_ca = \"{}\"\n", ca.display());
    let world = world(hba, &authority, &listener, &[UNHURRIED, login].concat()).await;
    application(&world.source).await;
    let (certificate, key) = authority.sign("proven", Says { common_name: "app.example", ..Says::default() });
    let logins: Vec<Login<'_>> = drivers
        .iter()
        .map(|((driver, script), tls, user)| {
            let proven = *tls == "certificate";
            let none = Path::new("");
            Login {
                driver,
                script: script.clone(),
                tls,
                user,
                password: if proven { "" } else { PASSWORD },
                files: if proven { [&ca, &certificate, &key] } else { [&ca, none, none] },
            }
        })
        .collect();
    there_and_back(&world, &logins, COUNTED).await;
    let configured = std::fs::read_to_string(world.headgate.folder().join("headgate.toml")).expect("it is there");
    assert!(!configured.contains(PASSWORD) && !world.headgate.log().contains(PASSWORD));
}

#[tokio::test]
async fn no_driver_notices_a_move_there_and_back_whatever_its_encryption_and_its_account() {
    let login = format!(
        "[login]\nmethod = \"accounts\"\n[users.app_proven]\npassword = \"{PROVEN}\"\ncertificate = \"app.example\"\n"
    );
    let mut drivers = Vec::new();
    for driver in [PSYCOPG, ASYNCPG, NODE, JDBC, RUST] {
        for tls in ["verify-full", "require", "disable"] {
            drivers.push((driver.clone(), tls, "app"));
        }
        drivers.push((driver.clone(), "verify-full", "app_md5"));
        drivers.push((driver, "certificate", "app_proven"));
    }
    // Debian's driver for Java can do neither; asyncpg cannot bind, and begins with TLS by an option that is not tried here.
    for driver in [PSYCOPG, NODE, RUST] {
        drivers.push((driver.clone(), "bound", "app"));
        drivers.push((driver, "direct", "app"));
    }
    drivers.push((PSYCOPG, "disable", "app_md5"));
    no_driver_notices(HBA, &login, &drivers).await;
}

#[tokio::test]
async fn no_driver_notices_a_move_there_and_back_where_headgate_asks_for_its_password() {
    let hba = "hostnossl all postgres 127.0.0.1/32 trust\nhostssl all mover 127.0.0.1/32 scram-sha-256\n\
               hostssl all app_md5 127.0.0.1/32 md5\nhostssl all all 127.0.0.1/32 password\n";
    let mut drivers = Vec::new();
    for driver in [PSYCOPG, ASYNCPG, NODE, JDBC, RUST] {
        for tls in ["verify-full", "require"] {
            drivers.push((driver.clone(), tls, "app"));
        }
        drivers.push((driver, "verify-full", "app_md5"));
    }
    no_driver_notices(hba, "[login]\nmethod = \"password\"\n", &drivers).await;
}
