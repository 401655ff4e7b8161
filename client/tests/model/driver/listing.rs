//! Directories that are read in small pages, while entries come and go.

use std::collections::BTreeSet;

use net_raid_client::fs::DirItem;
use net_raid_proto::ids::ObjectId;

use super::Driver;

/// A directory that is being read, in small pages, while entries come and go.
pub(super) struct Listing {
    pub(super) directory: ObjectId,
    pub(super) handle: u64,
    offset: u64,
    plus: bool,
    seen: BTreeSet<Vec<u8>>,
    /// Names that were there all the time so far.
    stayed: BTreeSet<Vec<u8>>,
    /// All that were there at some time.
    ever: BTreeSet<Vec<u8>>,
}

impl Driver<'_> {
    /// Goes on reading a directory, a few entries at a time.
    pub(super) async fn read_some(&mut self) {
        if self.listing.is_none() && self.rng.one_in(4) {
            self.begin_listing().await;
        }
        let Some(mut listing) = self.listing.take() else { return };
        let room = 1 + self.rng.below(3) as usize;
        let items = self.page(&listing, room).await;
        self.accessed(listing.directory).await;
        let is_end = items.is_empty();
        for item in items {
            listing.offset = item.next_offset;
            self.check_item(&mut listing, item);
        }
        if !is_end {
            self.listing = Some(listing);
            return;
        }
        if let Some(missed) = listing.stayed.iter().find(|name| !listing.seen.contains(*name)) {
            self.fail(&format!("readdir of {:?} missed {}", listing.directory, missed.escape_ascii()));
        }
        self.fs.releasedir(listing.handle);
    }

    async fn begin_listing(&mut self) {
        let directories: Vec<ObjectId> =
            self.model.objects.iter().filter(|(_, object)| object.is_directory()).map(|(id, _)| *id).collect();
        let directory = *self.rng.pick(&directories);
        self.reach(directory).await;
        let handle = self.fs.opendir(directory).await.expect("a directory");
        let names: BTreeSet<Vec<u8>> =
            self.model.get(directory).entries().expect("a directory").keys().cloned().collect();
        let (plus, seen) = (self.rng.one_in(2), BTreeSet::new());
        self.listing = Some(Listing { directory, handle, offset: 0, plus, seen, stayed: names.clone(), ever: names });
    }

    async fn page(&self, listing: &Listing, room: usize) -> Vec<DirItem> {
        let mut items = Vec::new();
        let mut add = |item: DirItem| {
            let fits = items.len() < room;
            if fits {
                items.push(item);
            }
            fits
        };
        let Listing { directory, handle, offset, plus, .. } = *listing;
        if let Err(error) = self.fs.readdir(directory, handle, offset, plus, &mut add).await {
            self.fail(&format!("readdir: {error}"));
        }
        items
    }

    fn check_item(&mut self, listing: &mut Listing, item: DirItem) {
        if item.name == b"." || item.name == b".." {
            return;
        }
        if !listing.ever.contains(&item.name) || !listing.seen.insert(item.name.clone()) {
            self.fail(&format!("readdir shows {}, which was never there or was seen before", item.name.escape_ascii()));
        }
        let Some(stat) = item.stat else { return };
        // The kernel takes it for what the name names now.
        if self.model.child(listing.directory, &item.name) != Some(stat.id) {
            self.fail(&format!("readdir shows {} with attributes of {:?}", item.name.escape_ascii(), stat.id));
        }
        self.compare(&stat);
        *self.references.entry(stat.id).or_default() += 1;
    }

    /// Tells the reading of a directory about names that came or went.
    pub(super) fn note_names(&mut self) {
        let Some(listing) = &mut self.listing else { return };
        let entries = self.model.get(listing.directory).entries().expect("a directory");
        listing.stayed.retain(|name| entries.contains_key(name));
        listing.ever.extend(entries.keys().cloned());
    }
}
