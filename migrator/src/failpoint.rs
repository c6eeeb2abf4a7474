//! Places at which the tests kill the program, to see that its next start finds the way. Nothing of it is in a release.
//!
//! A debug build that `HEADGATE_FAILPOINTS` names an existing folder to writes every place that it passes into the
//! folder's file `passed`, and kills itself as `kill -9` does at the place whose name is in its file `armed`. Names come
//! from what is done there, so that no list has to be kept: a record is named after the function that writes it.

/// What follows was not begun.
pub(crate) fn before(what: &str, name: &str) {
    pass("before", what, name);
}

/// What came before is done, and nobody has been told.
pub(crate) fn after(what: &str, name: &str) {
    pass("after", what, name);
}

/// The name of the function that a closure is written in.
pub(crate) fn function_of<T>(_closure: &T) -> &'static str {
    let segments = std::any::type_name::<T>().rsplit("::");
    segments.into_iter().find(|segment| *segment != "{{closure}}").unwrap_or_default()
}

#[cfg(not(debug_assertions))]
fn pass(_when: &str, _what: &str, _name: &str) {}

#[cfg(debug_assertions)]
fn pass(when: &str, what: &str, name: &str) {
    use std::fs::{File, read_to_string};
    use std::io::Write;
    use std::process::{Command, id};

    let Some(folder) = std::env::var_os("HEADGATE_FAILPOINTS").map(std::path::PathBuf::from) else {
        return;
    };
    let line = format!("{when} {what} {name}\n");
    let Ok(mut passed) = File::options().create(true).append(true).open(folder.join("passed")) else {
        return;
    };
    passed.write_all(line.as_bytes()).expect("the folder of the failpoints takes a line");
    if read_to_string(folder.join("armed")).is_ok_and(|armed| armed.trim_end() == line.trim_end()) {
        let killed = Command::new("sh").args(["-c", &format!("kill -KILL {}", id())]).status();
        panic!("the program survived its failpoint: {killed:?}");
    }
}
