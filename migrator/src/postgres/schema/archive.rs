//! The dump of the source's schema: made once, kept on the target, listed and restored in parts.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Client;

use super::tools;
use crate::error::{Error, Result};
use crate::postgres::Postgres;
use crate::postgres::client::{Endpoint, failed};
use crate::postgres::records;
use crate::postgres::service::Staying;
use crate::postgres::sql::quote_ident;
use crate::postgres::stale_sessions;

/// Undoing what a killed run had begun can take the server a while.
const STALE_SESSIONS_TIMEOUT: Duration = Duration::from_secs(30);

/// One thing that the archive can restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The archive's number of it.
    pub dump_id: u32,
    /// The catalogue on the source that it comes from; 0 where it has no row of its own.
    pub class: u32,
    /// Its row in that catalogue.
    pub object: u32,
    /// What kind it is, followed by its name, for people.
    pub description: String,
}

/// The number of `pg_namespace` on every server.
const NAMESPACES: u32 = 2615;

impl Entry {
    /// Whether it is a schema, or who may do what in one.
    /// The extension that it creates or that it is a comment on.
    fn extension(&self) -> Option<&str> {
        let rest = self.description.strip_prefix("COMMENT - EXTENSION ");
        let rest = rest.or_else(|| self.description.strip_prefix("EXTENSION - "))?;
        // Its owner comes last, and has none.
        Some(rest.trim_end().trim_matches('"'))
    }

    pub(crate) fn is_of_schema(&self) -> bool {
        self.class == NAMESPACES || self.description.starts_with("ACL - SCHEMA ")
    }

    /// Whether it is the comment on this schema.
    fn is_comment_on(&self, schema: &str) -> bool {
        let rest = self.description.strip_prefix("COMMENT - SCHEMA ");
        let name = rest.and_then(|rest| rest.rsplit_once(' '));
        name.is_some_and(|(name, _owner)| name == schema || name == quote_ident(schema))
    }

    /// The name of the server's own object that it grants privileges on.
    fn of_system(&self) -> Option<&str> {
        let rest = self.description.strip_prefix("ACL pg_catalog ")?;
        let (_, name) = rest.split_once(' ')?;
        name.split(['(', ' ']).next().map(|name| name.trim_matches('"'))
    }
}

/// The archive in a folder that only we can read; the folder goes with it.
pub struct Archive {
    folder: PathBuf,
    /// A setting for the sessions that build indexes.
    memory: &'static str,
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a temporary folder");
        }
    }
}

impl Archive {
    /// The archive that the target keeps, or else a new one from the source, kept on the target from now on.
    pub async fn open(postgres: &Postgres, target: &Client) -> Result<Self> {
        let archive = Self::folder(memory(target).await?)?;
        let write = |error| Error::fatal("cannot write a temporary file").because(error);
        if let Some(bytes) = records::archive(postgres, target).await? {
            fs::write(archive.file(), bytes).map_err(write)?;
            return Ok(archive);
        }
        Self::anew(postgres, target).await
    }

    /// A new one from the source, kept on the target from now on.
    pub async fn anew(postgres: &Postgres, target: &Client) -> Result<Self> {
        let archive = Self::folder(memory(target).await?)?;
        archive.dump(postgres).await?;
        let bytes =
            fs::read(archive.file()).map_err(|error| Error::fatal("cannot write a temporary file").because(error))?;
        records::keep_archive(postgres, target, &bytes).await?;
        Ok(archive)
    }

    /// A new one from the source, kept nowhere.
    pub async fn fresh(postgres: &Postgres) -> Result<Self> {
        let archive = Self::folder("")?;
        archive.dump(postgres).await?;
        Ok(archive)
    }

    fn folder(memory: &'static str) -> Result<Self> {
        let name = format!("headgate-{:032x}", rand::random::<u128>());
        let folder = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Error::fatal("cannot write a temporary file").because(error))?;
        Ok(Self { folder, memory })
    }

    /// Restores all of it into a database of the target's server, going on after errors, and returns what was said about
    /// these. Schemas come first, with who may create in them.
    pub async fn try_in(
        &self,
        postgres: &Postgres,
        source: &Client,
        target: &Client,
        database: &str,
    ) -> Result<String> {
        let endpoint = Endpoint { database: database.to_owned(), ..postgres.target().clone() };
        let mut entries = self.to_restore(postgres, source, target).await?;
        entries.extend(self.list(postgres, "post-data").await?);
        let (schemas, rest): (Vec<_>, Vec<_>) = entries.into_iter().partition(Entry::is_of_schema);
        let mut reported = String::new();
        for some in [schemas, rest] {
            if some.is_empty() {
                continue;
            }
            let arguments = [
                // Without it the entry that an error is of is not named.
                "--verbose".into(),
                "--no-tablespaces".into(),
                "--no-password".into(),
                tools::database_argument(&endpoint),
                self.chosen(&some)?,
                self.file().into(),
            ];
            let (program, purpose) = (&postgres.tools().pg_restore, postgres.purpose("precheck"));
            reported.push_str(&tools::run_through(program, &endpoint, &purpose, &arguments).await?);
        }
        Ok(reported)
    }

    /// The argument that names these entries only.
    fn chosen(&self, entries: &[Entry]) -> Result<OsString> {
        let list = self.folder.join(format!("list-{:032x}", rand::random::<u128>()));
        let numbers: Vec<String> = entries.iter().map(|entry| format!("{};", entry.dump_id)).collect();
        fs::write(&list, numbers.join("\n"))
            .map_err(|error| Error::fatal("cannot write a temporary file").because(error))?;
        let mut chosen = OsString::from("--use-list=");
        chosen.push(&list);
        Ok(chosen)
    }

    async fn dump(&self, postgres: &Postgres) -> Result<()> {
        let mut arguments: Vec<OsString> = [
            "--format=custom",
            "--section=pre-data",
            "--section=post-data",
            // A name may be a word of the newer version's.
            "--quote-all-identifiers",
            "--exclude-schema=headgate",
            "--no-publications",
            "--no-subscriptions",
            "--no-blobs",
            "--no-tablespaces",
            "--no-password",
        ]
        .map(OsString::from)
        .into();
        for schema in &postgres.settings().schemas {
            arguments.push(format!("--schema={}", pattern(schema)).into());
        }
        let mut file = OsString::from("--file=");
        file.push(self.file());
        arguments.push(file);
        let purpose = postgres.purpose("schema");
        tools::run(&postgres.tools().pg_dump, postgres.source(), &purpose, "", &arguments).await?;
        Ok(())
    }

    /// What a section holds, in the order in which it is to be restored.
    pub async fn list(&self, postgres: &Postgres, section: &str) -> Result<Vec<Entry>> {
        let arguments = ["--list".into(), format!("--section={section}").into(), self.file().into()];
        let purpose = postgres.purpose("schema");
        let reported = tools::run(
            &postgres.tools().pg_restore,
            // It touches no server; the source is there for certain.
            postgres.source(),
            &purpose,
            "",
            &arguments,
        )
        .await?;
        Ok(String::from_utf8_lossy(&reported).lines().filter_map(parse_entry).collect())
    }

    /// What is to be restored of the pre-data: all but the schemas that `target` has, as every new database has one, and
    /// what only Headgate's own roles may do with the server's objects.
    pub async fn pre_data(&self, postgres: &Postgres, source: &Client, target: &Client) -> Result<Vec<Entry>> {
        let mut entries = self.to_restore(postgres, source, target).await?;
        // Whoever made one that is there already may be the only one who may say more of it.
        let there = extensions(target).await?;
        entries.retain(|entry| entry.extension().is_none_or(|name| !there.iter().any(|one| one == name)));
        Ok(entries)
    }

    /// The same in a database that has nothing yet.
    async fn to_restore(&self, postgres: &Postgres, source: &Client, target: &Client) -> Result<Vec<Entry>> {
        let mut entries = self.list(postgres, "pre-data").await?;
        let present = present_schemas(source, target).await?;
        let reported = commented_alike(source, target).await?;
        entries.retain(|entry| {
            !(entry.class == NAMESPACES && present.contains(&entry.object)
                || reported.iter().any(|name| entry.is_comment_on(name)))
        });
        if entries.iter().any(|entry| entry.of_system().is_some()) {
            let staying = Staying::read(postgres, source, target).await?;
            let others = privileges_of_others(source, &staying).await?;
            entries.retain(|entry| entry.of_system().is_none_or(|name| others.iter().any(|other| other == name)));
        }
        Ok(entries)
    }

    /// Restores these entries in one transaction, in their order.
    pub async fn restore(&self, postgres: &Postgres, entries: &[Entry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let arguments = [
            "--single-transaction".into(),
            "--exit-on-error".into(),
            "--no-tablespaces".into(),
            "--no-password".into(),
            tools::database_argument(postgres.target()),
            self.chosen(entries)?,
            self.file().into(),
        ];
        let purpose = postgres.purpose("schema");
        tools::run(&postgres.tools().pg_restore, postgres.target(), &purpose, self.memory, &arguments).await?;
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.folder.join("schema.dump")
    }
}

/// The source's numbers of those schemas whose names the target has.
async fn present_schemas(source: &Client, target: &Client) -> Result<Vec<u32>> {
    let names: Vec<String> = target
        .query("SELECT nspname::text FROM pg_catalog.pg_namespace", &[])
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read the target's schemas", error))?;
    source
        .query("SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = ANY ($1::text[])", &[&names])
        .await
        .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
        .map_err(|error| failed("cannot read the source's schemas", error))
}

/// The extensions of the database that a session is in.
pub(crate) async fn extensions(session: &Client) -> Result<Vec<String>> {
    session
        .query_one("SELECT coalesce(array_agg(extname::text), '{}') FROM pg_catalog.pg_extension", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot read a server's extensions", error))
}

/// Schemas with the same comment on both sides: only their owner could set it again.
async fn commented_alike(source: &Client, target: &Client) -> Result<Vec<String>> {
    let query = "SELECT nspname::text, coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '')
        FROM pg_catalog.pg_namespace";
    let cannot = |error| failed("the comments on schemas cannot be read", error);
    let mut sides = Vec::new();
    for side in [source, target] {
        let rows = side.query(query, &[]).await.map_err(cannot)?;
        let read = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let read: Vec<(String, String)> = read.collect::<std::result::Result<_, _>>().map_err(cannot)?;
        sides.push(read);
    }
    let theirs = sides.pop().unwrap_or_default();
    let ours = sides.pop().unwrap_or_default().into_iter();
    let alike = ours.filter(|schema| theirs.contains(schema));
    Ok(alike.map(|(name, _)| name).collect())
}

/// Functions and relations of the server's own on which others than Headgate's roles have other privileges than at first.
async fn privileges_of_others(source: &Client, staying: &Staying) -> Result<Vec<String>> {
    source
        .query_one(
            "WITH objects AS (
                 SELECT 'pg_catalog.pg_proc'::regclass AS class, p.oid, p.proname::text AS name, p.proacl AS now,
                     pg_catalog.acldefault('f', p.proowner) AS plain
                 FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proacl IS NOT NULL
                 UNION ALL SELECT 'pg_catalog.pg_class'::regclass, c.oid, c.relname::text, c.relacl,
                     pg_catalog.acldefault('r', c.relowner)
                 FROM pg_catalog.pg_class c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relacl IS NOT NULL),
             privileges AS (
                 SELECT o.name, o.oid, true AS now, p.* FROM objects o, LATERAL pg_catalog.aclexplode(o.now) p
                 UNION ALL SELECT o.name, o.oid, false, p.* FROM objects o,
                     LATERAL pg_catalog.aclexplode(coalesce((SELECT i.initprivs FROM pg_catalog.pg_init_privs i
                         WHERE i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = 0), o.plain)) p)
             SELECT coalesce(array_agg(DISTINCT name), '{}') FROM (
                 SELECT name FROM privileges WHERE grantee = 0 OR pg_catalog.pg_get_userbyid(grantee) <> ALL ($1::text[])
                 GROUP BY name, oid, grantee, privilege_type, is_grantable HAVING count(DISTINCT now) = 1) others",
            &[&staying.names()],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("the privileges on the source's own objects cannot be read", error))
}

/// Ends what a process of ours that was killed may have left running on the target, and waits until it is gone.
pub async fn end_orphans(postgres: &Postgres, target: &Client) -> Result<()> {
    stale_sessions::end(postgres, target, "schema", STALE_SESSIONS_TIMEOUT).await
}

/// Sorting for an index needs more memory than a server grants by default; where it was given more, that stays.
async fn memory(target: &Client) -> Result<&'static str> {
    let small: bool = target
        .query_one("SELECT pg_catalog.pg_size_bytes(current_setting('maintenance_work_mem')) < 268435456", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("the target's settings cannot be read", error))?;
    Ok(if small { "-c maintenance_work_mem=256MB" } else { "" })
}

/// A schema's name as a pattern that matches only itself.
fn pattern(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A line such as `3345; 2606 16391 CONSTRAINT public accounts accounts_pkey owner`.
fn parse_entry(line: &str) -> Option<Entry> {
    let (dump_id, rest) = line.split_once("; ")?;
    let mut words = rest.splitn(3, ' ');
    Some(Entry {
        dump_id: dump_id.parse().ok()?,
        class: words.next()?.parse().ok()?,
        object: words.next()?.parse().ok()?,
        description: words.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse_entry;

    #[test]
    fn a_list_line_is_read_by_its_numbers_and_not_by_its_names() {
        let entry = parse_entry("3345; 2606 16391 FK CONSTRAINT public a b; c 1; 2 3 owner");
        let entry = entry.expect("the line is an entry");
        assert_eq!((entry.dump_id, entry.class, entry.object), (3345, 2606, 16391));
        assert!(entry.description.starts_with("FK CONSTRAINT "));
        assert_eq!(parse_entry(";     dbname: shop"), None);
        assert_eq!(parse_entry(""), None);
    }
}
