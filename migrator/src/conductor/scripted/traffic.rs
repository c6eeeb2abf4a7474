//! The gate of the scripted world.

use std::time::Duration;

use super::{World, definition};
use crate::error::{Error, Result};
use crate::traffic::{Admission, Handovers, HiddenWrites, Holds, OpenTransaction, Traffic, Unmovable, Waiting};

impl Traffic for World {
    fn served(&self) -> Vec<(String, String)> {
        vec![("shop".to_owned(), self.facts.lock().route.clone())]
    }

    fn admit(&self, _: &str, admission: Admission) -> Result<()> {
        self.facts.lock().admission = Some(admission);
        Ok(())
    }

    fn admission(&self, _: &str) -> Result<Admission> {
        let admission = self.facts.lock().admission.clone();
        Ok(admission.unwrap_or(Admission::Open))
    }

    fn other_routes(&self, _: &str, _: &[String]) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn warm<'a>(&'a self, _: &'a str, _: &'a str, _: Duration) -> Waiting<'a, Result<Vec<String>>> {
        Box::pin(async move { self.act("warm", &[], |facts| facts.unopened.clone()).await })
    }

    fn cool(&self, _: &str) -> Result<()> {
        self.act_now("cool", &[], |_| ())
    }

    fn gated_backends(&self, _: &str) -> Result<Vec<i64>> {
        Ok(Vec::new())
    }

    fn hidden_writes(&self, _: &str) -> Result<Vec<HiddenWrites>> {
        Ok(Vec::new())
    }

    fn unmovable<'a>(&'a self, _: &'a str, _: Duration) -> Waiting<'a, Result<Vec<Unmovable>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn hold(&self, _: &str) -> Result<()> {
        let states = ["Holding", "Fencing", "CatchingUp", "Checking", "Switching", "Undoing"];
        self.act_now("hold", &states, |facts| facts.gate_closed = true)
    }

    fn quiet<'a>(&'a self, _: &'a str) -> Waiting<'a, Result<()>> {
        Box::pin(self.act("quiet", &["Holding"], |_| ()))
    }

    fn open_transactions(&self, route: &str) -> Result<Vec<OpenTransaction>> {
        if route == "shop" {
            return Ok(self.facts.lock().open.clone());
        }
        Err(Error::refused(format!("there is no route {route}")))
    }

    fn switch(&self, _: &str, cluster: &str) -> Result<()> {
        self.act_now("switch", &["Switching"], |facts| {
            cluster.clone_into(&mut facts.route);
        })
    }

    fn release(&self, _: &str) -> Result<()> {
        self.act_now("release", &["Undoing", "Switching"], |facts| {
            let definition = definition();
            let served_by_source = facts.route == definition.ends(self.leg).0;
            assert!(!(served_by_source && facts.barrier), "held writers run into the barrier");
            let back_on_the_old_side = self.leg.is_way_back() && !served_by_source;
            assert!(!(back_on_the_old_side && facts.sealed), "held writers run into the refusal of the leg before");
            facts.gate_closed = false;
        })
    }

    fn holds<'a>(&'a self, _: &'a str, _: Duration) -> Waiting<'a, Result<Holds>> {
        Box::pin(async { Ok(Holds { held: 5, refused: 1, ..Holds::default() }) })
    }

    fn handovers(&self, _: &str) -> Result<Handovers> {
        let closed = [("a temporary table".to_owned(), 2)].into();
        Ok(Handovers { moved: 3, pending: 0, closed })
    }
}
