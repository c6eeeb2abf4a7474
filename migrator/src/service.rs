//! Managed services: who runs a server, where it is not its owner. What each does is in its engine's module of this name.

use std::fmt;
use std::str::FromStr;

/// Who runs a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Service {
    /// Its owner: somebody can be a superuser.
    #[default]
    Own,
    /// Amazon RDS and Aurora.
    Rds,
    /// Google Cloud SQL.
    CloudSql,
    /// Azure Database.
    Azure,
    /// Neon.
    Neon,
    /// Supabase.
    Supabase,
}

impl Service {
    /// All of them, with the word of each and its name in texts.
    const NAMES: [(Self, &'static str, &'static str); 6] = [
        (Self::Own, "none", "a server of one's own"),
        (Self::Rds, "rds", "Amazon RDS or Aurora"),
        (Self::CloudSql, "cloud-sql", "Google Cloud SQL"),
        (Self::Azure, "azure", "Azure Database"),
        (Self::Neon, "neon", "Neon"),
        (Self::Supabase, "supabase", "Supabase"),
    ];

    /// The words, as they are typed.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().map(|(_, word, _)| *word)
    }

    /// Its name in texts.
    pub fn title(self) -> &'static str {
        Self::NAMES.iter().find(|(service, ..)| *service == self).map_or("", |(.., title)| title)
    }

    /// Whether nobody can be a superuser there.
    pub fn is_managed(self) -> bool {
        self != Self::Own
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.title())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::NAMES.iter().find(|(_, known, _)| *known == word);
        known.map(|(service, ..)| *service).ok_or_else(|| {
            let words: Vec<&str> = Self::words().collect();
            format!("no service {word:?} is known; there are {}", words.join(", "))
        })
    }
}
