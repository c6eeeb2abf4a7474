//! What of another configuration a running Headgate can take over: what the journal and migrations leave to the file.

use std::collections::BTreeMap;

use migrator::model::status::Summary;
use proxy::config::Config;
use proxy::data_plane;
use proxy::route::Wanted;

/// What is authoritative beside the file.
#[derive(Default)]
pub(super) struct Known {
    /// The migrations that there are.
    pub migrations: Vec<Summary>,
    /// The routes that cutovers have moved, with their clusters: the journal's word.
    pub moved: BTreeMap<String, String>,
    /// Where the routes lead.
    pub leads: BTreeMap<String, String>,
}

/// What the file comes to.
#[derive(Debug)]
pub(super) struct Decided {
    /// What counts then.
    pub config: Config,
    /// Its routes.
    pub wanted: Wanted,
    /// The keys that wait for a restart.
    pub waiting: Vec<String>,
}

/// Takes of `read` what can change while the program runs; the rest stays as it is `now`. Fails with everything that
/// the file must not say.
pub(super) fn decide(now: &Config, read: &Config, known: &Known) -> Result<Decided, Vec<String>> {
    let mut problems = Vec::new();
    if read.engine != now.engine {
        let text = "clusters are of another engine than before: that needs a restart";
        return Err(vec![text.to_owned()]);
    }
    let config = now.reloaded(read);
    let of_route = |route: &str| known.migrations.iter().find(|one| one.route == route);
    let mut wanted = data_plane::wanted(&config);
    wanted.unseen = true;
    for route in &mut wanted.routes {
        let name = &route.name;
        let before = now.routes.get(name);
        let leads = known.leads.get(name);
        route.stays = before.is_some_and(|one| one.cluster == route.cluster) || leads == Some(&route.cluster);
        let key = format!("routes.{name}");
        if let Some(moved) = known.moved.get(name) {
            if before.is_none() {
                // As at a start: the journal overrules the file.
                route.cluster.clone_from(moved);
            } else if !route.stays {
                problems.push(format!(
                    "{key}.cluster is {:?}, but a cutover moved the route to {moved:?}, and the journal is authoritative; \
                     write cluster = {moved:?}",
                    route.cluster
                ));
            }
        }
        let Some(migration) = of_route(name) else {
            continue;
        };
        let migration = &migration.name;
        if before.is_some() && !route.stays && !known.moved.contains_key(name) {
            problems.push(format!(
                "{key}.cluster is {:?}, but migration {migration} moves the route, and decides where it leads; write it back, \
                 or DROP MIGRATION {migration} first",
                route.cluster
            ));
        }
        if before.is_some_and(|one| one.database != route.database) {
            problems.push(format!(
                "{key}.database is {:?}, but migration {migration} moves {:?}; write it back, or DROP MIGRATION {migration} \
                 first",
                route.database,
                before.map(|one| one.database.as_str()).unwrap_or_default()
            ));
        }
    }
    for migration in &known.migrations {
        let (name, route) = (&migration.name, &migration.route);
        if now.routes.contains_key(route) && !config.routes.contains_key(route) {
            problems.push(format!(
                "routes.{route} is gone, but migration {name} moves it; write it back, or DROP MIGRATION {name} first"
            ));
        }
        for cluster in [&migration.source, &migration.target] {
            if now.clusters.contains_key(cluster) && !config.clusters.contains_key(cluster) {
                problems.push(format!(
                    "clusters.{cluster} is gone, but migration {name} works on it; write it back, or DROP MIGRATION {name} first"
                ));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let waiting = waiting(&config, read);
    Ok(Decided { config, wanted, waiting })
}

fn waiting(config: &Config, read: &Config) -> Vec<String> {
    let file = read.entries();
    let entries = config.entries();
    let differ = entries.iter().filter(|entry| !file.contains(entry));
    let mut keys: Vec<String> = differ.map(|(key, _)| key.clone()).collect();
    for (name, cluster) in &config.clusters {
        let Some(read) = read.clusters.get(name) else { continue };
        for (key, now, then) in [
            ("password", &cluster.password, &read.password),
            ("password_command", &cluster.password_command, &read.password_command),
        ] {
            if now != then {
                keys.push(format!("clusters.{name}.{key}"));
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use migrator::model::status::State;

    use super::*;

    const CLUSTERS: &str = "[clusters.blue]\nengine = \"postgres\"\nhost = \"h\"\nuser = \"u\"\npassword = \"p\"\n\
        [clusters.green]\nengine = \"postgres\"\nhost = \"g\"\nuser = \"u\"\n";

    fn config(rest: &str) -> Config {
        let text = format!("[admin]\npassword = \"a\"\n[users.app]\npassword = \"p\"\n{CLUSTERS}{rest}");
        Config::parse(&text, &|_| None).expect("valid")
    }

    fn shop(cluster: &str) -> Config {
        config(&format!("[routes.shop]\ncluster = \"{cluster}\"\n"))
    }

    fn migration() -> Summary {
        Summary {
            name: "m".to_owned(),
            route: "shop".to_owned(),
            source: "blue".to_owned(),
            target: "green".to_owned(),
            state: State::Created,
            since: SystemTime::UNIX_EPOCH,
            percent: 0.0,
            lag: None,
            error: None,
        }
    }

    fn at(cluster: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("shop".to_owned(), cluster.to_owned())])
    }

    fn refusal(now: &Config, read: &Config, known: &Known) -> String {
        decide(now, read, known).expect_err("taken").join("\n")
    }

    #[test]
    fn a_route_leads_where_the_journal_or_a_migration_says_and_not_where_the_file_says() {
        let blue = shop("blue");
        let following = Known { migrations: vec![migration()], leads: at("blue"), ..Known::default() };
        let text = refusal(&blue, &shop("green"), &following);
        assert!(text.contains("migration m moves the route"), "{text}");
        let gone = config("[routes.other]\ncluster = \"blue\"\n");
        let text = refusal(&blue, &gone, &following);
        assert!(text.contains("routes.shop is gone"), "{text}");
        let switched = Known { moved: at("green"), leads: at("green"), ..following };
        // The file may be left as it was, and may say what is so.
        for read in [&blue, &shop("green")] {
            let decided = decide(&blue, read, &switched).expect("taken");
            assert!(decided.wanted.routes.iter().all(|route| route.stays));
        }
        let other =
            "[clusters.red]\nengine = \"postgres\"\nhost = \"r\"\nuser = \"u\"\n[routes.shop]\ncluster = \"red\"\n";
        let text = refusal(&blue, &config(other), &switched);
        assert!(text.contains("the journal is authoritative"), "{text}");
        assert!(text.contains("write cluster = \"green\""), "{text}");
        // A route that comes back is where the journal has it.
        let decided = decide(&gone, &blue, &Known { migrations: Vec::new(), ..switched });
        assert_eq!(decided.expect("taken").wanted.routes[0].cluster, "green");
    }

    #[test]
    fn what_a_restart_takes_over_is_named_and_stays_as_it_is() {
        let now = shop("blue");
        let mut read = config(
            "[listen]\naddress = \"127.0.0.1:1\"\n[routes.shop]\ncluster = \"blue\"\n[limits]\nhold_timeout = \"9s\"\n\
             [users.web]\npassword = \"w\"\n",
        );
        let blue = read.clusters.get_mut("blue").expect("there");
        blue.password = None;
        blue.port = 1;
        let decided = decide(&now, &read, &Known::default()).expect("taken");
        let keys = ["clusters.blue.password", "clusters.blue.port", "limits.hold_timeout", "listen.address"];
        assert_eq!(decided.waiting, keys);
        assert_eq!(decided.config.clusters["blue"].port, 5432);
        assert!(decided.config.users.contains_key("web"));
        let again = decide(&decided.config, &read, &Known::default()).expect("taken");
        assert_eq!(again.waiting, keys, "forgotten with the next reload");
    }
}
