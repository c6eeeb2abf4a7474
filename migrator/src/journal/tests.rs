//! The journal against files in a temporary folder, opened again after every write.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Journal;
use crate::cutover::{Cutover, Marker, UndoReason};
use crate::error::{Error, Kind};
use crate::model::definition::Definition;
use crate::model::mark::{Mark, Stage};
use crate::model::plan::{Plan, Settings};
use crate::model::position::Position;
use crate::model::progress::TableProgress;
use crate::model::status::State;
use crate::preflight::Check;

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("headgate-journal-{}-{:x}", std::process::id(), rand::random::<u64>());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Number(u64);

impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl Position for Number {
    fn covers(&self, other: &Self) -> bool {
        self.0 >= other.0
    }
}

fn definition() -> Definition {
    Definition {
        name: "m".to_owned(),
        source: "blue".to_owned(),
        target: "green".to_owned(),
        route: "shop".to_owned(),
        settings: Settings::default(),
    }
}

fn open(folder: &Path) -> Journal {
    Journal::open(folder).expect("the journal opens")
}

#[tokio::test]
async fn every_state_of_a_cutover_is_there_after_the_journal_is_opened_again() {
    let folder = Folder::new();
    open(&folder.0).insert(&definition()).await.expect("inserted");
    let marker = Marker { position: Number(9), token: "t".to_owned() };
    let states = [
        (Cutover::Holding, 1),
        (Cutover::Fencing, 1),
        (Cutover::Undoing { why: UndoReason::Rehearsed }, 1),
        (Cutover::Following, 1),
        (Cutover::Holding, 2),
        (Cutover::Fencing, 2),
        (Cutover::CatchingUp { marker: marker.clone() }, 2),
        (Cutover::Checking { marker }, 2),
        (Cutover::Switching, 2),
        (Cutover::Switched, 2),
    ];
    for (state, epoch) in states {
        assert_eq!(open(&folder.0).enter("m", &state).await.expect("entered"), epoch);
        let journal = open(&folder.0);
        assert_eq!(journal.cutover("m").expect("read"), Some((epoch, state.clone())));
        let decided = matches!(state, Cutover::Switching | Cutover::Switched);
        let route = journal.route_clusters().expect("read").get("shop").cloned();
        assert_eq!(route, decided.then(|| "green".to_owned()), "in {}", state.name());
        let entry = journal.entries().expect("read").remove(0);
        let ended = matches!(state, Cutover::Switched);
        assert_eq!(entry.state == State::Switched, ended, "in {}", state.name());
    }
}

#[tokio::test]
async fn a_migration_comes_back_as_it_was_written() {
    let folder = Folder::new();
    open(&folder.0).insert(&definition()).await.expect("inserted");
    let before = SystemTime::now() - Duration::from_secs(1);
    let error = Error::fatal("the target is full").remedy("make room");
    open(&folder.0).set_plan("m", &Plan::default()).await.expect("written");
    open(&folder.0).set_copied("m", &[("a.b".to_owned(), TableProgress::default())].into()).await.expect("written");
    open(&folder.0).set_state("m", State::Failed, Some(&error)).await.expect("written");
    let findings = [Check::ok("wal_level", "logical"), Check::ok("slots", "9 free")];
    open(&folder.0).set_findings("m", &findings).await.expect("written");
    let journal = open(&folder.0);
    let entry = journal.entries().expect("read").remove(0);
    assert_eq!(entry.definition, definition());
    assert_eq!((entry.state, entry.copied), (State::Failed, true));
    assert_eq!(entry.error.as_deref(), Some("the target is full"));
    assert_eq!(entry.remedy.as_deref(), Some("make room"));
    assert_eq!(entry.plan, Some(Plan::default()));
    assert_eq!(entry.tables.len(), 1);
    assert!(entry.since > before && entry.since < SystemTime::now() + Duration::from_secs(1));
    assert_eq!(journal.findings("m").expect("read"), findings);
}

#[tokio::test]
async fn forgetting_a_migration_keeps_its_route_and_the_count_of_epochs() {
    let folder = Folder::new();
    let journal = open(&folder.0);
    journal.insert(&definition()).await.expect("inserted");
    journal.set_findings("m", &[Check::ok("a", "b")]).await.expect("written");
    for state in [Cutover::<Number>::Holding, Cutover::Switching, Cutover::Switched] {
        journal.enter("m", &state).await.expect("entered");
    }
    journal.remove("m").await.expect("removed");
    assert!(journal.entries().expect("read").is_empty());
    assert_eq!(journal.cutover::<Number>("m").expect("read"), None);
    assert_eq!(journal.route_clusters().expect("read").get("shop").map(String::as_str), Some("green"));
    journal.insert(&definition()).await.expect("the name is free again");
    assert!(journal.findings("m").expect("read").is_empty());
    assert_eq!(journal.enter("m", &Cutover::<Number>::Holding).await.expect("entered"), 2);
}

#[tokio::test]
async fn a_route_has_come_back_only_by_a_later_decision_of_the_same_journal() {
    let folder = Folder::new();
    let journal = open(&folder.0);
    journal.insert(&definition()).await.expect("inserted");
    for state in [Cutover::<Number>::Holding, Cutover::Switching, Cutover::Switched] {
        journal.enter("m", &state).await.expect("entered");
    }
    let left = Mark {
        migration: "m".to_owned(),
        route: "shop".to_owned(),
        source: "green".to_owned(),
        target: "blue".to_owned(),
        epoch: 0,
        journal: journal.identity().expect("read"),
        sealed: String::new(),
        stage: Stage::Switched,
    };
    let came_back = |mark: &Mark, cluster: &str| journal.came_back(mark, cluster).expect("read");
    assert!(came_back(&left, "green"));
    assert!(!came_back(&left, "blue"));
    assert!(!came_back(&Mark { epoch: 1, ..left.clone() }, "green"));
    assert!(!came_back(&Mark { journal: "another".to_owned(), ..left.clone() }, "green"));
    assert!(!came_back(&Mark { route: "other".to_owned(), ..left }, "green"));
}

#[test]
fn a_second_headgate_on_the_same_journal_is_refused_by_name() {
    let folder = Folder::new();
    let first = open(&folder.0);
    let refused = Journal::open(&folder.0).err().expect("the second is refused");
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains(&format!("pid {}", std::process::id())), "{refused}");
    drop(first);
    open(&folder.0);
}

#[test]
fn a_journal_of_a_newer_version_is_left_alone() {
    let folder = Folder::new();
    drop(open(&folder.0));
    let raw = rusqlite::Connection::open(folder.0.join("journal.sqlite")).expect("opens");
    raw.pragma_update(None, "user_version", 99).expect("written");
    drop(raw);
    let refused = Journal::open(&folder.0).err().expect("a newer file is refused");
    assert!(refused.to_string().contains("version 99"), "{refused}");
}

#[test]
fn every_commit_reaches_the_disk_before_it_returns() {
    let folder = Folder::new();
    let journal = open(&folder.0);
    let (mode, synchronous): (String, i64) = journal
        .read(|connection| {
            Ok((
                connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?,
                connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?,
            ))
        })
        .expect("read");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}
