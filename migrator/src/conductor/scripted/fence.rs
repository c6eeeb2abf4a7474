//! The fence, the counters and the next leg of the scripted world.

use std::time::Duration;

use super::{Barrier, Facts, Place, World};
use crate::database::{Counters, Fencing, GatedBackends, Kept, NextLeg, Raised};
use crate::error::{Error, Result};
use crate::model::definitions::Fingerprint;
use crate::model::leg::Leg;
use crate::model::mark::{self, Mark, Stage};
use crate::model::plan::Plan;
use crate::preflight::Check;

fn refuse_later(marks: &[Mark], epoch: u64) -> Result<()> {
    marks.iter().try_for_each(|found| mark::refuse_later(&found.migration, Some(found.epoch), epoch))
}

impl Fencing for World {
    type Fence = Barrier;

    fn databases(&self) -> Vec<String> {
        vec!["shop".to_owned()]
    }

    async fn writers(&self, _: GatedBackends<'_>) -> Result<Vec<Check>> {
        Ok(vec![Check::ok("writers", "none")])
    }

    async fn warm_up(&self, _: &Plan, proved: Option<&Fingerprint>) -> Result<()> {
        let now = self.facts.lock().definitions.fingerprint.clone();
        let changes = proved.map_or(Vec::new(), |proved| proved.changes(&now));
        if let Some(change) = changes.first() {
            return Err(Error::refused(change.clone()));
        }
        self.act("warm_up", &[], |_| ()).await
    }

    async fn raise_fence(&self, _: &Plan, token: &str, _: Duration) -> Result<Raised<Barrier, Place>> {
        let fence = Barrier(self.clone());
        let change = |facts: &mut Facts| facts.barrier = true;
        self.act("raise_fence", &["Fencing"], change).await?;
        if !self.facts.lock().follower_idle {
            self.known_follow().advance(Place(9), vec![token.to_owned()]);
        }
        Ok(Raised { fence, marker: Place(7) })
    }

    async fn confirm_fence(&self, _: &Plan, _: &mut Barrier) -> Result<()> {
        self.act("confirm_fence", &["Checking"], |_| ()).await
    }

    async fn seal_fence(
        &self,
        _fence: Barrier,
        mark: &Mark,
        next_begins: Option<&Place>,
        _carried: GatedBackends<'_>,
    ) -> Result<()> {
        let way_back = self.leg.is_way_back();
        let begins = next_begins.cloned();
        refuse_later(&self.marks().await?, mark.epoch)?;
        let change = |facts: &mut Facts| {
            let sealed = std::mem::take(&mut facts.barrier);
            let marks = vec![mark.clone()];
            if way_back {
                (facts.back_sealed, facts.back_marks) = (sealed, marks);
            } else {
                (facts.sealed, facts.marks) = (sealed, marks);
            }
            facts.next_begins = begins;
        };
        self.act("seal_fence", &["Checking"], change).await
    }

    async fn drop_fence(&self, _fence: Barrier, epoch: u64) -> Result<()> {
        refuse_later(&self.marks().await?, epoch)?;
        self.act("drop_fence", &["Undoing"], |facts| facts.barrier = false).await
    }

    async fn lift_fence(&self, _: &Plan, epoch: u64) -> Result<()> {
        let way_back = self.leg.is_way_back();
        refuse_later(&self.marks().await?, epoch)?;
        let change = |facts: &mut Facts| {
            facts.barrier = false;
            if way_back {
                facts.back_sealed = false;
                facts.back_marks.clear();
            } else {
                facts.sealed = false;
                facts.marks.clear();
            }
        };
        self.act("lift_fence", &["Undoing"], change).await
    }

    async fn open_target(&self, _: &Plan, epoch: u64) -> Result<()> {
        if !self.leg.is_way_back() {
            return Ok(());
        }
        let marks = self.facts.lock().marks.clone();
        refuse_later(&marks, epoch)?;
        let change = |facts: &mut Facts| {
            assert!(facts.back_sealed, "both sides take writes");
            // Once opened, it may be opened again.
            assert!(facts.gate_closed || !facts.sealed, "held writers ran into the refusal of the leg before");
            facts.sealed = false;
            facts.marks.clear();
        };
        self.act("open_target", &["Switching"], change).await
    }

    async fn after_switch(&self, _: &Plan) -> Result<()> {
        let target = self.target();
        let change = |facts: &mut Facts| {
            assert_eq!(facts.route, target, "the target does not serve yet");
            assert!(!facts.gate_closed, "clients wait for what may take long");
            facts.completed = true;
        };
        self.act("after_switch", &["Switched"], change).await
    }

    async fn marks(&self) -> Result<Vec<Mark>> {
        let facts = self.facts.lock();
        Ok(if self.leg.is_way_back() { facts.back_marks.clone() } else { facts.marks.clone() })
    }

    async fn confirm_mark(&self, _: u64) -> Result<()> {
        let mut facts = self.facts.lock();
        assert_eq!(facts.route, self.target(), "the mark would tell a lie");
        let marks = if self.leg.is_way_back() { &mut facts.back_marks } else { &mut facts.marks };
        for mark in marks {
            mark.stage = Stage::Switched;
        }
        Ok(())
    }

    async fn clear_mark(&self) -> Result<()> {
        let mut facts = self.facts.lock();
        facts.sealed = false;
        facts.marks.clear();
        Ok(())
    }
}

impl Counters for World {
    async fn advance_counters(&self, _: &Plan) -> Result<()> {
        self.act("advance_counters", &["Checking"], |_| ()).await
    }
}

impl NextLeg for World {
    fn for_leg(&self, leg: Leg) -> Self {
        Self { leg, ..self.clone() }
    }

    async fn arm(&self, _: &Plan, _: &str) -> Result<()> {
        assert!(!self.facts.lock().gate_closed, "clients wait for what may take long");
        self.act("arm", &[], |_| ()).await
    }

    async fn stream_end(&self) -> Result<Place> {
        let call = |facts: &mut Facts| {
            assert!(facts.calls.contains(&"advance_counters"), "what sets the counters would come back");
            assert!(facts.barrier && facts.gate_closed, "the new side may have been written to");
            Place(1)
        };
        self.act("stream_end", &["Checking"], call).await
    }

    async fn retire(&self) -> Result<()> {
        Ok(())
    }

    async fn kept(&self) -> Result<Kept> {
        Ok(Kept::default())
    }
}
