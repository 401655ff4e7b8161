//! From a directory to a brick: what is in it, and the places under `.net_raid/`.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Mutex, OnceLock, RwLock};

use net_raid_proto::ids::{Generation, Name, ObjectId, Timestamp};
use net_raid_proto::membership::Ownership;
use net_raid_proto::message::Kind;

use super::error::{Result, errno};
use super::label::{self, internal};
use super::lease::Standing;
use super::log::Log;
use super::node::Cache;
use super::object::{Meta, Recorded, Records};
use super::table::Table;
use super::{Brick, BrickOptions, OpenError};
use crate::disk::{Disk, XattrMode};

/// Name at the root that the volume never sees.
pub(super) const AREA: &[u8] = b".net_raid";
/// Made by mkfs at the root of an ext4 file system.
const LOST_FOUND: &[u8] = b"lost+found";
/// Most open objects; files take a second handle for their records.
const NODES_MAX: usize = 4096;

/// Open directories that every operation needs.
pub(super) struct Areas<D: Disk> {
    pub(super) root: D::Handle,
    pub(super) area: D::Handle,
    pub(super) records: D::Handle,
    pub(super) orphans: D::Handle,
    pub(super) log: Log<D>,
}

impl<D: Disk> Areas<D> {
    fn open(disk: &D) -> io::Result<Areas<D>> {
        let root = disk.root()?;
        let open = |path: &[&Name]| disk.open(&root, path).map(|(handle, _)| handle);
        let area = internal(".net_raid");
        let area_dir = open(&[&area])?;
        Ok(Areas {
            log: Log::open(disk, &area_dir)?,
            area: area_dir,
            records: open(&[&area, &internal("records")])?,
            orphans: open(&[&area, &internal("orphans")])?,
            root,
        })
    }

    /// Makes what is missing of the places, and the root's attribute, durably. Can be repeated.
    pub(super) fn make(disk: &D, ownership: Ownership) -> io::Result<Areas<D>> {
        let root = disk.root()?;
        mkdir(disk, &root, &internal(".net_raid"))?;
        let (area, _) = disk.open(&root, &[&internal(".net_raid")])?;
        mkdir(disk, &area, &internal("records"))?;
        mkdir(disk, &area, &internal("orphans"))?;
        let areas = Areas::open(disk)?;
        areas.log.make_room(disk)?;
        for bucket in 0..=255u8 {
            mkdir(disk, &areas.records, &internal(&format!("{bucket:02x}")))?;
        }
        format_root(disk, &areas.root, ownership)?;
        for directory in [&areas.records, &areas.orphans, &areas.area, &areas.root] {
            disk.sync_all(directory)?;
        }
        Ok(areas)
    }
}

fn mkdir<D: Disk>(disk: &D, dir: &D::Handle, name: &Name) -> io::Result<()> {
    match disk.mkdir(dir, name, 0o700) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Makes the directory the root of a volume: the same owner and mode on every brick.
fn format_root<D: Disk>(disk: &D, root: &D::Handle, ownership: Ownership) -> io::Result<()> {
    let stat = disk.stat(root)?;
    let recorded = match ownership {
        Ownership::Native => {
            disk.set_owner(root, Some(0), Some(0))?;
            disk.set_mode(root, 0o755)?;
            None
        }
        Ownership::Recorded => Some(Recorded { kind: Kind::Directory, mode: 0o755, uid: stat.uid, gid: stat.gid }),
    };
    let ctime = Timestamp { secs: 0, nanos: 0 };
    let (id, stamp) = (ObjectId::ROOT, Generation(0));
    let records = Records::None;
    let (early_ctime, layout, size, side_units) = (false, None, None, None);
    let meta = Meta { id, stamp, ctime, early_ctime, layout, size, recorded, records, side_units };
    disk.set_xattr(root, attr_name(ownership), &meta.encode(), XattrMode::Any)
}

/// The brick's own attribute: trusted ones exist on symbolic links and special files too.
pub(super) fn attr_name(ownership: Ownership) -> &'static [u8] {
    match ownership {
        Ownership::Native => b"trusted.net_raid",
        Ownership::Recorded => b"user.net_raid",
    }
}

impl<D: Disk> Brick<D> {
    /// Opens a directory as a brick.
    ///
    /// # Errors
    /// [`OpenError`] when it is a brick that cannot be served. A directory that holds something else
    /// opens, and says so to every client.
    pub fn open(disk: D, options: BrickOptions) -> std::result::Result<Brick<D>, OpenError> {
        let (standing, sequence) = survey(&disk, &options)?;
        let areas = OnceLock::new();
        let (mut found, mut intact, mut applied) = (Vec::new(), true, Generation(0));
        let (mut complete, mut doubt) = (Generation(0), Generation(0));
        if let Standing::Labelled { stored, .. } = &standing {
            let ownership = stored.label.ownership;
            if ownership == Ownership::Native && options.ownership == Ownership::Recorded {
                return Err(OpenError::NeedsRoot);
            }
            let opened = Areas::open(&disk)?;
            check_root(&disk, &opened.root, ownership)?;
            (applied, complete, doubt) = (stored.applied, stored.label.complete, stored.doubt);
            intact = stored.boot == options.boot || stored.holder.is_none();
            found = opened.log.load(&disk, applied, intact)?;
            let _ = areas.set((opened, ownership));
        }
        let nodes_max = (disk.handles_max() / 2).min(NODES_MAX);
        let brick = Brick {
            disk,
            options,
            sequence: Mutex::new(sequence),
            standing: RwLock::new(standing),
            heard_ms: AtomicU64::new(0),
            started: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            areas,
            table: Table::new(),
            cache: Cache::new(nodes_max),
            round: AtomicU32::new(1),
            durable_round: AtomicU32::new(0),
            fresh_orphans: Mutex::new(HashSet::new()),
            failed: AtomicBool::new(false),
            failure: OnceLock::new(),
            foreign_logged: AtomicU32::new(0),
            waiting: Mutex::default(),
            unsynced_removal: AtomicBool::new(false),
            completing: Mutex::default(),
            noting: Mutex::default(),
            intact: AtomicBool::new(intact),
            applied: AtomicU64::new(applied.0),
            completed: AtomicU64::new(complete.0),
        };
        brick.replay(found, doubt)?;
        Ok(brick)
    }

    pub(super) fn set_areas(&self, areas: Areas<D>, ownership: Ownership) {
        // Formatting happens once: whoever calls holds `sequence`.
        let _ = self.areas.set((areas, ownership));
    }

    pub(super) fn areas(&self) -> Result<&Areas<D>> {
        self.areas.get().map(|(areas, _)| areas).ok_or_else(|| errno(libc::EIO))
    }

    /// How the brick keeps owners and special files.
    pub(super) fn ownership(&self) -> Ownership {
        self.areas.get().map_or(self.options.ownership, |(_, ownership)| *ownership)
    }

    pub(super) fn attr_name(&self) -> &'static [u8] {
        attr_name(self.ownership())
    }
}

fn check_root<D: Disk>(disk: &D, root: &D::Handle, ownership: Ownership) -> std::result::Result<(), OpenError> {
    let value = disk.get_xattr(root, attr_name(ownership))?;
    match value.as_deref().and_then(Meta::decode) {
        Some(meta) if meta.id == ObjectId::ROOT => Ok(()),
        _ => Err(OpenError::RootDamaged),
    }
}

/// What the directory is, and the sequence number of its label.
fn survey<D: Disk>(disk: &D, options: &BrickOptions) -> std::result::Result<(Standing, u64), OpenError> {
    let root = disk.root()?;
    let labelled = match disk.open(&root, &[&internal(".net_raid")]) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        area => label::load(disk, &area?.0)?,
    };
    if let Some((sequence, stored)) = labelled {
        return Ok((Standing::Labelled { stored: Box::new(stored), owned: false }, sequence));
    }
    // Without any label file nothing was ever stored here, at most a format was interrupted.
    match stranger(disk, &root)? {
        None => Ok((Standing::Empty { brick: options.brick }, 0)),
        Some(name) => {
            let why = format!("the directory holds files (such as {name}) but no net_raid label");
            Ok((Standing::Unusable { why }, 0))
        }
    }
}

/// A name in the root that an empty brick does not have.
fn stranger<D: Disk>(disk: &D, root: &D::Handle) -> io::Result<Option<Name>> {
    let mut cursor = 0;
    loop {
        let page = disk.read_dir(root, cursor)?;
        let Some(last) = page.last() else { return Ok(None) };
        cursor = last.next;
        let strange = |name: &Name| name.as_bytes() != AREA && name.as_bytes() != LOST_FOUND;
        if let Some(item) = page.into_iter().find(|item| strange(&item.name)) {
            return Ok(Some(item.name));
        }
    }
}
