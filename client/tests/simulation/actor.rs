//! A program that works in a directory of its own: random operations, each entered into the history before it begins and
//! when it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use net_raid_client::fs::{Caller, Errno, Fs, SetAttrs, WriteFlags};
use net_raid_client::volume::Volume;
use net_raid_proto::ids::ObjectId;
use net_raid_server::disk::sim::Random;

use crate::content::{BLOCK, Content};
use crate::history::{ActorHistory, FileHistory, History, NEW, Names, Place, Sort, Window};
use crate::trace::Trace;

const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };
const XATTR: &[u8] = b"user.note";
const FILES_MAX: usize = 7;
const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// Whether an actor can go on.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    On,
    /// Nobody knows what became of the last operation.
    Stuck,
}

/// One program.
pub struct Actor {
    pub index: usize,
    pub fs: Arc<Fs>,
    pub volume: Arc<Volume>,
    pub history: Arc<Mutex<History>>,
    pub random: Random,
    pub trace: Trace,
    /// Bytes of a whole stripe.
    pub stripe: u64,
}

impl Actor {
    /// Works until something fails that may fail, or `steps` operations are done.
    pub async fn run(mut self, steps: usize) {
        if !self.rejoin().await {
            return;
        }
        for _ in 0..steps {
            if self.step().await == Flow::Stuck || self.history().violation.is_some() {
                break;
            }
        }
        self.note(format_args!("ends"));
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn with<T>(&self, change: impl FnOnce(&mut ActorHistory) -> T) -> T {
        change(&mut self.history().actors[self.index])
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(format_args!("actor {} {what}", self.index));
    }

    fn names(&self) -> Names {
        self.with(|history| history.names.last().clone())
    }

    /// Looks up all that is there, as a program does that comes by paths, and reads a file.
    async fn rejoin(&mut self) -> bool {
        let (names, sorts) = self.with(|history| (history.names.last().clone(), history.sorts.clone()));
        let mut known = vec![ObjectId::ROOT];
        while let Some(dir) = known.pop() {
            for ((_, name), id) in names.range((dir, String::new())..).take_while(|((at, _), _)| *at == dir) {
                match self.fs.lookup(dir, name.as_bytes()).await {
                    Ok(stat) if stat.id == *id => {}
                    Ok(stat) => self.violated(format!("{name} is object {}, and was {id}", stat.id)),
                    Err(error) => return self.failed("lookup", error) == Flow::On,
                }
                if sorts.get(id) == Some(&Sort::Directory) {
                    known.push(*id);
                }
            }
        }
        let named: BTreeSet<ObjectId> = names.values().copied().collect();
        let files: Vec<ObjectId> = self.with(|history| history.files.keys().copied().collect());
        for id in files {
            if named.contains(&id) && self.random.chance(4) && self.read(id).await == Flow::Stuck {
                return false;
            }
        }
        true
    }

    fn violated(&self, what: String) {
        self.note(format_args!("VIOLATION {what}"));
        self.history().violated(format!("actor {}: {what}", self.index));
    }

    /// Judges an error.
    fn failed(&self, what: &str, error: Errno) -> Flow {
        self.note(format_args!("{what}: {error}"));
        let (beyond, full) = {
            let history = self.history();
            (history.beyond, history.full)
        };
        match error {
            Errno::EIO if beyond => Flow::Stuck,
            Errno::ENOSPC if full => Flow::On,
            error => {
                self.violated(format!("{what} failed: {error}"));
                Flow::Stuck
            }
        }
    }

    async fn step(&mut self) -> Flow {
        let Some(home) = self.home() else { return self.make(ObjectId::ROOT, self.home_name(), Sort::Directory).await };
        let files = self.files();
        let (kind, file) = (self.random.below(100), self.pick(&files));
        match (kind, file) {
            (0..12, _) if files.len() < FILES_MAX => self.make_somewhere(home).await,
            (0..45, Some(file)) => self.write(file).await,
            (45..51, Some(file)) => self.truncate(file).await,
            (51..55, Some(file)) => self.zero(file).await,
            (55..63, Some(file)) => self.read(file).await,
            (63..71, Some(file)) => self.fsync(file).await,
            (71..73, _) => self.fsync_directory(home).await,
            (73..75, _) => self.sync().await,
            (75..83, _) => self.rename(home).await,
            (83..86, Some(file)) => self.link(home, file).await,
            (86..92, _) => self.remove(home).await,
            (92..95, Some(file)) => self.chmod(file).await,
            (95..98, Some(file)) => self.set_xattr(file).await,
            _ => self.make_somewhere(home).await,
        }
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() { None } else { Some(all[self.random.below(all.len() as u64) as usize].clone()) }
    }

    fn home_name(&self) -> String {
        format!("actor{}", self.index)
    }

    fn home(&self) -> Option<ObjectId> {
        self.with(|history| history.names.last().get(&(ObjectId::ROOT, format!("actor{}", self.index))).copied())
    }

    fn sort(&self, id: ObjectId) -> Option<Sort> {
        self.with(|history| history.sorts.get(&id).copied())
    }

    /// Files that have a name.
    fn files(&self) -> Vec<ObjectId> {
        let mut files: Vec<ObjectId> =
            self.names().into_values().filter(|id| self.sort(*id) == Some(Sort::File)).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// A directory of the actor's.
    fn directory(&mut self, home: ObjectId) -> ObjectId {
        let names = self.names();
        let mut all: Vec<ObjectId> = names.into_values().filter(|id| self.sort(*id) == Some(Sort::Directory)).collect();
        all.push(home);
        self.pick(&all).unwrap_or(home)
    }

    fn free_place(&mut self, home: ObjectId) -> Option<Place> {
        let names = self.names();
        let place = (self.directory(home), NAMES[self.random.below(NAMES.len() as u64) as usize].to_string());
        (!names.contains_key(&place)).then_some(place)
    }

    /// A name other than that of the actor's directory.
    fn some_place(&mut self) -> Option<(Place, ObjectId)> {
        let names: Vec<(Place, ObjectId)> =
            self.names().into_iter().filter(|((dir, _), _)| *dir != ObjectId::ROOT).collect();
        self.pick(&names)
    }

    /// The same, in `eighths` of eight cases of a certain sort.
    fn some_place_of(&mut self, sort: Sort, eighths: u64) -> Option<(Place, ObjectId)> {
        let mut places: Vec<(Place, ObjectId)> =
            self.names().into_iter().filter(|((dir, _), _)| *dir != ObjectId::ROOT).collect();
        if self.random.chance(eighths) {
            places.retain(|(_, id)| self.sort(*id) == Some(sort));
        }
        self.pick(&places).or_else(|| self.some_place())
    }

    /// Enters a change of names, makes it, and enters the outcome.
    async fn change_names<T>(
        &mut self,
        what: String,
        next: Names,
        call: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Flow> {
        self.note(format_args!("{what}"));
        self.with(|history| history.names.begin(next));
        match call.await {
            Ok(value) => Ok(value),
            Err(error) => {
                let flow = self.failed(&what, error);
                if flow == Flow::On {
                    self.with(|history| history.names.refused());
                }
                Err(flow)
            }
        }
    }

    fn named(&mut self) -> Flow {
        let tick = self.history().next_tick();
        self.with(|history| history.names.done(tick));
        self.note(format_args!("done {tick}"));
        Flow::On
    }

    async fn make_somewhere(&mut self, home: ObjectId) -> Flow {
        let Some((dir, name)) = self.free_place(home) else { return Flow::On };
        let sort = match self.random.below(8) {
            0 => Sort::Directory,
            1 => Sort::Symlink,
            _ => Sort::File,
        };
        self.make(dir, name, sort).await
    }

    async fn make(&mut self, dir: ObjectId, name: String, sort: Sort) -> Flow {
        let mut next = self.names();
        next.insert((dir, name.clone()), NEW);
        let fs = self.fs.clone();
        let (text, mode) = (name.clone(), 0o600 + self.random.below(64) as u32);
        let call = async {
            match sort {
                Sort::Directory => fs.mkdir(&ROOT, dir, text.as_bytes(), 0o755, 0).await.map(|stat| stat.id),
                Sort::Symlink => fs.symlink(&ROOT, dir, text.as_bytes(), b"some/where").await.map(|stat| stat.id),
                Sort::File => {
                    let (stat, handle) = fs.create(&ROOT, dir, text.as_bytes(), mode, 0, libc::O_RDWR).await?;
                    fs.flush(stat.id, handle).await?;
                    fs.release(stat.id, handle);
                    Ok(stat.id)
                }
            }
        };
        let made = self.change_names(format!("make {sort:?} {name} in {dir}"), next.clone(), call).await;
        let id = match made {
            Ok(id) => id,
            Err(flow) => return flow,
        };
        next.insert((dir, name), id);
        let tick = self.history().next_tick();
        self.with(|history| {
            history.names.put(tick, next);
            history.sorts.insert(id, sort);
            if sort == Sort::File {
                history.files.insert(id, FileHistory::new(tick, Content::default(), mode, None));
            }
        });
        self.note(format_args!("done {tick}: {id}"));
        Flow::On
    }

    async fn rename(&mut self, home: ObjectId) -> Flow {
        let Some((from, id)) = self.some_place_of(Sort::Directory, 3) else { return Flow::On };
        let (mut next, sorts) = self.with(|history| (history.names.last().clone(), history.sorts.clone()));
        let exchange = self.random.chance(1);
        let to = match self.random.chance(3) || exchange {
            true => self.some_place().map(|(place, _)| place),
            false => self.free_place(home),
        };
        let Some(to) = to.filter(|to| *to != from) else { return Flow::On };
        let target = next.get(&to).copied();
        let is_dir = |id: ObjectId| sorts.get(&id) == Some(&Sort::Directory);
        let below = |names: &Names, dir: ObjectId, above: ObjectId| {
            let parents: BTreeMap<ObjectId, ObjectId> = names.iter().map(|((dir, _), id)| (*id, *dir)).collect();
            std::iter::successors(Some(dir), |at| parents.get(at).copied()).any(|at| at == above)
        };
        let refused = (is_dir(id) && below(&next, to.0, id))
            || target.is_some_and(|target| is_dir(target) && below(&next, from.0, target))
            || target == Some(id);
        let replaced_badly = !exchange
            && target.is_some_and(|target| {
                is_dir(target) != is_dir(id) || is_dir(target) && next.keys().any(|(dir, _)| *dir == target)
            });
        if refused || replaced_badly || exchange && target.is_none() {
            return Flow::On;
        }
        next.remove(&from);
        next.insert(to.clone(), id);
        if let Some(target) = target.filter(|_| exchange) {
            next.insert(from.clone(), target);
        }
        let flags = if exchange { libc::RENAME_EXCHANGE } else { 0 };
        let fs = self.fs.clone();
        let call = fs.rename(from.0, from.1.as_bytes(), to.0, to.1.as_bytes(), flags);
        let what = format!("rename {from:?} to {to:?}{}", if exchange { ", exchanged" } else { "" });
        match self.change_names(what, next, call).await {
            Ok(()) => self.named(),
            Err(flow) => flow,
        }
    }

    async fn link(&mut self, home: ObjectId, id: ObjectId) -> Flow {
        let Some(place) = self.free_place(home) else { return Flow::On };
        let mut next = self.names();
        next.insert(place.clone(), id);
        let fs = self.fs.clone();
        let call = fs.link(id, place.0, place.1.as_bytes());
        match self.change_names(format!("link {id} as {place:?}"), next, call).await {
            Ok(_) => self.named(),
            Err(flow) => flow,
        }
    }

    /// Removes a name; sometimes of a file that is open, and lives on without one for a while.
    async fn remove(&mut self, _home: ObjectId) -> Flow {
        let Some((place, id)) = self.some_place() else { return Flow::On };
        let mut next = self.names();
        let sort = self.sort(id);
        if sort == Some(Sort::Directory) && next.keys().any(|(dir, _)| *dir == id) {
            return Flow::On;
        }
        next.remove(&place);
        let fs = self.fs.clone();
        let open = sort == Some(Sort::File) && self.random.chance(3);
        let text = place.1.as_bytes();
        let (history, index) = (Arc::clone(&self.history), self.index);
        let written = |change: &dyn Fn(&mut Window<Content>)| {
            let mut history = history.lock().unwrap();
            change(&mut history.actors[index].files.get_mut(&id).expect("a file of the actor").content);
        };
        let call = async {
            if sort == Some(Sort::Directory) {
                return fs.rmdir(place.0, text).await;
            }
            let handle = if open { Some(fs.open(id, libc::O_RDWR).await?) } else { None };
            let removed = fs.unlink(place.0, text).await;
            if let Some(handle) = handle {
                if removed.is_ok() {
                    // Nobody sees it, unless the name comes back because the power is lost.
                    let data = vec![7; 5000];
                    written(&|content| content.begin(content.last().written(100, &data)));
                    if fs.write(id, handle, 100, data.clone().into(), WriteFlags::default()).await.is_ok() {
                        let tick = history.lock().unwrap().tick;
                        written(&|content| content.done(tick));
                    }
                }
                fs.release(id, handle);
            }
            removed
        };
        let lives = next.values().any(|other| *other == id);
        if open && lives {
            return Flow::On;
        }
        match self.change_names(format!("remove {place:?} ({id})"), next.clone(), call).await {
            Ok(()) => self.named(),
            Err(flow) => flow,
        }
    }

    fn content(&self, id: ObjectId) -> Content {
        self.with(|history| history.files[&id].content.last().clone())
    }

    /// Enters a change of a file's bytes, makes it, and enters the outcome.
    async fn change_content<T>(
        &mut self,
        what: String,
        id: ObjectId,
        next: Content,
        call: impl Future<Output = Result<T, Errno>>,
    ) -> Flow {
        self.note(format_args!("{what}"));
        let with = |history: &mut ActorHistory, change: &mut dyn FnMut(&mut FileHistory)| {
            change(history.files.get_mut(&id).expect("a file of the actor"))
        };
        let writing = what.starts_with("write");
        self.with(|history| {
            with(history, &mut |file| {
                file.content.begin(next.clone());
                file.writing = writing;
            });
        });
        match call.await {
            Ok(_) => {
                let tick = self.history().next_tick();
                self.with(|history| with(history, &mut |file| file.content.done(tick)));
                self.note(format_args!("done {tick}"));
                Flow::On
            }
            Err(error) if self.failed(&what, error) == Flow::On => self.half_done(id, next).await,
            Err(_) => Flow::Stuck,
        }
    }

    /// A change that found no room: whatever is there now, block by block, is what it was or was to be.
    async fn half_done(&mut self, id: ObjectId, next: Content) -> Flow {
        let old = self.content(id);
        let size = match self.fs.getattr(id).await {
            Ok(stat) => stat.size,
            Err(error) => return self.failed("getattr", error),
        };
        let found = match self.fs.read(id, 0, size as usize, true).await {
            Ok(bytes) => Content::of(&bytes),
            Err(error) => return self.failed("read", error),
        };
        if let Err(why) = found.mixed_of(&[&old, &next]) {
            self.violated(format!("object {id} after a change that found no room: {why}"));
        }
        let tick = self.history().next_tick();
        self.with(|history| {
            let file = history.files.get_mut(&id).expect("a file of the actor");
            file.content.put(tick, next);
            file.content.put(tick, found);
        });
        Flow::On
    }

    async fn write(&mut self, id: ObjectId) -> Flow {
        let old = self.content(id);
        let size_max = self.stripe * 5 / 2;
        let len = match self.random.below(10) {
            0 => 1 + self.random.below(64),
            1..4 => 1 + self.random.below(9000),
            4..6 => BLOCK * (1 + self.random.below(4)),
            6..8 => 1 + self.random.below(40_000),
            8 => 1 + self.random.below(self.stripe),
            _ => self.stripe,
        };
        let offset = match self.random.below(8) {
            0..3 if old.size < size_max => old.size,
            3..5 => self.random.below(old.size.min(size_max) + 1) / BLOCK * BLOCK,
            5 => self.random.below(size_max) / self.stripe * self.stripe,
            _ => self.random.below(old.size.min(size_max) + 1),
        };
        let mut flow = self.put(id, offset, len).await;
        // As a log grows: what one leaves in a cache, the next one goes by.
        let more = if self.random.chance(2) { 1 + self.random.below(4) } else { 0 };
        for _ in 0..more {
            if flow == Flow::Stuck {
                break;
            }
            let end = self.content(id).size;
            let len = 1 + self.random.below(64);
            flow = self.put(id, end, len).await;
        }
        flow
    }

    async fn put(&mut self, id: ObjectId, offset: u64, len: u64) -> Flow {
        let old = self.content(id);
        let (data, now) = (pattern(self.random.draw(), len as usize), self.history().tick);
        let next = old.written(offset, &data);
        let fs = self.fs.clone();
        let call = async {
            let handle = fs.open(id, libc::O_RDWR).await?;
            let written = fs.write(id, handle, offset, data.into(), WriteFlags::default()).await;
            let flushed = fs.flush(id, handle).await;
            fs.release(id, handle);
            written.and(flushed)
        };
        self.change_content(format!("write {id} {offset}+{len} after {now}"), id, next, call).await
    }

    async fn truncate(&mut self, id: ObjectId) -> Flow {
        let old = self.content(id);
        let size = match self.random.below(4) {
            0 => 0,
            1 => old.size + self.random.below(100_000),
            _ => self.random.below(old.size + 1),
        };
        let set = SetAttrs { size: Some(size), ..SetAttrs::default() };
        let fs = self.fs.clone();
        let call = fs.setattr(&ROOT, id, set);
        self.change_content(format!("truncate {id} to {size} from {}", old.size), id, old.sized(size), call).await
    }

    async fn zero(&mut self, id: ObjectId) -> Flow {
        let old = self.content(id);
        let (offset, len) = (self.random.below(old.size + 1), 1 + self.random.below(2 * self.stripe));
        let keep = self.random.chance(5);
        let mode =
            if keep { libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE } else { libc::FALLOC_FL_ZERO_RANGE };
        let fs = self.fs.clone();
        let call = fs.fallocate(id, 0, offset, len, mode);
        let what = format!("zero {id} {offset}+{len}, keep size {keep}");
        self.change_content(what, id, old.zeroed(offset, len, keep), call).await
    }

    async fn read(&mut self, id: ObjectId) -> Flow {
        let content = self.content(id);
        let (offset, len) = match self.random.chance(4) {
            true => (0, content.size as usize + 1),
            false => (self.random.below(content.size + 1), self.random.below(content.size + 100) as usize),
        };
        match self.fs.read(id, offset, len, true).await {
            Ok(bytes) if bytes == content.read(offset, len) => Flow::On,
            Ok(bytes) => {
                let expected = content.read(offset, len);
                let at = bytes.iter().zip(&expected).position(|(one, two)| one != two);
                self.violated(format!(
                    "object {id}: read {offset}+{len} of {}: {} bytes, the first difference at {at:?}",
                    content.size,
                    bytes.len()
                ));
                Flow::Stuck
            }
            Err(error) => self.failed(&format!("read {id}"), error),
        }
    }

    async fn fsync(&mut self, id: ObjectId) -> Flow {
        let data_only = self.random.chance(3);
        let tick = self.history().tick;
        self.note(format_args!("fsync {id}, data only {data_only}"));
        match self.fs.fsync(id, data_only).await {
            Ok(()) => {
                self.with(|history| history.file_durable(id, tick, !data_only));
                self.note(format_args!("done: durable to {tick}"));
                Flow::On
            }
            Err(error) => self.failed("fsync", error),
        }
    }

    async fn fsync_directory(&mut self, home: ObjectId) -> Flow {
        let dir = self.directory(home);
        let tick = self.history().tick;
        self.note(format_args!("fsync directory {dir}"));
        match self.fs.fsyncdir(dir, false).await {
            Ok(()) => {
                self.with(|history| history.dir_durable(dir, tick));
                self.note(format_args!("done: durable to {tick}"));
                Flow::On
            }
            Err(error) => self.failed("fsync of a directory", error),
        }
    }

    async fn sync(&mut self) -> Flow {
        let tick = self.history().tick;
        self.note(format_args!("sync"));
        match self.volume.sync_all().await {
            Ok(()) => {
                self.history().durable(tick);
                self.note(format_args!("done: durable to {tick}"));
                Flow::On
            }
            Err(error) => self.failed("sync", Errno::from(error)),
        }
    }

    async fn chmod(&mut self, id: ObjectId) -> Flow {
        let mode = 0o600 + self.random.below(64) as u32;
        let set = SetAttrs { mode: Some(mode), ..SetAttrs::default() };
        self.note(format_args!("chmod {id} {mode:o}"));
        self.change_file(id, |file| file.mode.begin(mode));
        match self.fs.setattr(&ROOT, id, set).await {
            Ok(_) => self.attributes_done(id, |file, tick| file.mode.done(tick)),
            Err(error) => self.attributes_failed(id, error, |file| file.mode.refused()),
        }
    }

    async fn set_xattr(&mut self, id: ObjectId) -> Flow {
        let value = pattern(self.random.draw(), 1 + self.random.below(100) as usize);
        self.note(format_args!("setxattr {id} {} bytes", value.len()));
        self.change_file(id, |file| file.xattr.begin(Some(value.clone())));
        match self.fs.setxattr(&ROOT, id, XATTR, &value, 0).await {
            Ok(()) => self.attributes_done(id, |file, tick| file.xattr.done(tick)),
            Err(error) => self.attributes_failed(id, error, |file| file.xattr.refused()),
        }
    }

    fn change_file(&self, id: ObjectId, change: impl FnOnce(&mut FileHistory)) {
        self.with(|history| change(history.files.get_mut(&id).expect("a file of the actor")));
    }

    fn attributes_done(&self, id: ObjectId, done: impl FnOnce(&mut FileHistory, u64)) -> Flow {
        let tick = self.history().next_tick();
        self.change_file(id, |file| done(file, tick));
        self.note(format_args!("done {tick}"));
        Flow::On
    }

    fn attributes_failed(&self, id: ObjectId, error: Errno, refused: impl FnOnce(&mut FileHistory)) -> Flow {
        let flow = self.failed("setting attributes", error);
        if flow == Flow::On {
            self.change_file(id, refused);
        }
        flow
    }
}

/// Bytes that name where they come from.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut random = Random::new(seed);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.draw().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
