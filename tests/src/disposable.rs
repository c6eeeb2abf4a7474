//! What throwaway servers of every engine share: where they live, as whom they run, and that they do not outlive us.

pub(crate) mod ground;
pub(crate) mod guard;
pub(crate) mod process;
pub(crate) mod reachable;

pub use ground::new_folder;

use std::io;
use std::path::{Path, PathBuf};

/// Why a throwaway server is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such server on this machine.
    #[error("no {server} in {}; run tests/servers/fetch, or set {variable} to a folder that has bin/{program} inside", list(.looked))]
    NotFound {
        /// The server and version that was wanted.
        server: String,
        /// The variable that names a folder of one's own.
        variable: String,
        /// Its main program.
        program: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with its path.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server's own programs failed or took too long.
    #[error("{what}; the end of its output:\n{output}")]
    Failed {
        /// Which program, and how it failed.
        what: String,
        /// The last lines that it wrote.
        output: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

pub(crate) fn while_doing<T>(result: io::Result<T>, doing: impl FnOnce() -> String) -> Result<T, Error> {
    result.map_err(|source| Error::Io { doing: doing(), source })
}

/// The last lines of what a program wrote.
pub(crate) fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
}

/// A server that is looked for.
pub(crate) struct Wanted {
    /// Its name and version.
    pub(crate) server: String,
    /// The variable that names a folder of one's own.
    pub(crate) variable: String,
    /// Its folder in `target/servers`.
    pub(crate) folder: String,
    /// Where a package of the system puts it.
    pub(crate) installed: PathBuf,
    /// Its main program.
    pub(crate) program: &'static str,
}

impl Wanted {
    /// The first folder that is `complete`: named in the environment, fetched into `target/servers`, or installed.
    pub(crate) fn find(self, complete: impl Fn(&Path) -> bool) -> Result<PathBuf, Error> {
        let looked = self.candidates();
        match looked.iter().find(|root| complete(root)) {
            Some(root) => while_doing(root.canonicalize(), || format!("resolving {}", root.display())),
            None => Err(Error::NotFound {
                server: self.server,
                variable: self.variable,
                program: self.program.to_owned(),
                looked,
            }),
        }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(named) = std::env::var_os(&self.variable) {
            // Who names a folder wants that one: a silent fallback would test another server.
            return vec![PathBuf::from(named)];
        }
        let folder = Path::new("servers").join(&self.folder);
        let mut found = vec![Path::new("target").join(&folder)];
        if let Some(workspace) =
            std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).as_deref().and_then(Path::parent)
        {
            found.push(workspace.join("target").join(&folder));
        }
        if let Ok(program) = std::env::current_exe() {
            found.extend(
                program.ancestors().filter(|folder| folder.ends_with("target")).map(|target| target.join(&folder)),
            );
        }
        found.push(self.installed.clone());
        found
    }
}
