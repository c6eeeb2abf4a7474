//! MySQL and MariaDB: every case for every pair of source and target, and for each server.

/// Makes a test of each case for each pair; a case is an `async fn` that takes the pair. `make test` runs each case with one of
/// them, in turn, and `make pairs` with the others.
#[allow(unused_macros, reason = "for the cases of a migration")]
macro_rules! for_every_pair {
    (@ [($name:ident $pair:ident) $(($other:ident $other_pair:ident))+] $case:ident $($rest:ident)*) => {
        mod $case {
            use tests::mysql::Pair;

            #[tokio::test]
            async fn $name() {
                super::$case(Pair::$pair).await;
            }

            $(#[tokio::test]
            #[ignore = "with one pair in `make test`, with the others by `make pairs`"]
            async fn $other() {
                super::$case(Pair::$other_pair).await;
            })+
        }

        for_every_pair! { @ [$(($other $other_pair))+ ($name $pair)] $($rest)* }
    };
    (@ [$($pairs:tt)+]) => {};
    ($($case:ident),+ $(,)?) => {
        for_every_pair! {
            @ [
                (from_mysql_56_to_97 Mysql56to97)
                (from_mariadb_1011_to_mysql_97 Mariadb1011toMysql97)
                (from_mysql_97_to_97 Mysql97to97)
                (from_mariadb_1011_to_1011 Mariadb1011to1011)
            ]
            $($case)+
        }
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
mod limits;
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
