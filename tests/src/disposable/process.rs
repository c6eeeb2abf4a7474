//! The process of a throwaway server: a port for it, its end, and that it never outlives us.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::guard::Guard;
use super::{Error, tail, while_doing};

/// How long a server may take to be created, to accept or to stop.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);
/// How often a server's own state is read while it starts or stops.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Another process may take a port between our asking for a free one and the server's bind.
pub(crate) const PORT_ATTEMPTS: usize = 5;

/// A running server's first process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Guard>,
}

impl Process {
    /// Starts the server in a process group of its own: an interrupt at the terminal is for us, who stop it in order.
    /// Should we be killed, it gets the signal `last` and its folder `base` goes too.
    pub(crate) fn start(mut command: Command, last: &str, base: &Path) -> Result<Self, Error> {
        use std::os::unix::process::CommandExt;
        let child =
            while_doing(command.process_group(0).spawn(), || format!("running {}", command.get_program().display()))?;
        let guard = Guard::over(child.id(), last, base);
        let mut process = Self { child, guard: None };
        match guard {
            Ok(guard) => process.guard = Some(guard),
            Err(error) => {
                process.kill();
                return Err(error);
            }
        }
        Ok(process)
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(status.to_string())
    }

    /// Sends a signal and waits for the end; false when it does not come in time, and then it is killed.
    pub(crate) async fn end(mut self, signal: &str) -> bool {
        let reported = send(signal, self.id());
        let deadline = Instant::now() + TIMEOUT;
        while self.ended().is_none() {
            if reported.is_err() || Instant::now() > deadline {
                self.kill();
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    /// As [`Process::end`], where nothing can be awaited: the signal is one that the server obeys at once.
    pub(crate) fn end_now(mut self, signal: &str) {
        if send(signal, self.id()).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }

    /// Gives it up: it goes on without us.
    pub(crate) fn release(mut self) {
        self.guard = None;
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one of the server's programs to its end, which must be good.
pub(crate) async fn run(command: Command, name: &str) -> Result<(), Error> {
    let path = command.get_program().to_owned();
    let mut command = tokio::process::Command::from(command);
    let Ok(output) = timeout(TIMEOUT, command.kill_on_drop(true).output()).await else {
        return Err(Error::Failed { what: format!("{name} took longer than {TIMEOUT:?}"), output: String::new() });
    };
    let output = while_doing(output, || format!("running {}", path.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Failed { what: format!("{name} ended with {}", output.status), output: tail(&said) })
}

/// A loopback port that nobody listens on just now.
pub(crate) fn free_port() -> Result<u16, Error> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(while_doing(port, || "asking for a free port".to_owned())?.port())
}

/// Waits for the server's port to take a connection.
pub(crate) async fn accepts(port: u16) -> bool {
    let connecting = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    matches!(timeout(TIMEOUT, connecting).await, Ok(Ok(_)))
}

/// Sends a signal through the shell's own `kill`, which every system has.
fn send(signal: &str, pid: u32) -> io::Result<()> {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).stderr(Stdio::null()).status()?;
    if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{signal} {pid} failed"))) }
}
