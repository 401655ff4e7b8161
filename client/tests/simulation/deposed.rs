//! An owner that is cut off and replaced, and comes back with an epoch that is over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_raid_client::fs::WriteFlags;
use tokio::time::{sleep, timeout};

use crate::history::History;
use crate::story::{Session, Story};

/// The old owner notices that it is one within this.
const NOTICED: Duration = Duration::from_secs(4);
/// Every operation ends within this, the timeout of the configuration several times.
const ANSWERED: Duration = Duration::from_secs(60);

impl Story {
    /// Cuts the owner off in the middle of its work, lets another client take the volume, and the old one come back.
    pub async fn depose(&mut self, old: Session) -> Result<Option<Session>, String> {
        self.trace.fault("owner replaced while it is cut off", format_args!(""));
        old.client.hold(true);
        // From here on what the old owner does is not what happens.
        let old_history = {
            let mut history = self.history.lock().unwrap();
            history.beyond = true;
            Arc::clone(&self.history)
        };
        let new = {
            let history = old_history.lock().unwrap();
            History { tick: history.tick, actors: history.actors.clone(), ..History::default() }
        };
        self.history = Arc::new(Mutex::new(new));
        let Some(session) = self.recover().await? else {
            self.kill_client(old);
            return Ok(None);
        };
        let before = old_history.lock().unwrap().tick;
        self.trace.note(format_args!("the old owner is back"));
        old.client.hold(false);
        let file = old_history.lock().unwrap().actors.iter().find_map(|actor| actor.files.keys().next().copied());
        if let Some(id) = file {
            let write = old.fs.write(id, 0, 0, vec![0xee; 5000].into(), WriteFlags::default());
            let written = timeout(ANSWERED, write).await.map_err(|_| "an owner that was replaced waits for ever")?;
            if written.is_ok() {
                return Err(format!("an owner that was replaced wrote object {id}"));
            }
        }
        sleep(NOTICED).await;
        let after = old_history.lock().unwrap();
        // What each actor had under way may have been done by all members that the new owner found: then that is the truth.
        if after.tick > before + after.actors.len() as u64 {
            return Err("an owner that was replaced acknowledged changes".into());
        }
        if let Some(violation) = &after.violation {
            return Err(format!("the owner that was replaced: {violation}"));
        }
        drop(after);
        self.kill_client(old);
        // Nothing that it did is there.
        self.check()?;
        Ok(Some(session))
    }
}
