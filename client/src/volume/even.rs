//! What a change leaves behind that some members had no room for, and the others took back: its times, and set-id bits that it cleared.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{Attr, Change, Entry, Reply, Request, SetAttr};

use super::Core;
use super::fanout::{Ask, Asks};

/// Objects whose attributes a change of these sets on the way, of those that are taken back.
pub(super) fn set_by(asks: &[Ask]) -> Vec<ObjectId> {
    let Some(Request::Change { change, .. }) = asks.first().map(|ask| &ask.request) else { return Vec::new() };
    match change {
        Change::Write { id, .. } | Change::Allocate { id, .. } => vec![*id],
        Change::Create { parent, .. } => vec![*parent],
        Change::Link { id, parent, .. } => vec![*id, *parent],
        _ => Vec::new(),
    }
}

fn told(entry: &Entry) -> impl PartialEq + use<> {
    let Attr { mode, mtime, ctime, .. } = entry.attr;
    (mode, mtime, ctime)
}

impl Core {
    /// Gives objects, on all members, the attributes that they have where a change was refused: the oldest. The caller keeps its
    /// generation open, so that recovery does the same if this is interrupted.
    ///
    /// No other change of their times is under way: the kernel makes one after the other, but for dirty pages, whose writes set none.
    /// (A box, because it ends in another change, which may be taken back.)
    pub(super) fn even_out(self: &Arc<Core>, ids: Vec<ObjectId>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let core = Arc::clone(self);
        Box::pin(async move {
            for id in ids {
                core.even_out_one(id).await;
            }
        })
    }

    async fn even_out_one(self: &Arc<Core>, id: ObjectId) {
        let request = Request::GetAttr { id };
        let current: Vec<_> = self.members.current().iter().collect();
        let calls = current.iter().map(|slot| self.ask(*slot, &request, &[], false));
        let answers = futures_util::future::join_all(calls).await;
        let entries: Vec<Entry> = answers
            .into_iter()
            .filter_map(|answer| match answer.ok()?.reply {
                Reply::Entry(entry) if entry.id == id => Some(*entry),
                _ => None,
            })
            .collect();
        let Some(oldest) = entries.iter().min_by_key(|entry| entry.attr.ctime) else { return };
        if entries.iter().all(|entry| told(entry) == told(oldest)) {
            return;
        }
        let Attr { mode, mtime, ctime, .. } = oldest.attr;
        let set = SetAttr { mode: Some(mode), mtime: Some(mtime), ..SetAttr::default() };
        let request = self.numbered(ctime, Change::SetAttr { id, set });
        let of = self.members.recipients();
        let ask = |slot| Ask { slot, request: request.clone(), payload: Vec::new() };
        if let Err(failed) = self.apply(Asks { each: of.iter().map(ask).collect(), of }, ()).await {
            tracing::warn!(%id, error = %failed.error, "times differ between servers");
        }
    }
}
