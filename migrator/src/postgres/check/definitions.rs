//! The definitions of both sides, read from the catalogues by what the catalogues themselves say of their columns.
//!
//! Every row of every catalogue that the inventory calls compared becomes one definition: its columns as JSON, with the
//! numbers of other objects turned into their names by `pg_get_catalog_foreign_keys`, and what the server prints where a
//! column holds a parsed form. Only columns that both versions have are compared.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::expressions::{legible, readable, same_text};
use super::inventory::{Among, Class, INVENTORY, Name, SKIPPED_TYPES, Treatment, VIEWS};
use crate::error::Result;
use crate::model::definitions::{Compared, Definitions, Fingerprint};
use crate::postgres::Postgres;
use crate::postgres::client::failed;
use crate::postgres::guard;
use crate::postgres::plan::OURS_TO_MOVE;
use crate::postgres::schema::set_aside::kept::{self, Definition};
use crate::postgres::service::Staying;
use crate::postgres::sql::{named, quote_ident, quote_literal};

/// The version from which on tables have the privilege MAINTAIN.
const MAINTAIN_FROM: i32 = 170_000;
/// Objects whose number is at least this were not made by `initdb`.
pub(crate) const FIRST_USER_OID: u32 = 16384;

/// One object of one side.
#[derive(Clone, Debug)]
struct Object {
    /// The columns, as JSON.
    columns: String,
    /// What the server prints of it.
    text: Option<String>,
    /// The target may have it though the source does not.
    may_be_more: bool,
    /// What of it the server does not show, and what lets us look.
    hidden: Option<String>,
    /// What it is a part of.
    part_of: Vec<String>,
}

type Objects = BTreeMap<String, Object>;

/// Columns of every catalogue: the name and its type.
type Columns = BTreeMap<String, BTreeMap<String, String>>;

/// For each catalogue and column, what its numbers are of: the catalogue, and whether it is an array.
type References = BTreeMap<(String, String), (String, bool)>;

/// How both servers' catalogues are read.
struct Reading {
    columns: Columns,
    references: References,
    /// Columns that name attributes of the relation in another column.
    attributes: BTreeMap<(String, String), String>,
    schemas: Vec<String>,
    own: Vec<String>,
    maintain: bool,
}

/// Reads both sides' and compares them, in sessions of its own.
pub(crate) async fn compare(postgres: &Postgres) -> Result<Compared> {
    let (source, target) =
        tokio::try_join!(postgres.connect_source("definitions"), postgres.connect_target("definitions"))?;
    let reading = Reading::open(postgres, &source, &target).await?;
    for session in [&source, &target] {
        // Each version quotes what is a word of its own.
        let quoting = session.batch_execute("SET quote_all_identifiers = on").await;
        quoting.map_err(|error| failed("cannot read the definitions", error))?;
    }
    let (ours, theirs) = tokio::try_join!(
        reading.side(&source, "source", &postgres.source().user),
        reading.side(&target, "target", &postgres.target().user)
    )?;
    let differences = differences(&target, &ours, &theirs).await?;
    let mut proved = whole(&theirs);
    let guard = guard::definitions(&target, postgres).await?.into_iter();
    proved.extend(guard.map(|(name, text)| (readable(&name), text)));
    Ok(Compared { fingerprint: Fingerprint::of(&whole(&ours), &proved), differences })
}

/// The target's objects as they are at this moment, in a session of the caller's that quotes all identifiers.
pub(crate) async fn of_target(
    postgres: &Postgres,
    source: &Client,
    target: &Client,
) -> Result<BTreeMap<String, Definition>> {
    let reading = Reading::open(postgres, source, target).await?;
    let objects = reading.objects(target, "target", &postgres.target().user).await?.into_iter();
    let definition =
        |object: Object| Definition { columns: object.columns, text: object.text, part_of: object.part_of };
    Ok(objects.map(|(name, object)| (name, definition(object))).collect())
}

fn whole(objects: &Objects) -> Definitions {
    let objects = objects.iter();
    objects
        .map(|(name, object)| {
            let text = object.text.as_deref().unwrap_or_default();
            (name.clone(), format!("{}\n{text}", object.columns))
        })
        .collect()
}

/// What is not the same on both sides.
async fn differences(target: &Client, ours: &Objects, theirs: &Objects) -> Result<Vec<String>> {
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let wholes: BTreeSet<&String> = ours.values().flat_map(|object| &object.part_of).collect();
    // What is a part of nothing that the source has stands by itself.
    let stands_alone = |object: &Object| {
        let mut parts = object.part_of.iter();
        !object.part_of.is_empty() && parts.all(|whole| !wholes.contains(whole))
    };
    let mut found = Vec::new();
    for name in names {
        match (ours.get(name), theirs.get(name)) {
            (Some(_), None) => found.push(format!("{name} (not on the target)")),
            (None, Some(object)) if object.may_be_more || stands_alone(object) => {}
            (None, Some(_)) => found.push(format!("{name} (not on the source)")),
            (Some(source), Some(there)) => {
                let hidden: Vec<&str> =
                    [source, there].into_iter().filter_map(|object| object.hidden.as_deref()).collect();
                if !hidden.is_empty() {
                    found.push(format!("{name} (cannot be known: {})", hidden.join("; ")));
                } else if let Some(what) = differs(target, name, source, there).await? {
                    found.push(format!("{name} ({what})"));
                }
            }
            (None, None) => {}
        }
    }
    Ok(found)
}

/// What two objects of one name differ in.
async fn differs(target: &Client, name: &str, source: &Object, there: &Object) -> Result<Option<String>> {
    if source.columns != there.columns {
        let read = |columns: &str| -> BTreeMap<String, serde_json::Value> {
            serde_json::from_str(columns).unwrap_or_default()
        };
        let (ours, theirs) = (read(&source.columns), read(&there.columns));
        let columns: Vec<&str> = ours
            .iter()
            .filter(|(column, value)| theirs.get(*column) != Some(value))
            .map(|(column, _)| column.as_str())
            .collect();
        return Ok(Some(format!("differs in {}", columns.join(", "))));
    }
    let same = same_text(target, name, source.text.as_deref(), there.text.as_deref()).await?;
    Ok((!same).then(|| "differs".to_owned()))
}

impl Reading {
    async fn open(postgres: &Postgres, source: &Client, target: &Client) -> Result<Self> {
        let (ours, theirs, (references, attributes)) =
            tokio::try_join!(columns(source), columns(target), references(source))?;
        let mut both = Columns::new();
        for (catalogue, columns) in ours {
            let Some(others) = theirs.get(&catalogue) else {
                continue;
            };
            let kept = columns.into_iter();
            let kept = kept.filter(|(name, _)| others.contains_key(name)).collect();
            both.insert(catalogue, kept);
        }
        let (from, to) = tokio::try_join!(version(source), version(target))?;
        Ok(Self {
            columns: both,
            references,
            attributes,
            schemas: postgres.settings().schemas.clone(),
            own: Staying::read(postgres, source, target).await?.names(),
            maintain: from >= MAINTAIN_FROM && to >= MAINTAIN_FROM,
        })
    }

    /// One side's objects of every class, as they are or will be: what is set aside counts as it was.
    async fn side(&self, session: &Client, side: &str, user: &str) -> Result<Objects> {
        let mut objects = self.objects(session, side, user).await?;
        for (name, Definition { columns, text, part_of }) in kept::definitions(session).await? {
            objects.insert(name, Object { columns, text, may_be_more: false, hidden: None, part_of });
        }
        Ok(objects)
    }

    /// Reads one side's objects of every class.
    async fn objects(&self, session: &Client, side: &str, user: &str) -> Result<Objects> {
        let cannot = |error| failed(&format!("cannot read the {side}'s definitions"), error);
        let unreadable: Vec<String> = session
            .query_one(
                "SELECT coalesce(array_agg(relname::text), '{}') FROM pg_catalog.pg_class
                 WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'
                   AND NOT has_table_privilege(oid, 'SELECT')",
                &[],
            )
            .await
            .and_then(|row| row.try_get(0))
            .map_err(cannot)?;
        let mut objects = Objects::new();
        for (catalogue, treatment) in INVENTORY {
            let Treatment::Compared(class) = treatment else {
                continue;
            };
            if !self.columns.contains_key(*catalogue) {
                continue;
            }
            let hidden = unreadable.iter().any(|name| name == catalogue);
            let view = VIEWS.iter().find(|view| view.catalogue == *catalogue);
            let (from, hides) = match view.filter(|_| hidden) {
                Some(view) => (view.from.to_owned(), view.hides),
                None => (format!("pg_catalog.{catalogue}"), "false"),
            };
            let query = self.query(catalogue, class, &from, hides);
            let grant = || {
                format!(
                    "a part of it is hidden from us on the {side}, where GRANT SELECT ON pg_catalog.{catalogue} TO {} \
                     lets us look",
                    quote_ident(user)
                )
            };
            let rows = session.query(&query, &[&self.schemas, &self.own]).await.map_err(cannot)?;
            for row in rows {
                let read = || -> std::result::Result<_, tokio_postgres::Error> {
                    let part_of: Vec<String> = row.try_get(3)?;
                    let hidden: bool = row.try_get(4)?;
                    let object = Object {
                        columns: legible(row.try_get(1)?),
                        text: row.try_get(2)?,
                        may_be_more: !class.more_on_target.is_empty(),
                        hidden: hidden.then(grant),
                        part_of: part_of.iter().map(|whole| readable(whole)).collect(),
                    };
                    Ok((row.try_get::<_, String>(0)?, object))
                };
                let (name, object) = read().map_err(cannot)?;
                objects.insert(readable(&name), object);
            }
        }
        self.privileges(session, &mut objects).await.map_err(cannot)?;
        Ok(objects)
    }

    /// The query for a class: each row's name, its columns as JSON, what the server prints, what it is a part of, and
    /// whether a part of it is hidden.
    fn query(&self, catalogue: &str, class: &Class, from: &str, hides: &str) -> String {
        let name = match class.name {
            Name::Identified => format!(
                "(SELECT i.type || ' ' || i.identity
                  FROM pg_catalog.pg_identify_object('pg_catalog.{catalogue}'::regclass, t.oid, 0) i)"
            ),
            Name::Sql(sql) => sql.to_owned(),
        };
        let users = format!(
            "t.oid >= {FIRST_USER_OID} AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                WHERE d.classid = 'pg_catalog.{catalogue}'::regclass AND d.objid = t.oid AND d.deptype = 'e')"
        );
        let among = match class.among {
            // What is in no schema is not dumped with some schemas alone.
            Among::Users => format!("{users} AND cardinality($1::text[]) = 0"),
            Among::UsersIn(column) => format!(
                "{users} AND t.{column} IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_'
                    AND n.nspname NOT IN ('information_schema', 'headgate')
                    AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[])))"
            ),
            Among::Ours(column) => format!("t.{column} IN (SELECT oid FROM ours)"),
            Among::Sql(sql) => format!("({sql})"),
        };
        let only = if class.only.is_empty() { "true" } else { class.only };
        let text = if class.text.is_empty() { "NULL" } else { class.text };
        let part_of = match (class.part_of, class.among) {
            ("", Among::Ours(column)) => format!("ARRAY[t.{column}::regclass::text]"),
            ("", _) => "'{}'::text[]".to_owned(),
            (sql, _) => sql.to_owned(),
        };
        let mut values = Vec::new();
        for (column, kind) in self.columns.get(catalogue).into_iter().flatten() {
            let skipped = column == "oid"
                || SKIPPED_TYPES.iter().any(|(name, _)| name == kind)
                || class.without.iter().any(|(name, _)| name == column);
            if !skipped {
                let value = self.value(catalogue, class, column, kind);
                values.push(format!("{}, {value}", quote_literal(column)));
            }
        }
        // A function takes a hundred arguments at most.
        let mut columns: Vec<String> =
            values.chunks(40).map(|some| format!("jsonb_build_object({})", some.join(", "))).collect();
        if !class.more.is_empty() {
            columns.push(format!("jsonb_build_object({})", class.more));
        }
        let columns = if columns.is_empty() { "'{}'::jsonb".to_owned() } else { columns.join(" || ") };
        format!(
            "WITH ours AS MATERIALIZED (SELECT c.oid, c.relkind FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {OURS_TO_MOVE}
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                       WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
             own AS (SELECT $2::text[])
             SELECT {name}, ({columns})::text, ({text})::text, {part_of}, {hides} FROM {from} t WHERE {among} AND {only}"
        )
    }

    /// A column's value that means the same on every server.
    fn value(&self, catalogue: &str, class: &Class, column: &str, kind: &str) -> String {
        let key = (catalogue.to_owned(), column.to_owned());
        if kind == "aclitem[]" {
            return self.privileges_value(class, column);
        }
        if let Some(relation) = self.attributes.get(&key) {
            return format!(
                "(SELECT jsonb_agg(a.attname ORDER BY u.at) FROM unnest(t.{column}::int2[]) WITH ORDINALITY u (number, at)
                  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.{relation} AND a.attnum = u.number)"
            );
        }
        match self.references.get(&key) {
            // Members of a set, in whatever order they were named.
            Some((to, true)) if to == "pg_authid" => format!(
                "(SELECT jsonb_agg({0} ORDER BY {0}) FROM unnest(t.{column}::oid[]) u (number))",
                named(to, "u.number")
            ),
            Some((to, true)) => format!(
                "(SELECT jsonb_agg({} ORDER BY u.at) FROM unnest(t.{column}::oid[]) WITH ORDINALITY u (number, at))",
                named(to, "u.number")
            ),
            Some((to, false)) => named(to, &format!("t.{column}")),
            None if matches!(kind, "\"char\"" | "name" | "int2vector" | "oidvector" | "bytea") => {
                format!("t.{column}::text")
            }
            None => format!("t.{column}"),
        }
    }

    /// Privileges one by one, in one order; those of a newer version are left out where the older cannot have them.
    fn privileges_value(&self, class: &Class, column: &str) -> String {
        let (kind, owner) = class.privileges;
        let privileges = if kind.is_empty() {
            format!("t.{column}")
        } else {
            format!("coalesce(t.{column}, pg_catalog.acldefault({kind}, t.{owner}))")
        };
        let maintain = if self.maintain { "" } else { "AND p.privilege_type <> 'MAINTAIN'" };
        // What Headgate's own roles may do is for the migration, unless they own it; one privilege may have two grantors.
        let owned = if owner.is_empty() { "false".to_owned() } else { format!("p.grantee = t.{owner}") };
        format!(
            "(SELECT jsonb_agg(g ORDER BY g) FROM (
                SELECT DISTINCT concat_ws(' ', p.privilege_type, CASE WHEN p.is_grantable THEN 'grantable' END, 'to',
                    CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(p.grantee) END) AS g
                FROM pg_catalog.aclexplode({privileges}) p
                WHERE ({owned} OR p.grantee = 0 OR pg_catalog.pg_get_userbyid(p.grantee) <> ALL ($2::text[])) {maintain}) x)"
        )
    }

    /// Privileges that somebody changed on what the server or an extension brought along.
    async fn privileges(
        &self,
        session: &Client,
        objects: &mut Objects,
    ) -> std::result::Result<(), tokio_postgres::Error> {
        if !self.schemas.is_empty() {
            return Ok(());
        }
        let sources = [
            ("pg_proc", "proacl", "proowner", "'f'"),
            ("pg_class", "relacl", "relowner", "CASE t.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\""),
            ("pg_language", "lanacl", "lanowner", "'l'"),
            ("pg_type", "typacl", "typowner", "'T'"),
        ];
        for (catalogue, column, owner, kind) in sources {
            let query = format!(
                "SELECT format('privilege %s to %s on %s', p.privilege_type,
                     CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(p.grantee) END,
                     (SELECT i.type || ' ' || i.identity
                      FROM pg_catalog.pg_identify_object('pg_catalog.{catalogue}'::regclass, x.oid, 0) i)),
                     bool_or(x.now)
                 FROM (SELECT t.oid, true AS now, t.{owner} AS owner, t.{column} AS privileges FROM pg_catalog.{catalogue} t
                       WHERE t.{column} IS NOT NULL
                       UNION ALL SELECT t.oid, false, t.{owner}, coalesce(
                           (SELECT n.initprivs FROM pg_catalog.pg_init_privs n
                            WHERE n.classoid = 'pg_catalog.{catalogue}'::regclass AND n.objoid = t.oid AND n.objsubid = 0),
                           pg_catalog.acldefault({kind}, t.{owner}))
                       FROM pg_catalog.{catalogue} t WHERE t.{column} IS NOT NULL) x,
                     LATERAL pg_catalog.aclexplode(x.privileges) p
                 WHERE (x.oid < {FIRST_USER_OID} OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                         WHERE d.classid = 'pg_catalog.{catalogue}'::regclass AND d.objid = x.oid AND d.deptype = 'e'))
                   AND p.grantee <> x.owner AND p.privilege_type <> 'MAINTAIN'
                   AND (p.grantee = 0 OR pg_catalog.pg_get_userbyid(p.grantee) !~ '^pg_'
                       AND pg_catalog.pg_get_userbyid(p.grantee) <> ALL ($1::text[]))
                 GROUP BY x.oid, p.privilege_type, p.grantee HAVING count(DISTINCT x.now) = 1"
            );
            for row in session.query(&query, &[&self.own]).await? {
                let granted: bool = row.try_get(1)?;
                let object = Object {
                    columns: format!("{{\"granted\": {granted}}}"),
                    text: None,
                    may_be_more: true,
                    hidden: None,
                    part_of: Vec::new(),
                };
                objects.insert(readable(row.try_get(0)?), object);
            }
        }
        Ok(())
    }
}

async fn version(session: &Client) -> Result<i32> {
    session
        .query_one("SELECT current_setting('server_version_num')::int", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(|error| failed("cannot read a server's version", error))
}

/// The columns of every table of `pg_catalog`.
async fn columns(session: &Client) -> Result<Columns> {
    let cannot = |error| failed("cannot read the columns of the catalogues", error);
    let rows = session
        .query(
            "SELECT c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, NULL)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
             WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped",
            &[],
        )
        .await
        .map_err(cannot)?;
    let mut columns = Columns::new();
    for row in rows {
        let read = || -> std::result::Result<(String, String, String), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (catalogue, column, kind) = read().map_err(cannot)?;
        columns.entry(catalogue).or_default().insert(column, kind);
    }
    Ok(columns)
}

/// What the catalogues' numbers are of: objects, and columns of the relation in another column.
async fn references(session: &Client) -> Result<(References, BTreeMap<(String, String), String>)> {
    let cannot = |error| failed("cannot read what the catalogues refer to", error);
    let rows = session
        .query(
            "SELECT fktable::text, fkcols, pktable::text, is_array FROM pg_catalog.pg_get_catalog_foreign_keys()",
            &[],
        )
        .await
        .map_err(cannot)?;
    let (mut references, mut attributes) = (References::new(), BTreeMap::new());
    for row in rows {
        let read = || -> std::result::Result<(String, Vec<String>, String, bool), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (catalogue, columns, to, is_array) = read().map_err(cannot)?;
        let bare = |name: &str| name.trim_start_matches("pg_catalog.").to_owned();
        let catalogue = bare(&catalogue);
        match columns.as_slice() {
            [column] => drop(references.insert((catalogue, column.clone()), (bare(&to), is_array))),
            [relation, column] if is_array => {
                attributes.insert((catalogue, column.clone()), relation.clone());
            }
            _ => {}
        }
    }
    Ok((references, attributes))
}
