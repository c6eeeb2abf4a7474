//! What must survive the process: every decision of the control plane, durable before its effect starts.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;

/// The journal; clones share one file.
#[derive(Clone)]
pub struct Journal {}

impl Journal {
    /// Opens or creates the journal in `folder`, alone: a second Headgate on the same folder is refused.
    pub fn open(_folder: &Path) -> Result<Self> {
        Ok(Self {})
    }

    /// The routes that cutovers decided about, and the cluster each is on: they overrule the configuration.
    pub fn route_clusters(&self) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }
}
