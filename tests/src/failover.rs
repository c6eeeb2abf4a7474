//! A world one of whose clusters is reached by an endpoint that moves, with a server behind it that can take its place.

use crate::fault::Relay;
use crate::postgres::Record;
use crate::wait::until;
use crate::world::{MIGRATION, Side, World};

/// Which cluster that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// The migration's source.
    Source,
    /// Its target.
    Target,
}

impl With {
    /// That one of the two.
    fn of<T>(self, source: T, target: T) -> T {
        match self {
            Self::Source => source,
            Self::Target => target,
        }
    }

    /// The ports by which Headgate reaches source and target.
    pub fn ports(self, endpoint: &Relay, mut source: u16, mut target: u16) -> (u16, u16) {
        *self.of(&mut source, &mut target) = endpoint.port();
        (source, target)
    }
}

/// The world, the endpoint, and the server that follows the one behind it.
#[derive(Debug)]
pub struct Moving<S> {
    /// The world.
    pub world: World<S>,
    /// What Headgate connects to.
    pub endpoint: Relay,
    /// The standby or replica; after [`Moving::replace`] what it has replaced.
    pub standby: S,
}

impl<S: Side> Moving<S> {
    /// The server that is to be replaced.
    pub fn primary(&mut self, with: With) -> &mut S {
        with.of(&mut self.world.source, &mut self.world.target)
    }

    /// The standby, which listens there, is the world's server now, and the endpoint leads to it.
    pub fn replace(&mut self, with: With, port: u16) {
        self.endpoint.lead_to(port);
        let Self { world, standby, .. } = self;
        std::mem::swap(with.of(&mut world.source, &mut world.target), standby);
    }

    /// The migration's status once its error has this text.
    pub async fn until_error(&self, text: &str) -> Record {
        let ask = || self.world.row("SHOW MIGRATION STATUS m");
        let has = |row: &Record| row.get("error_message").is_some_and(|error| error.contains(text));
        until(&format!("the status tells {text:?}"), MIGRATION, ask, has).await
    }

    /// The migration's status once its way back is in this state.
    pub async fn until_way_back(&self, state: &str) -> Record {
        let ask = || self.world.row("SHOW MIGRATION STATUS m");
        let is = |row: &Record| row.get("way_back").is_some_and(|seen| seen == state);
        until(&format!("the way back is {state}"), MIGRATION, ask, is).await
    }
}
