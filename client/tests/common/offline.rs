//! Looks at the directories of stopped bricks, without the client: whether all current ones hold the same tree, every
//! digest matches, parity matches data, and nothing is left over. Only the decoding of the brick's own formats is
//! the brick's: everything is asked of freshly opened ones.

use std::collections::{BTreeMap, BTreeSet};

use net_raid_client::layout::{Geometry, UNIT};
use net_raid_proto::frame::{FrameKind, Header};
use net_raid_proto::ids::{BrickId, Digest, Epoch, Generation, ObjectId, RequestId, Slot, Timestamp, Transaction};
use net_raid_proto::layout::{Layout, Level};
use net_raid_proto::limits::{BLOCK_SIZE, BLOCKS_PER_UNIT, UNIT_SIZE};
use net_raid_proto::membership::Label;
use net_raid_proto::message::{BrickState, Change, DirEntry, Entry, Holder, Kind, Part, Reply, Request};
use net_raid_raid::{digest, parity};
use net_raid_server::brick::{Brick, BrickOptions};
use net_raid_server::disk::{Disk, RealDisk};

use super::Cluster;

/// An object under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub id: ObjectId,
    pub layout: Option<Layout>,
    pub kind: Kind,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of files and symbolic links.
    pub size: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// All names of a brick, as paths from the root, with what they name.
pub type Tree = BTreeMap<Vec<u8>, Item>;

/// What the bricks hold together.
pub struct Contents {
    pub tree: Tree,
    /// Bytes of the files.
    pub files: BTreeMap<ObjectId, Vec<u8>>,
    /// Slots that hold everything.
    pub current: Vec<Slot>,
}

/// Names in a directory below `.net_raid`.
pub type List = Box<dyn Fn(&str) -> Vec<String>>;

/// A brick that does not run.
pub struct Stopped<D: Disk> {
    pub disk: D,
    pub options: BrickOptions,
    pub list: List,
}

/// A brick that was opened to be looked at.
struct Opened<D: Disk> {
    slot: Slot,
    list: List,
    brick: Brick<D>,
    epoch: Epoch,
}

impl<D: Disk> Opened<D> {
    fn ask(&self, request: &Request) -> Result<(Reply, Vec<u8>), String> {
        let mut out = Vec::new();
        let answer = self.brick.handle(&header(self.epoch), request, &[], 1, &mut out);
        answer.map(|reply| (reply, out)).map_err(|fault| format!("slot {}: {request:?}: {fault}", self.slot))
    }

    fn bytes(&self, request: &Request) -> Result<Vec<u8>, String> {
        match self.ask(request)?.0 {
            Reply::Bytes(bytes) => Ok(bytes),
            other => Err(format!("slot {}: {request:?} answered {other:?}", self.slot)),
        }
    }

    fn tree(&self) -> Result<Tree, String> {
        let mut tree = Tree::new();
        let Reply::Entry(root) = self.ask(&Request::GetAttr { id: ObjectId::ROOT })?.0 else {
            return Err("no root".into());
        };
        tree.insert(Vec::new(), self.item(&root)?);
        let mut waiting = vec![(Vec::new(), ObjectId::ROOT)];
        while let Some((path, id)) = waiting.pop() {
            for DirEntry { name, id, kind, entry } in self.names(id)? {
                let path = [&path[..], b"/", name.as_bytes()].concat();
                let entry = entry.ok_or("an entry without attributes")?;
                if kind == Kind::Directory {
                    waiting.push((path.clone(), id));
                }
                tree.insert(path, self.item(&entry)?);
            }
        }
        Ok(tree)
    }

    fn names(&self, id: ObjectId) -> Result<Vec<DirEntry>, String> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let Reply::Page { entries, next } = self.ask(&Request::ReadDir { id, cursor, attributes: true })?.0 else {
                return Err("no page".into());
            };
            all.extend(entries);
            match next {
                None => return Ok(all),
                Some(next) => cursor = next,
            }
        }
    }

    fn item(&self, entry: &Entry) -> Result<Item, String> {
        let Entry { id, layout, attr, .. } = entry;
        let (id, kind) = (*id, attr.kind.clone());
        let target = if kind == Kind::Symlink { self.bytes(&Request::ReadLink { id })? } else { Vec::new() };
        let mut xattrs = BTreeMap::new();
        for name in self.bytes(&Request::ListXattr { id })?.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let value = self.bytes(&Request::GetXattr { id, name: name.to_vec() })?;
            xattrs.insert(name.to_vec(), value);
        }
        let is_file = kind == Kind::File;
        Ok(Item {
            id,
            layout: is_file.then_some(*layout),
            size: if is_file || kind == Kind::Symlink { attr.size } else { 0 },
            kind,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            target,
            xattrs,
        })
    }

    /// One unit, holes as zeros; every block must match its digest.
    fn unit(&self, id: ObjectId, unit: u64) -> Result<Vec<u8>, String> {
        let part = Part { unit, offset: 0, len: UNIT_SIZE as u32 };
        let (reply, mut bytes) = self.ask(&Request::Read { id, parts: vec![part] })?;
        let Reply::Read(records) = reply else { return Err("no records".into()) };
        let blocks: Vec<&[u8]> = bytes.chunks(BLOCK_SIZE).collect();
        let mut found = vec![[0; 16]; BLOCKS_PER_UNIT];
        digest::md5_many(&blocks, &mut found);
        for (block, (recorded, found)) in records[0].digests.0.iter().zip(found).enumerate() {
            let range = block * BLOCK_SIZE..(block + 1) * BLOCK_SIZE;
            if *recorded == Digest::HOLE {
                bytes[range].fill(0);
            } else if recorded.0 != found {
                return Err(format!("slot {}: object {id:?} unit {unit} block {block}: digest differs", self.slot));
            }
        }
        Ok(bytes)
    }

    /// Nothing is left of objects that are gone.
    fn check_leftovers(&self, tree: &Tree, orphans: &[ObjectId], crashed: bool) -> Result<(), String> {
        let hex = |id: &ObjectId| format!("{:016x}", id.0);
        let orphans: BTreeSet<String> = orphans.iter().map(hex).collect();
        let mut ids: BTreeSet<String> = tree.values().map(|item| hex(&item.id)).collect();
        ids.extend(orphans.iter().cloned());
        if let Some(orphan) = (self.list)("orphans").iter().find(|name| !orphans.contains(*name)) {
            return Err(format!("slot {}: orphan {orphan}", self.slot));
        }
        for bucket in if crashed { Vec::new() } else { (self.list)("records") } {
            let records = (self.list)(&format!("records/{bucket}"));
            if let Some(left) = records.iter().find(|name| !ids.contains(*name)) {
                return Err(format!("slot {}: record file {left} without its object", self.slot));
            }
        }
        Ok(())
    }
}

fn header(epoch: Epoch) -> Header {
    Header {
        version: net_raid_proto::message::VERSION_MAX,
        kind: FrameKind::Request,
        resend: false,
        request: RequestId(1),
        epoch,
        body_len: 0,
        payload_len: 0,
        content_crc: 0,
    }
}

/// Checks everything; the first thing that is wrong. `orphans` were open without a name when the client ended.
///
/// # Panics
/// When a brick still runs.
pub fn check(cluster: &Cluster, orphans: &[ObjectId]) -> Result<Contents, String> {
    check_all((0..cluster.nodes.len()).map(|node| stopped(cluster, node)).collect(), &cluster.holder(), orphans, false)
}

fn stopped(cluster: &Cluster, node: usize) -> Stopped<RealDisk> {
    let node = &cluster.nodes[node];
    assert!(!node.is_running(), "the bricks are stopped");
    let disk = RealDisk::open(&node.dir).expect("open the directory");
    let options = BrickOptions { ownership: disk.ownership(), brick: BrickId([0; 16]), boot: "boot".into() };
    let area = node.dir.join(".net_raid");
    let list = move |dir: &str| {
        let entries = std::fs::read_dir(area.join(dir)).expect("an area of the brick");
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    Stopped { disk, options, list: Box::new(list) }
}

/// [`check`] of bricks on any disks. Where there were crashes, there may be what nobody sees: record files without their
/// object, and directories that were never finished, which only a count of links tells of.
pub fn check_all<D: Disk>(
    stopped: Vec<Stopped<D>>,
    holder: &Holder,
    orphans: &[ObjectId],
    crashed: bool,
) -> Result<Contents, String> {
    let bricks = open_current(stopped, holder)?;
    let mut trees = Vec::new();
    for brick in &bricks {
        let mut tree = brick.tree()?;
        if crashed {
            tree.values_mut().for_each(forgive);
        }
        check_links(&tree).map_err(|why| format!("slot {}: {why}", brick.slot))?;
        brick.check_leftovers(&tree, orphans, crashed)?;
        trees.push(tree);
    }
    for (tree, brick) in trees.iter().zip(&bricks).skip(1) {
        same(&trees[0], tree).map_err(|why| format!("slots {} and {}: {why}", bricks[0].slot, brick.slot))?;
    }
    let tree = trees.swap_remove(0);
    let mut files = BTreeMap::new();
    for (path, item) in tree.iter().filter(|(_, item)| item.kind == Kind::File) {
        // Once for all its names.
        if let std::collections::btree_map::Entry::Vacant(free) = files.entry(item.id) {
            free.insert(content(&bricks, item).map_err(|why| format!("{}: {why}", path.escape_ascii()))?);
        }
    }
    Ok(Contents { tree, files, current: bricks.iter().map(|brick| brick.slot).collect() })
}

/// Forgets what bricks may differ in after crashes.
fn forgive(item: &mut Item) {
    if item.kind == Kind::Directory {
        item.nlink = 2;
    }
}

/// What a brick says of itself.
pub fn state_of<D: Disk>(brick: &Brick<D>) -> Result<BrickState, String> {
    let hello = Request::Hello { version_min: 0, version_max: u16::MAX, features: 0 };
    match brick.handle(&header(Epoch(0)), &hello, &[], 1, &mut Vec::new()) {
        Ok(Reply::Welcome { brick, .. }) => Ok(*brick),
        other => Err(format!("{other:?}")),
    }
}

/// Opens the bricks that the newest membership record calls current.
fn open_current<D: Disk>(stopped: Vec<Stopped<D>>, holder: &Holder) -> Result<Vec<Opened<D>>, String> {
    let mut labelled: Vec<(List, Brick<D>, Label)> = Vec::new();
    for Stopped { disk, options, list } in stopped {
        let brick = Brick::open(disk, options).map_err(|error| error.to_string())?;
        if let BrickState::Labelled { label, .. } = state_of(&brick)? {
            labelled.push((list, brick, label));
        }
    }
    let record = labelled.iter().map(|(_, _, label)| &label.membership).max_by_key(|record| record.version);
    let record = record.ok_or("no labels")?.clone();
    let epoch = Epoch(labelled.iter().map(|(_, _, label)| label.epoch.0).max().unwrap_or(0) + 1);
    let mut opened = Vec::new();
    for (list, brick, label) in labelled {
        let Some(slot) = record.slot_of(label.brick).filter(|slot| record.current_slots().any(|s| s == *slot)) else {
            continue;
        };
        let own = Request::Own {
            volume: label.volume,
            epoch,
            generation: Generation(label.complete.0 + 1),
            holder: holder.clone(),
            take_over: true,
        };
        let opening = Opened { slot, list, brick, epoch };
        opening.ask(&own)?;
        opened.push(opening);
    }
    opened.sort_by_key(|brick| brick.slot);
    Ok(opened)
}

/// Makes a change on one stopped brick, as the owner that is in its label, so many generations after the last one that it completed.
pub fn change_alone(
    cluster: &Cluster,
    slot: usize,
    (change, now): (Change, Timestamp),
    later: u64,
) -> Result<(), String> {
    let Stopped { disk, options, list } = stopped(cluster, slot);
    let brick = Brick::open(disk, options).map_err(|error| error.to_string())?;
    let BrickState::Labelled { label, holder: Some((holder, _)) } = state_of(&brick)? else {
        return Err("not held".into());
    };
    let (epoch, generation) = (label.epoch, Generation(label.complete.0 + later));
    let opened = Opened { slot: Slot(slot as u8), list, brick, epoch };
    opened.ask(&Request::Own { volume: label.volume, epoch, generation, holder, take_over: false })?;
    // What it knows of places it learns by looking.
    opened.tree()?;
    let (transaction, participants) = (Transaction(epoch.0 << 40 | 0xffff), 1 << slot);
    opened.ask(&Request::Change { transaction, generation, participants, now, change }).map(|_| ())
}

/// Names of one object name the same thing, as many as its number of links says.
fn check_links(tree: &Tree) -> Result<(), String> {
    let mut names: BTreeMap<ObjectId, Vec<&Vec<u8>>> = BTreeMap::new();
    tree.iter().for_each(|(path, item)| names.entry(item.id).or_default().push(path));
    for (id, paths) in names {
        let items: Vec<&Item> = paths.iter().map(|path| &tree[*path]).collect();
        let is_directory = items[0].kind == Kind::Directory;
        let links = if is_directory { 1 } else { items[0].nlink as usize };
        if links != paths.len() || items.iter().any(|item| *item != items[0]) {
            return Err(format!("object {id:?} has {} names and {} links", paths.len(), items[0].nlink));
        }
    }
    Ok(())
}

/// Whether two trees are the same; the first difference.
pub fn same(one: &Tree, other: &Tree) -> Result<(), String> {
    let paths: BTreeSet<&Vec<u8>> = one.keys().chain(other.keys()).collect();
    match paths.into_iter().find(|path| one.get(*path) != other.get(*path)) {
        None => Ok(()),
        Some(path) => Err(format!("{}: {:?} and {:?}", path.escape_ascii(), one.get(path), other.get(path))),
    }
}

/// The bytes of a file; all units agree, and there are zeros behind its end.
fn content<D: Disk>(bricks: &[Opened<D>], item: &Item) -> Result<Vec<u8>, String> {
    let layout = item.layout.ok_or("a file without layout")?;
    let geometry = Geometry::new(layout, item.id);
    let mut bytes = Vec::new();
    for stripe in 0..item.size.div_ceil(geometry.stripe_bytes()) {
        let units = stripe_units(bricks, item, &geometry, stripe)?;
        bytes.extend(units.into_iter().take(geometry.data_units()).flatten());
    }
    let end = item.size as usize;
    if bytes[end..].iter().any(|&byte| byte != 0) {
        return Err(format!("bytes behind the end ({end})"));
    }
    bytes.truncate(end);
    let beyond = item.size.div_ceil(geometry.stripe_bytes());
    for brick in bricks {
        for unit in beyond..beyond + 2 {
            if brick.unit(item.id, unit)?.iter().any(|&byte| byte != 0) {
                return Err(format!("slot {}: unit {unit} is behind the end", brick.slot));
            }
        }
    }
    Ok(bytes)
}

/// All units of a stripe by index; what is missing comes from the others, and what is not must fit them.
fn stripe_units<D: Disk>(
    bricks: &[Opened<D>],
    item: &Item,
    geometry: &Geometry,
    stripe: u64,
) -> Result<Vec<Vec<u8>>, String> {
    let mut units = vec![None; geometry.width()];
    for (index, unit) in units.iter_mut().enumerate() {
        let slot = geometry.slot(stripe, index);
        if let Some(brick) = bricks.iter().find(|brick| brick.slot == slot) {
            *unit = Some(brick.unit(item.id, stripe)?);
        }
    }
    if geometry.level() == Level::Raid1 {
        let mut copies = units.into_iter().flatten();
        let first = copies.next().ok_or("no copy")?;
        if copies.any(|copy| copy != first) {
            return Err(format!("copies of unit {stripe} differ"));
        }
        return Ok(vec![first]);
    }
    let lost: Vec<usize> = (0..units.len()).filter(|&index| units[index].is_none()).collect();
    let mut units: Vec<Vec<u8>> = units.into_iter().map(|unit| unit.unwrap_or(vec![0; UNIT as usize])).collect();
    let mut slices: Vec<&mut [u8]> = units.iter_mut().map(Vec::as_mut_slice).collect();
    if !lost.is_empty() {
        parity::recover(&mut slices, geometry.data_units(), &lost);
    }
    let slices: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
    if !parity::check(&slices, geometry.data_units()) {
        return Err(format!("parity of stripe {stripe} does not match its data"));
    }
    Ok(units)
}
