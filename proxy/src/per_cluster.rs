//! What is kept for each cluster of the configuration: a cluster that a later one adds gets its own, the others keep theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{Cluster, Config};

/// One value for each cluster, by name.
#[derive(Debug)]
pub(crate) struct PerCluster<T>(ArcSwap<BTreeMap<String, Arc<T>>>);

impl<T> PerCluster<T> {
    /// The values that `make` makes.
    pub(crate) fn new(config: &Config, make: impl Fn(&str, &Cluster) -> T) -> Self {
        let all = Self(ArcSwap::default());
        all.renew(config, make);
        all
    }

    /// Makes those that are missing, and forgets those of clusters that are gone.
    pub(crate) fn renew(&self, config: &Config, make: impl Fn(&str, &Cluster) -> T) {
        let now = self.0.load();
        let all = config.clusters.iter().map(|(name, cluster)| {
            let known = now.get(name).cloned();
            (name.clone(), known.unwrap_or_else(|| Arc::new(make(name, cluster))))
        });
        self.0.store(Arc::new(all.collect()));
    }

    /// The value of that cluster.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<T>> {
        self.0.load().get(name).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Arc<BTreeMap<String, Arc<T>>> {
        self.0.load_full()
    }
}
