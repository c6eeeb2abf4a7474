//! The configuration as SHOW CONFIG shows it: every key, no secret.

use std::path::PathBuf;
use std::time::Duration;

use super::{Config, Secret};

impl Config {
    /// Every key with its value; secrets are only told to be there.
    pub fn entries(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        let mut add = |key: &str, value: String| entries.push((key.to_owned(), value));
        add("listen.address", self.listen.address.to_string());
        add("listen.sessions_max", self.listen.sessions_max.to_string());
        add("listen.threads", self.listen.threads.to_string());
        let tls = self.listen.tls.as_ref();
        let shown = |path: Option<&PathBuf>| path.map_or(String::new(), |path| path.display().to_string());
        add("listen.tls_certificate", shown(tls.map(|tls| &tls.certificate)));
        add("listen.tls_key", shown(tls.map(|tls| &tls.key)));
        add("http.address", self.http.as_ref().map_or(String::new(), |http| http.address.to_string()));
        add("admin.user", self.admin.user.clone());
        add("admin.password", secret(Some(&self.admin.password)));
        for (name, cluster) in &self.clusters {
            add(&format!("clusters.{name}.engine"), cluster.engine.word().to_owned());
            add(&format!("clusters.{name}.host"), cluster.host.clone());
            add(&format!("clusters.{name}.port"), cluster.port.to_string());
            add(&format!("clusters.{name}.user"), cluster.user.clone());
            add(&format!("clusters.{name}.password"), secret(cluster.password.as_ref()));
        }
        if let Some(cluster) = &self.default_route {
            add("routes.*.cluster", cluster.clone());
        }
        for (name, route) in &self.routes {
            add(&format!("routes.{name}.cluster"), route.cluster.clone());
            add(&format!("routes.{name}.database"), route.database.clone());
        }
        add("login.method", self.login.method.word().to_owned());
        let capture = self.login.capture_passwords;
        add("login.capture_passwords", capture.to_string());
        for (name, user) in &self.users {
            add(&format!("users.{name}.password"), secret(user.password.as_ref()));
        }
        let limits = &self.limits;
        add("limits.frame_bytes_max", bytes(limits.frame_bytes_max as u64));
        add("limits.login_timeout", duration(limits.login_timeout));
        add("limits.connect_timeout", duration(limits.connect_timeout));
        add("limits.hold_timeout", duration(limits.hold_timeout));
        add("limits.drain_timeout", duration(limits.drain_timeout));
        add("journal.path", self.journal.path.display().to_string());
        let migrator = &self.migrator;
        add("migrator.pg_dump", migrator.pg_dump.display().to_string());
        add("migrator.pg_restore", migrator.pg_restore.display().to_string());
        add("migrator.copy_workers", migrator.copy_workers.to_string());
        add("migrator.copy_chunk", bytes(migrator.copy_chunk_bytes));
        add("migrator.check_workers", migrator.check_workers.to_string());
        add("migrator.check_range_rows", migrator.check_range_rows.to_string());
        add("migrator.counter_gap", migrator.counter_gap.to_string());
        add("migrator.slot_create_timeout", duration(migrator.slot_create_timeout));
        entries
    }
}

fn secret(secret: Option<&Secret>) -> String {
    secret.map_or(String::new(), |_| "***".to_owned())
}

fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes}B"), |(size, name)| format!("{}{name}", bytes / size))
}
