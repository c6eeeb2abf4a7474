//! MySQL and MariaDB: every case for every pair of source and target.

/// Makes a test of each case for each pair; a case is an `async fn` that takes the pair.
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

use for_every_pair;

mod accounts;
mod drivers;
