//! What the file system and the bricks have is what the model says.

use std::collections::BTreeMap;

use bytes::Bytes;
use net_raid_client::fs::{DirItem, Errno, Stat};
use net_raid_proto::ids::{ObjectId, Slot};
use net_raid_proto::message::Kind;

use super::{Driver, ROOT};
use crate::common::offline::{self, Item, Tree};
use crate::model::Content;

impl Driver<'_> {
    /// Attributes are as the model says.
    pub(super) fn compare(&self, stat: &Stat) {
        let object = self.model.get(stat.id);
        let size = if object.is_directory() { stat.size } else { object.size() };
        let nlink = self.model.nlink(stat.id);
        let expected = Stat {
            id: stat.id,
            kind: object.kind(),
            mode: object.mode,
            nlink,
            uid: object.uid,
            gid: object.gid,
            size,
            blocks: stat.blocks,
            atime: if self.all_times { object.atime } else { stat.atime },
            mtime: object.mtime,
            ctime: if self.all_times { object.ctime } else { stat.ctime },
        };
        if *stat != expected {
            self.fail(&format!("expected {expected:?}\n     got {stat:?}"));
        }
    }

    /// Everything, read through the client, is as the model says.
    pub async fn verify(&mut self) {
        if let Some(listing) = self.listing.take() {
            self.fs.releasedir(listing.handle);
        }
        let ids: Vec<ObjectId> = self.model.objects.keys().copied().collect();
        for id in ids {
            self.reach(id).await;
            let stat = self.fs.getattr(id).await.unwrap_or_else(|error| self.fail(&format!("{id:?}: {error}")));
            self.compare(&stat);
            self.verify_content(id).await;
            self.verify_xattrs(id).await;
            self.forget_some();
        }
        if self.cluster.events().contains("inconsistency") {
            self.fail("an honest server differs from the others");
        }
    }

    async fn verify_content(&mut self, id: ObjectId) {
        match &self.model.get(id).content {
            Content::File(bytes) => {
                let read = self.fs.read(id, 0, bytes.len() + 1, true).await;
                if let Err(why) = same_bytes(&read, bytes) {
                    self.fail(&format!("{id:?}: {why}"));
                }
            }
            Content::Symlink(target) => {
                assert_eq!(self.fs.readlink(id).await.as_ref(), Ok(target));
                self.accessed(id).await;
            }
            Content::Directory(_) => {
                self.verify_names(id).await;
                self.accessed(id).await;
            }
            Content::Special(_) => {}
        }
    }

    async fn verify_names(&self, id: ObjectId) {
        let handle = self.fs.opendir(id).await.expect("a directory");
        let mut found = BTreeMap::new();
        let mut add = |item: DirItem| {
            found.insert(item.name, (item.id, item.kind));
            true
        };
        self.fs.readdir(id, handle, 0, false, &mut add).await.expect("a directory");
        self.fs.releasedir(handle);
        let of = |id: ObjectId| (id, self.model.get(id).kind());
        let entries = self.model.get(id).entries().expect("a directory");
        let mut expected: BTreeMap<Vec<u8>, (ObjectId, Kind)> =
            entries.iter().map(|(name, id)| (name.clone(), of(*id))).collect();
        expected.insert(b".".to_vec(), of(id));
        let parent = self.model.get(id).names.first().map_or(id, |(parent, _)| *parent);
        expected.insert(b"..".to_vec(), of(parent));
        if found != expected {
            self.fail(&format!("{id:?}: names {found:?}, expected {expected:?}"));
        }
    }

    async fn verify_xattrs(&self, id: ObjectId) {
        if self.model.path(id).is_none() {
            return;
        }
        let expected = self.model.get(id).all_xattrs();
        let listed = self.fs.listxattr(&ROOT, id).await.expect("a list");
        let mut names: Vec<&[u8]> = listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
        names.sort();
        if !names.iter().eq(expected.keys()) {
            self.fail(&format!("{id:?}: attributes {}, expected {expected:?}", listed.escape_ascii()));
        }
        for (name, value) in expected {
            let found = self.fs.getxattr(id, &name).await;
            if found.as_ref() != Ok(&value) {
                self.fail(&format!("{id:?}: {} is {found:?}, expected {value:?}", name.escape_ascii()));
            }
        }
    }

    /// Compares the bricks that count with the model; returns their slots.
    pub(super) fn check_bricks(&self, orphans: &[ObjectId]) -> Vec<Slot> {
        let contents = offline::check(self.cluster, orphans).unwrap_or_else(|why| self.fail(&format!("bricks: {why}")));
        let mut expected = self.tree();
        if !self.all_times {
            for (path, item) in &mut expected {
                if let Some(found) = contents.tree.get(path) {
                    (item.atime, item.ctime) = (found.atime, found.ctime);
                }
            }
        }
        if let Err(why) = offline::same(&contents.tree, &expected) {
            self.fail(&format!("bricks and model: {why}"));
        }
        for (id, bytes) in contents.files {
            let model = self.model.get(id).bytes().expect("a file");
            if let Err(why) = same_bytes(&Ok(bytes.into()), model) {
                self.fail(&format!("bricks: {id:?}: {why}"));
            }
        }
        contents.current
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        let mut waiting = vec![(Vec::new(), ObjectId::ROOT)];
        while let Some((path, id)) = waiting.pop() {
            let object = self.model.get(id);
            for (name, child) in object.entries().into_iter().flatten() {
                waiting.push(([&path[..], b"/", name].concat(), *child));
            }
            let item = Item {
                id,
                layout: object.bytes().map(|_| self.fs_layout()),
                kind: object.kind(),
                mode: object.mode,
                nlink: self.model.nlink(id),
                uid: object.uid,
                gid: object.gid,
                size: object.size(),
                atime: object.atime,
                mtime: object.mtime,
                ctime: object.ctime,
                target: if let Content::Symlink(target) = &object.content { target.clone() } else { Vec::new() },
                xattrs: object.all_xattrs(),
            };
            tree.insert(path, item);
        }
        tree
    }

    fn fs_layout(&self) -> net_raid_proto::layout::Layout {
        let config = &self.cluster.config;
        let level = net_raid_proto::layout::Level::from_number(config.level.number()).expect("a level");
        net_raid_proto::layout::Layout::new(level, config.servers.len())
    }
}

pub(super) fn same_bytes(read: &Result<Bytes, Errno>, expected: &[u8]) -> Result<(), String> {
    let read = read.as_ref().map_err(|error| error.to_string())?;
    if read == expected {
        return Ok(());
    }
    let at = read.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(read.len().min(expected.len()));
    let near = |bytes: &[u8]| bytes[at.min(bytes.len())..(at + 8).min(bytes.len())].escape_ascii().to_string();
    let (lens, bytes) = ((read.len(), expected.len()), (near(read), near(expected)));
    Err(format!("byte {at} differs: {} read, {} written; {} and {} bytes", bytes.0, bytes.1, lens.0, lens.1))
}
