//! The password of an account of Headgate's own: a text, or where it is read anew for new connections, because tokens that
//! serve as passwords live for minutes.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

/// What a command gave is good for connections that are opened within this: a pool that opens many asks once.
const FRESH: Duration = Duration::from_secs(10);
/// A command that takes longer is stuck.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(8);
/// No token is longer.
const BYTES_MAX: u64 = 64 << 10;
/// As much of a command's complaint is told.
const COMPLAINT_CHARS_MAX: usize = 200;

/// Where a password comes from. Equal where that is the same.
#[derive(Clone)]
pub struct Password(Arc<Source>);

enum Source {
    Text(Zeroizing<String>),
    File(PathBuf),
    Command { line: String, kept: Mutex<Option<Kept>> },
}

struct Kept {
    since: Instant,
    text: Zeroizing<String>,
}

impl Password {
    /// The password itself.
    pub fn text(text: &str) -> Self {
        Self(Arc::new(Source::Text(Zeroizing::new(text.to_owned()))))
    }

    /// The first line of a file, as it is when a connection is opened.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Source::File(path.into())))
    }

    /// The first line that a command writes, run by `/bin/sh`.
    pub fn command(line: impl Into<String>) -> Self {
        Self(Arc::new(Source::Command { line: line.into(), kept: Mutex::default() }))
    }

    /// What it is now. Fails with where it was looked for and why it is not there, and with nothing of it.
    pub async fn read(&self) -> io::Result<Zeroizing<String>> {
        match &*self.0 {
            Source::Text(text) => Ok(text.clone()),
            Source::File(path) => {
                let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new);
                let text = text.map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("the password's file {} cannot be read: {error}", path.display()),
                    )
                })?;
                first_line(&text)
                    .ok_or_else(|| io::Error::other(format!("the password's file {} is empty", path.display())))
            }
            Source::Command { line, kept } => {
                // Whoever comes while it runs is given what it gives.
                let mut kept = kept.lock().await;
                if let Some(Kept { since, text }) = &*kept
                    && since.elapsed() < FRESH
                {
                    return Ok(text.clone());
                }
                let since = Instant::now();
                let text = timeout(COMMAND_TIMEOUT, run(line)).await.unwrap_or_else(|_| {
                    let seconds = COMMAND_TIMEOUT.as_secs();
                    Err(io::Error::other(format!("the password's command did not end within {seconds} s")))
                })?;
                *kept = Some(Kept { since, text: text.clone() });
                Ok(text)
            }
        }
    }
}

async fn run(line: &str) -> io::Result<Zeroizing<String>> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (mut said, mut complained) = (Zeroizing::new(String::new()), String::new());
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        match out {
            Some(out) => out.take(BYTES_MAX).read_to_string(&mut said).await,
            None => Ok(0),
        }
    };
    let hearing = async {
        match errors {
            Some(errors) => errors.take(BYTES_MAX).read_to_string(&mut complained).await,
            None => Ok(0),
        }
    };
    let (read, heard) = tokio::join!(reading, hearing);
    read?;
    heard?;
    let status = child.wait().await?;
    if !status.success() {
        let complaint: String = complained.trim().chars().take(COMPLAINT_CHARS_MAX).collect();
        return Err(io::Error::other(format!("the password's command failed ({status}): {complaint}")));
    }
    first_line(&said).ok_or_else(|| io::Error::other("the password's command wrote nothing"))
}

fn first_line(text: &str) -> Option<Zeroizing<String>> {
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(Zeroizing::new(line.to_owned()))
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Arc::new(Source::Text(Zeroizing::new(text))))
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        match (&*self.0, &*other.0) {
            (Source::Text(ours), Source::Text(theirs)) => ours == theirs,
            (Source::File(ours), Source::File(theirs)) => ours == theirs,
            (Source::Command { line: ours, .. }, Source::Command { line: theirs, .. }) => ours == theirs,
            _ => false,
        }
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_and_a_command_is_run_for_new_connections() {
        let folder = std::env::temp_dir().join(format!("headgate-password-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("token");
        let (by_file, by_command) = (Password::file(&file), Password::command(format!("cat {}", file.display())));
        assert!(by_file.read().await.expect_err("not there").to_string().contains("token"));
        for token in ["one", "two"] {
            std::fs::write(&file, format!("{token}\nmore\n")).expect("written");
            assert_eq!(by_file.read().await.expect("there").as_str(), token);
        }
        assert_eq!(by_command.read().await.expect("there").as_str(), "two");
        std::fs::write(&file, "three").expect("written");
        // Connections that are opened at the same time share one.
        assert_eq!(by_command.clone().read().await.expect("kept").as_str(), "two");
        assert_eq!(Password::command(format!("cat {}", file.display())).read().await.expect("there").as_str(), "three");
        drop(std::fs::remove_dir_all(&folder));
    }

    #[tokio::test]
    async fn a_command_that_gives_nothing_says_why_and_shows_no_password() {
        for (line, why) in
            [("exit 3", "exit status: 3"), ("true", "wrote nothing"), ("echo secret; echo no >&2; exit 1", "no")]
        {
            let failure = Password::command(line).read().await.expect_err(line).to_string();
            assert!(failure.contains(why) && !failure.contains("secret"), "{line}: {failure}");
        }
        assert_eq!(format!("{:?}", Password::text("secret")), "***");
        assert!(Password::text("a") == "a".into() && Password::command("a") != "a".into());
    }
}
