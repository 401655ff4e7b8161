//! Drives the real file system through a history beside the model, as a kernel would: it looks names up, counts references,
//! forgets; and takes servers away meanwhile.

mod checks;
mod listing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net_raid_client::conn::GRACE;
use net_raid_client::fs::{Caller, Errno, Fs, Stat, WriteFlags};
use net_raid_proto::ids::{ObjectId, Slot, Timestamp};

use super::generate::Chooser;
use super::{Content, Make, Model, Object, Op, Rng, Touch, pattern};
use crate::common::{Cluster, Node};
use checks::same_bytes;
use listing::Listing;

const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Operations that a failure shows.
const SHOWN: usize = 12;
/// Bytes of each that it shows.
const LINE_MAX: usize = 300;

/// What happens to a server while an operation is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Restart(usize),
    Kill(usize),
    Start(usize),
}

/// A history.
pub struct Driver<'a> {
    cluster: &'a Cluster,
    fs: Arc<Fs>,
    model: Model,
    rng: Rng,
    references: HashMap<ObjectId, u64>,
    listing: Option<Listing>,
    redundancy: usize,
    size_max: u64,
    /// Times of last access and of last change are compared too: not once servers were away, see the known defects.
    all_times: bool,
    history: Vec<String>,
}

impl<'a> Driver<'a> {
    /// Mounts a new volume.
    pub async fn new(cluster: &'a Cluster, redundancy: usize, size_max: u64, seed: u64) -> Driver<'a> {
        let fs = mount(cluster).await;
        let stat = fs.getattr(ObjectId::ROOT).await.expect("the root");
        let root = Object {
            content: Content::Directory(BTreeMap::new()),
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            xattrs: BTreeMap::new(),
            access: None,
            default: None,
            names: Vec::new(),
            handles: Vec::new(),
        };
        let (model, rng) = (Model::new(root), Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        let (references, history) = (HashMap::new(), Vec::new());
        Driver { cluster, fs, model, rng, references, listing: None, redundancy, size_max, all_times: true, history }
    }

    /// Random operations; with `kills`, servers die, never more than may, come back, and catch up.
    pub async fn run(&mut self, steps: usize, kills: bool) {
        for _ in 0..steps {
            let fault = self.fault(kills);
            self.next(fault).await;
            self.forget_some();
        }
    }

    async fn next(&mut self, fault: Option<Fault>) {
        let (model, rng, now) = (&self.model, &mut self.rng, self.cluster.clock.last());
        let op = Chooser { model, rng, size_max: self.size_max, now }.op();
        self.step(op, fault).await;
        self.read_some().await;
    }

    /// Random operations, while one server after another is away for so long that nobody waits for it, and comes back. The kernel
    /// forgets nothing meanwhile.
    pub async fn run_with_absences(&mut self, absences: usize) {
        for _ in 0..absences {
            let slot = self.rng.below(self.cluster.config.servers.len() as u64) as usize;
            let (node, back) = (&self.cluster.nodes[slot], self.back());
            node.kill_and_wait().await;
            let until = Instant::now() + GRACE + Duration::from_millis(self.rng.below(100));
            while Instant::now() < until {
                self.next(None).await;
            }
            self.cluster.nodes[slot].start();
            // Changes go on while it makes up for what it missed.
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.back() == back {
                if Instant::now() > deadline {
                    self.fail(&format!("slot {slot} did not come back"));
                }
                self.next(None).await;
            }
        }
    }

    /// Random operations, while one server after another is away for so long that it is dropped, comes back, and is brought up to
    /// date, with interruptions. Each is away while the one before is needed.
    pub async fn run_with_catch_ups(&mut self, absences: usize) {
        self.all_times = false;
        // Those that stayed away at the mount.
        self.cluster.nodes.iter().filter(|node| !node.is_running()).for_each(|node| node.start());
        let servers = self.cluster.config.servers.len();
        let mut last: Vec<usize> = Vec::new();
        for _ in 0..absences {
            // Where the level bears it, two are healed at the same time, now and then.
            let many = if self.redundancy > 1 && self.rng.one_in(2) { 2 } else { 1 };
            let mut slots = Vec::new();
            while slots.len() < many {
                let slot = self.rng.below(servers as u64) as usize;
                if slots.contains(&slot) || many == 1 && last.contains(&slot) {
                    continue;
                }
                slots.push(slot);
            }
            // Those that were interrupted too often are left alone for a while, and miss what is written then.
            let all_count = |driver: &Self| (0..servers).all(|slot| !driver.is_lost(slot));
            self.work_until(all_count, "waits for others that do not come back", slots[0]).await;
            for slot in &slots {
                let dropped = self.count("member dropped");
                self.cluster.nodes[*slot].kill_and_wait().await;
                self.work_until(|driver| driver.count("member dropped") > dropped, "was not dropped", *slot).await;
            }
            for _ in 0..self.rng.below(60) {
                self.next(None).await;
                self.forget_some();
            }
            self.verify().await;
            slots.iter().for_each(|slot| self.cluster.nodes[*slot].start());
            while self.rng.one_in(2) {
                let until = Instant::now() + Duration::from_millis(self.rng.below(60));
                let slot = slots[self.rng.below(many as u64) as usize];
                self.work_until(|_| Instant::now() > until, "", slot).await;
                self.cluster.nodes[slot].kill_and_wait().await;
                self.cluster.nodes[slot].start();
            }
            let all_count = |driver: &Self| !slots.iter().any(|slot| driver.is_behind(*slot));
            self.work_until(all_count, "was not caught up", slots[0]).await;
            last = slots;
        }
    }

    async fn work_until(&mut self, done: impl Fn(&Self) -> bool, why: &str, slot: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            if Instant::now() > deadline {
                self.fail(&format!("slot {slot} {why}"));
            }
            self.next(None).await;
            self.forget_some();
            // Programs do other things too: nobody catches up with ever more work on a machine that does nothing else.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Whether a server was dropped since it was brought up to date last. It may be dropped again before it is.
    fn is_behind(&self, slot: usize) -> bool {
        let events = self.cluster.events();
        let last = |words: &str| events.rfind(&format!("{words}, slot {slot}:"));
        last("member dropped") > last("member caught up")
    }

    /// Whether a server was seen to go, and does not count again since.
    fn is_lost(&self, slot: usize) -> bool {
        let (events, address) = (self.cluster.events(), &self.cluster.config.servers[slot]);
        let last = |words: &str| events.rfind(&format!(" {address} {words}"));
        let counts = ["connected at start", "server back, up to date", "member caught up"];
        last("server lost") > counts.into_iter().filter_map(last).max() || self.is_behind(slot)
    }

    fn count(&self, words: &str) -> usize {
        self.cluster.events().matches(words).count()
    }

    /// How often a server came back.
    fn back(&self) -> usize {
        self.cluster.events().matches("server back").count()
    }

    fn fault(&mut self, kills: bool) -> Option<Fault> {
        let servers = self.cluster.config.servers.len() as u64;
        let slot = self.rng.below(servers) as usize;
        if !self.cluster.nodes[slot].is_running() {
            // Not before that was noticed: so it is known when it counts again.
            return (self.is_lost(slot) && self.rng.one_in(25)).then_some(Fault::Start(slot));
        }
        let is_out = |slot: &usize| self.is_lost(*slot) || !self.cluster.nodes[*slot].is_running();
        let out: Vec<usize> = (0..servers as usize).filter(is_out).collect();
        // More than one at a time would be more than the voters bear.
        let all_dropped = out.iter().all(|slot| self.is_behind(*slot));
        if kills && out.len() < self.redundancy && all_dropped && self.rng.one_in(10) {
            return Some(Fault::Kill(slot));
        }
        self.rng.one_in(25).then_some(Fault::Restart(slot))
    }

    /// One operation on both sides.
    async fn step(&mut self, op: Op, fault: Option<Fault>) {
        let mut line = format!("{op:?}");
        line.truncate(LINE_MAX);
        self.history.push(format!("{line} {fault:?}"));
        for id in ids(&op) {
            self.reach(id).await;
        }
        // A kernel looks these up too; the file system must not need it.
        if !self.rng.one_in(4) {
            for id in self.children(&op) {
                self.reach(id).await;
            }
        }
        let expected = self.model.expect(&op);
        let from = self.cluster.clock.peek();
        let delay = Duration::from_micros(self.rng.below(1500));
        let disturb = disturb(&self.cluster.nodes, fault, delay);
        let (result, ()) = tokio::join!(perform(&self.fs, &self.model, &op), disturb);
        if self.cluster.events().contains("inconsistency") {
            let objects: Vec<_> = ids(&op)
                .into_iter()
                .map(|id| (id, &self.model.get(id).names, self.model.get(id).handles.len()))
                .collect();
            self.fail(&format!("an honest server differs from the others; {objects:?} {:?}", self.references));
        }
        match (expected, result) {
            (Ok(()), Ok(made)) => self.accept(op, made, from).await,
            (Err(expected), Err(errno)) if expected == errno => {}
            (expected, got) => self.fail(&format!("expected {expected:?}, got {got:?}")),
        }
    }

    fn children(&self, op: &Op) -> Vec<ObjectId> {
        let names: Vec<(ObjectId, &[u8])> = match op {
            Op::Unlink { parent, name } | Op::Rmdir { parent, name } => vec![(*parent, name)],
            Op::Rename { parent, name, new_parent, new_name, .. } => vec![(*parent, name), (*new_parent, new_name)],
            _ => vec![],
        };
        names.into_iter().filter_map(|(parent, name)| self.model.child(parent, name)).collect()
    }

    async fn accept(&mut self, op: Op, (made, handle): (u64, Option<u64>), from: Timestamp) {
        if matches!(op, Op::Make { .. } | Op::Link { .. }) {
            let id = if let Op::Link { id, .. } = op { id } else { ObjectId(made) };
            *self.references.entry(id).or_default() += 1;
        }
        let touched = self.model.commit(&op, made);
        self.note_names();
        if let (Op::Make { .. }, Some(handle)) = (&op, handle) {
            self.model.objects.get_mut(&ObjectId(made)).expect("made").handles.push(handle);
        }
        for (id, touch) in touched {
            self.check_touched(id, touch, from, matches!(op, Op::Make { .. }) && id.0 == made).await;
        }
        if let Op::Read { id, .. } = op {
            self.accessed(id).await;
        }
        self.sweep();
        if let Op::Write { id, from_cache: true, len: 1.., .. } = op {
            let last = self.cluster.clock.last();
            let time = Timestamp { nanos: last.nanos + 7, ..last };
            Box::pin(self.step(Op::FlushTimes { id, mtime: time, ctime: time }, None)).await;
        }
    }

    /// Takes the times of an operation from the object: they must be of its duration, and the rest as the model says.
    async fn check_touched(&mut self, id: ObjectId, touch: Touch, from: Timestamp, is_new: bool) {
        let object = self.model.get(id);
        if object.names.is_empty() && object.handles.is_empty() && id != ObjectId::ROOT {
            return;
        }
        let stat = match self.stat(id).await {
            Ok(stat) => stat,
            Err(error) => self.fail(&format!("no attributes of {id:?}: {error}")),
        };
        let during = from <= stat.ctime && stat.ctime < self.cluster.clock.peek();
        if touch != Touch::Given && !during {
            self.fail(&format!("{id:?} changed at {:?}, before {from:?} or later", stat.ctime));
        }
        let object = self.model.objects.get_mut(&id).expect("an object");
        if touch != Touch::Given {
            object.ctime = stat.ctime;
        }
        if touch == Touch::Modify {
            object.mtime = stat.ctime;
        }
        if is_new {
            object.atime = stat.ctime;
        }
        self.compare(&stat);
    }

    /// Takes the time of a read over, where reads move it: as relatime.
    async fn accessed(&mut self, id: ObjectId) {
        let now = self.cluster.clock.peek();
        let object = self.model.get(id);
        let old = object.atime <= object.mtime.max(object.ctime) || now.secs - object.atime.secs >= 24 * 3600;
        let stat = self.stat(id).await.unwrap_or_else(|error| self.fail(&format!("{id:?}: {error}")));
        if old && stat.atime < self.cluster.clock.peek() {
            self.model.objects.get_mut(&id).expect("an object").atime = stat.atime;
        }
        self.compare(&stat);
    }

    /// Attributes, through a look-up where the object is not known.
    async fn stat(&mut self, id: ObjectId) -> Result<Stat, Errno> {
        if id == ObjectId::ROOT || self.references.contains_key(&id) {
            return self.fs.getattr(id).await;
        }
        let (parent, name) = self.model.get(id).names[0].clone();
        self.reach(parent).await;
        let stat = self.fs.lookup(parent, &name).await?;
        assert_eq!(stat.id, id);
        *self.references.entry(id).or_default() += 1;
        Ok(stat)
    }

    /// Looks up what is not known, and sometimes what is.
    async fn reach(&mut self, id: ObjectId) {
        let Some(path) = self.model.path(id) else { return };
        for (parent, name) in path {
            let child = self.model.child(parent, &name).expect("a name of the model");
            if self.references.contains_key(&child) && !self.rng.one_in(6) {
                continue;
            }
            match self.fs.lookup(parent, &name).await {
                Ok(stat) if stat.id == child => self.compare(&stat),
                other => self.fail(&format!("lookup of {} is {child:?}, got {other:?}", name.escape_ascii())),
            }
            *self.references.entry(child).or_default() += 1;
        }
    }

    fn forget_some(&mut self) {
        let mut ids: Vec<ObjectId> = self.references.keys().copied().collect();
        ids.sort();
        for id in ids {
            let listed = self.listing.as_ref().is_some_and(|listing| listing.directory == id);
            if listed || !self.model.get(id).handles.is_empty() || !self.rng.one_in(12) {
                continue;
            }
            let count = self.references[&id];
            let some = if self.rng.one_in(4) { 1 + self.rng.below(count) } else { count };
            self.forget(id, some);
        }
    }

    fn forget(&mut self, id: ObjectId, count: u64) {
        self.fs.forget(id, count);
        let left = self.references[&id] - count;
        if left == 0 {
            self.references.remove(&id);
        } else {
            self.references.insert(id, left);
        }
    }

    /// Forgets what has neither name nor handle.
    fn sweep(&mut self) {
        self.model.sweep();
        let gone = |id: &ObjectId| !self.model.objects.contains_key(id);
        let gone: Vec<ObjectId> = self.references.keys().copied().filter(gone).collect();
        for id in gone {
            if let Some(listing) = self.listing.take_if(|listing| listing.directory == id) {
                self.fs.releasedir(listing.handle);
            }
            self.forget(id, self.references[&id]);
        }
    }

    fn fail(&self, why: &str) -> ! {
        let shown = std::env::var("NET_RAID_SHOWN").map_or(SHOWN, |text| text.parse().expect("a number"));
        let last = self.history.len().saturating_sub(shown);
        let shown = self.history[last..].join("\n  ");
        let events = self.cluster.events();
        panic!("after {} operations:\n  {shown}\n{why}\nevents:\n{events}", self.history.len());
    }

    /// Closes everything, looks at the bricks' directories, and mounts again.
    pub async fn remount(&mut self) {
        let keep_open = self.rng.one_in(3);
        let open: Vec<(ObjectId, u64)> =
            self.model.objects.iter().flat_map(|(id, object)| object.handles.iter().map(|h| (*id, *h))).collect();
        for (id, handle) in open.iter().filter(|_| !keep_open) {
            self.fs.release(*id, *handle);
        }
        let nameless = |id: &ObjectId| self.model.path(*id).is_none();
        let orphans: Vec<ObjectId> = self.model.objects.keys().copied().filter(nameless).collect();
        self.fs.close().await;
        for node in &self.cluster.nodes {
            node.kill_and_wait().await;
        }
        self.model.objects.values_mut().for_each(|object| object.handles.clear());
        self.model.sweep();
        self.references.clear();
        let current = self.check_bricks(if keep_open { &orphans } else { &[] });
        // Servers that were dropped come back sometimes, and must not be believed.
        let stay_away = self.rng.one_in(4);
        for (slot, node) in self.cluster.nodes.iter().enumerate() {
            if !stay_away || slot >= self.cluster.config.servers.len() || current.contains(&Slot(slot as u8)) {
                node.start();
            }
        }
        self.fs = mount(self.cluster).await;
        self.history.push("remount".into());
    }

    /// Ends the history.
    pub async fn close(self) {
        self.fs.close().await;
    }
}

async fn mount(cluster: &Cluster) -> Arc<Fs> {
    match cluster.open().await {
        Ok(volume) => Fs::new(volume),
        Err(error) => panic!("mount: {error}\n{}", cluster.events()),
    }
}

async fn disturb(nodes: &[Arc<Node>], fault: Option<Fault>, delay: Duration) {
    let Some(fault) = fault else { return };
    tokio::time::sleep(delay).await;
    match fault {
        Fault::Kill(slot) => nodes[slot].kill(),
        Fault::Start(slot) => nodes[slot].start(),
        Fault::Restart(slot) => {
            nodes[slot].kill_and_wait().await;
            nodes[slot].start();
        }
    }
}

/// Objects that a kernel has looked up before it asks for this.
fn ids(op: &Op) -> Vec<ObjectId> {
    match op {
        Op::Make { parent, .. } | Op::Unlink { parent, .. } | Op::Rmdir { parent, .. } => vec![*parent],
        Op::Link { id, parent, .. } => vec![*id, *parent],
        Op::Rename { parent, new_parent, .. } => vec![*parent, *new_parent],
        Op::SetAttr { id, .. }
        | Op::FlushTimes { id, .. }
        | Op::Write { id, .. }
        | Op::Fallocate { id, .. }
        | Op::Read { id, .. }
        | Op::Open { id, .. }
        | Op::Release { id, .. }
        | Op::SetXattr { id, .. }
        | Op::RemoveXattr { id, .. }
        | Op::Fsync { id, .. } => vec![*id],
    }
}

/// The operation on the real file system: what it made (an id or a handle), and a handle beside it.
async fn perform(fs: &Fs, model: &Model, op: &Op) -> Result<(u64, Option<u64>), Errno> {
    let done = |()| (0, None);
    match op {
        Op::Make { caller, parent, name, make, mode, umask } => {
            let (parent, mode, umask) = (*parent, *mode, *umask);
            let made = match make {
                Make::Create => {
                    let (stat, handle) = fs.create(caller, parent, name, mode, umask, libc::O_RDWR).await?;
                    return Ok((stat.id.0, Some(handle)));
                }
                Make::Mkdir => fs.mkdir(caller, parent, name, mode, umask).await?,
                Make::Symlink(target) => fs.symlink(caller, parent, name, target).await?,
                Make::Mknod(kind) => fs.mknod(caller, parent, name, kind.clone(), mode, umask).await?,
            };
            Ok((made.id.0, None))
        }
        Op::Link { id, parent, name } => fs.link(*id, *parent, name).await.map(|_| (0, None)),
        Op::Unlink { parent, name } => fs.unlink(*parent, name).await.map(done),
        Op::Rmdir { parent, name } => fs.rmdir(*parent, name).await.map(done),
        Op::Rename { parent, name, new_parent, new_name, flags } => {
            fs.rename(*parent, name, *new_parent, new_name, *flags).await.map(done)
        }
        Op::SetAttr { id, set } => fs.setattr(&ROOT, *id, *set).await.map(|_| (0, None)),
        Op::FlushTimes { id, mtime, ctime } => {
            let mtime = Some(net_raid_client::fs::SetTime::At(*mtime));
            let set = net_raid_client::fs::SetAttrs { mtime, ctime: Some(*ctime), ..Default::default() };
            fs.setattr(&ROOT, *id, set).await.map(|_| (0, None))
        }
        Op::Write { id, offset, len, append, kill, from_cache } => {
            let at = if *append { model.get(*id).size() } else { *offset };
            let offset = if *append { 0 } else { at };
            let data = Bytes::from(pattern(model.writes, if *append { 0 } else { at }, *len));
            let flags = WriteFlags { from_cache: *from_cache, kill_suidgid: *kill, append: *append };
            fs.write(*id, 0, offset, data, flags).await.map(|_| (0, None))
        }
        Op::Fallocate { id, offset, len, mode } => fs.fallocate(*id, 0, *offset, *len, *mode).await.map(done),
        Op::Read { id, offset, len } => {
            let read = fs.read(*id, *offset, *len, false).await?;
            let bytes = model.get(*id).bytes().expect("a file");
            let start = (*offset as usize).min(bytes.len());
            let expected = &bytes[start..(start + len).min(bytes.len())];
            same_bytes(&Ok(read), expected).unwrap_or_else(|why| panic!("{op:?}: {why}"));
            Ok((0, None))
        }
        Op::Open { id, truncate } => {
            let flags = libc::O_RDWR | if *truncate { libc::O_TRUNC } else { 0 };
            fs.open(*id, flags).await.map(|handle| (handle, None))
        }
        Op::Release { id, handle } => {
            fs.flush(*id, *handle).await?;
            fs.release(*id, *handle);
            Ok((0, None))
        }
        Op::SetXattr { id, name, value, flags } => fs.setxattr(&ROOT, *id, name, value, *flags).await.map(done),
        Op::RemoveXattr { id, name } => fs.removexattr(*id, name).await.map(done),
        Op::Fsync { id, data_only } => fs.fsync(*id, *data_only).await.map(done),
    }
}
