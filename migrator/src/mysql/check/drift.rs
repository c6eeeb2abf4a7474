//! What of MySQL's source is looked at for changes since the plan; the follower would stop at one.

use mysql_async::Conn;

use crate::drift::{self, ObjectNames};
use crate::error::Result;
use crate::model::plan::Plan;
use crate::mysql::sql::title_of;
use crate::mysql::{Mysql, plan};

const SPEECH: ObjectNames = ObjectNames { title: title_of, counter: "counter", key: "key" };

/// Refuses where the source's catalogue differs from the plan, and names what does.
pub(crate) async fn refuse(session: &mut Conn, mysql: &Mysql, plan: &Plan) -> Result<()> {
    let now = plan::read_in(session, &mysql.databases()).await?;
    drift::refuse(plan, &now, &SPEECH, Vec::new())
}
