//! MySQL and MariaDB: every case for every pair of source and target.

/// Makes a test of each case for each pair; a case is an `async fn` that takes the pair.
#[allow(unused_macros, reason = "for the cases of a migration")]
macro_rules! for_every_pair {
    ($($case:ident),+ $(,)?) => {
        $(mod $case {
            use tests::mysql::Pair;

            #[tokio::test]
            async fn from_mysql_97_to_97() {
                super::$case(Pair::Mysql97to97).await;
            }

            #[tokio::test]
            async fn from_mysql_56_to_97() {
                super::$case(Pair::Mysql56to97).await;
            }

            #[tokio::test]
            async fn from_mariadb_1011_to_1011() {
                super::$case(Pair::Mariadb1011to1011).await;
            }

            #[tokio::test]
            async fn from_mariadb_1011_to_mysql_97() {
                super::$case(Pair::Mariadb1011toMysql97).await;
            }
        })+
    };
}

/// Makes a test of each case for each server; a case is an `async fn` that takes the server's kind.
macro_rules! on_every_server {
    ($($case:ident),+ $(,)?) => {
        $(mod $case {
            use tests::mysql::disposable::Kind;

            #[tokio::test]
            async fn on_mysql_97() {
                super::$case(Kind::Mysql97).await;
            }

            #[tokio::test]
            async fn on_mysql_56() {
                super::$case(Kind::Mysql56).await;
            }

            #[tokio::test]
            async fn on_mariadb_1011() {
                super::$case(Kind::Mariadb1011).await;
            }
        })+
    };
}

mod accounts;
mod cancel;
mod compare;
mod console;
mod cutover;
mod drivers;
mod drop;
mod failover;
mod faults;
mod foreign;
mod hostile;
mod login;
mod marks;
mod metrics;
mod migration;
mod moving;
mod operator;
mod proof_before;
mod proxy_protocol;
mod recopy;
mod reload;
mod resume;
mod secrets;
mod services;
mod switch_proof;
mod tls;
mod transparency;
mod way_back;
