//! A brick that can be made to lie, to be slow or full, and that writes down what it is asked: the faults that the checkers
//! must notice.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use net_raid_proto::frame::Header;
use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::{Answer, Change, Fault, Reply, Request};
use net_raid_server::brick::Brick;
use net_raid_server::disk::RealDisk;
use net_raid_server::session::Service;

/// A checkpoint that a test forgot is let go after this long.
const HELD_MAX: Duration = Duration::from_secs(30);

/// A brick, honest unless told otherwise.
pub struct Liar {
    /// The brick.
    pub brick: Brick<RealDisk>,
    /// The next change is answered with yes, and not made.
    pub lies: Arc<AtomicBool>,
    /// Whatever else it does.
    pub script: Arc<Script>,
}

/// What one brick does otherwise than asked.
pub struct Script {
    slot: usize,
    journal: Arc<Journal>,
    /// Writes tell that so many bytes wait in the log.
    pub logged: AtomicU64,
    /// So many of the next writes find no room.
    pub full: AtomicU32,
    /// So many of the next renames find none.
    pub full_renames: AtomicU32,
    /// Aborts are refused.
    pub no_aborts: AtomicBool,
    /// So many of the next checkpoints find none.
    pub full_checkpoints: AtomicU32,
    /// So many of the next membership records cannot be written.
    pub bad_records: AtomicU32,
    /// Reads and looks are not answered while this is true; everything else is.
    pub slow_reads: AtomicBool,
    held: Mutex<Held>,
    let_go: Condvar,
}

/// What is not answered yet.
#[derive(Default)]
struct Held {
    all: bool,
    /// Looks at what changed in this directory.
    directory: Option<ObjectId>,
    /// Writes, but for so many.
    writes: Option<u32>,
}

impl Script {
    /// An honest brick.
    pub fn new(slot: usize, journal: Arc<Journal>) -> Arc<Script> {
        let (logged, full, full_checkpoints) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let (no_aborts, held, let_go) = (AtomicBool::new(false), Mutex::default(), Condvar::new());
        let (bad_records, full_renames) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Script {
            slot,
            journal,
            logged,
            full,
            full_renames,
            no_aborts,
            full_checkpoints,
            bad_records,
            slow_reads: AtomicBool::new(false),
            held,
            let_go,
        })
    }

    /// Whether a request may have to wait.
    fn can_be_held(&self, request: &Request) -> bool {
        match request {
            Request::Checkpoint { .. } | Request::ReadChanged { .. } => true,
            Request::Change { change: Change::Write { .. }, .. } => self.held.lock().unwrap().writes.is_some(),
            Request::Read { .. } | Request::GetAttr { .. } | Request::Lookup { .. } | Request::ReadDir { .. } => {
                self.slow_reads.load(Ordering::SeqCst)
            }
            _ => false,
        }
    }

    /// Checkpoints, and reads where these are slow, are not answered while this is true.
    pub fn hold(&self, held: bool) {
        self.held.lock().unwrap().all = held;
        self.let_go.notify_all();
    }

    /// What changed in a directory is not told while this is it.
    pub fn hold_directory(&self, directory: Option<ObjectId>) {
        self.held.lock().unwrap().directory = directory;
        self.let_go.notify_all();
    }

    /// After so many more, writes are not answered until this is `None`.
    pub fn hold_writes(&self, after: Option<u32>) {
        self.held.lock().unwrap().writes = after;
        self.let_go.notify_all();
    }

    fn wait(&self, request: &Request) {
        let is_held = |held: &mut Held| match request {
            Request::ReadChanged { id, .. } => held.directory == Some(*id),
            Request::Change { .. } => match &mut held.writes {
                None => false,
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
            },
            _ => held.all,
        };
        let held = self.held.lock().unwrap();
        drop(self.let_go.wait_timeout_while(held, HELD_MAX, is_held).unwrap());
    }

    /// The answer, where it is not the brick's.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let one_of = |count: &AtomicU32| {
            count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        match request {
            Request::Change { change: Change::Write { .. }, .. } if one_of(&self.full) => {
                Some(Err(Fault::Errno(libc::ENOSPC)))
            }
            Request::Change { change: Change::Rename { .. }, .. } if one_of(&self.full_renames) => {
                Some(Err(Fault::Errno(libc::ENOSPC)))
            }
            Request::Checkpoint { .. } if one_of(&self.full_checkpoints) => Some(Err(Fault::Errno(libc::ENOSPC))),
            Request::SetMembership { .. } if one_of(&self.bad_records) => Some(Err(Fault::Errno(libc::EIO))),
            Request::Abort { .. } if self.no_aborts.load(Ordering::SeqCst) => Some(Err(Fault::Errno(libc::EIO))),
            _ => None,
        }
    }
}

impl Service for Liar {
    fn handle(&self, header: &Header, request: &Request, payload: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Answer {
        if matches!(request, Request::Change { .. }) && self.lies.swap(false, Ordering::SeqCst) {
            return Ok(Reply::Done);
        }
        self.script.journal.push(self.script.slot, request, false);
        if self.script.can_be_held(request) {
            self.script.wait(request);
        }
        let answer = match self.script.answer(request) {
            Some(answer) => answer,
            None => self.brick.handle(header, request, payload, now_ms, out),
        };
        if answer.is_ok() {
            self.script.journal.push(self.script.slot, request, true);
        }
        let logged = self.script.logged.load(Ordering::SeqCst);
        match (request, answer) {
            (Request::Change { change: Change::Write { .. }, .. }, Ok(_)) if logged > 0 => {
                Ok(Reply::Written { logged })
            }
            (_, answer) => answer,
        }
    }

    fn is_slow(&self, request: &Request) -> bool {
        self.script.can_be_held(request) || self.brick.is_slow(request)
    }
}

/// One request that a brick was sent, or answered with yes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which brick.
    pub slot: usize,
    /// The request.
    pub request: Request,
    /// It was done; else it has arrived.
    pub done: bool,
}

/// What the bricks of a cluster were asked, in the order of time.
#[derive(Default)]
pub struct Journal {
    kept: AtomicBool,
    entries: Mutex<Vec<Entry>>,
}

impl Journal {
    /// From now on.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::SeqCst);
    }

    /// All so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }

    /// All so far, which is forgotten.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.entries.lock().unwrap())
    }

    fn push(&self, slot: usize, request: &Request, done: bool) {
        if self.kept.load(Ordering::SeqCst) {
            self.entries.lock().unwrap().push(Entry { slot, request: request.clone(), done });
        }
    }
}
