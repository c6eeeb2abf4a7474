//! Ends a server whose owner was killed, and removes its files.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Error, while_doing};

/// Waits for the end of its input, which the kernel closes however we die. The server may need a moment to end.
const SCRIPT: &str = r#"trap '' INT TERM HUP QUIT
read -r line
kill -"$1" "$2" 2>/dev/null
tries=0
while kill -0 "$2" 2>/dev/null && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
kill -KILL "$2" 2>/dev/null
rm -rf -- "$3""#;

/// A small process beside the server. Dropping it takes it away: the server is then somebody else's care.
#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
}

impl Guard {
    /// Watches over a server with this process id and folder.
    pub(super) fn over(pid: u32, signal: &str, base: &Path) -> Result<Self, Error> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh", signal, &pid.to_string()])
            .arg(base)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends our own group, such as an interrupt at the terminal, must not end this one.
            .process_group(0)
            .spawn();
        let shell = while_doing(shell, || "running sh".to_owned())?;
        Ok(Self { shell })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed before its input is closed, it touches nothing.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
