//! From servers to a volume: who is there, whether that is enough, taking ownership; forming a new volume.

mod own;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use net_raid_proto::ids::{BrickId, Epoch, Generation, ObjectId, Slot, VolumeId};
use net_raid_proto::layout::Layout;
use net_raid_proto::limits::VOTERS_MAX;
use net_raid_proto::membership::{Label, Membership, Ownership, SlotRecord, SlotState};
use net_raid_proto::message::{BrickState, Change, Holder, Request, SetAttr};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::checkpoint::Checkpoints;
use super::hedge::Hedges;
use super::members::{Members, Seat};
use super::{Core, Volume, quorum};
use crate::cache::BlockCache;
use crate::config::{ServerAddr, VolumeConfig};
use crate::conn::{Conn, ConnOptions, GRACE, LinkState, Session};
use crate::events::{Event, EventLog};
use crate::layout::SlotSet;
use crate::world::World;

/// How long the assembly waits for servers that do not answer, when it could go on without them.
const LATECOMERS: Duration = Duration::from_secs(2);
/// Transactions of one ownership are numbered with this many bits.
const TRANSACTION_BITS: u32 = 40;
/// Between two looks at a volume that somebody else holds.
const HELD_RETRY: Duration = Duration::from_millis(250);

/// Why a volume could not be assembled, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AssemblyError(pub String);

/// A server that was asked for its brick.
struct Candidate {
    conn: Arc<Conn>,
    /// What it said last; the holder is the one before us, once it is taken.
    state: Result<Arc<BrickState>, String>,
    /// It is ours, unless another client takes it.
    taken: bool,
}

impl Candidate {
    fn server(&self) -> &ServerAddr {
        self.conn.server()
    }

    fn label(&self) -> Option<&Label> {
        match self.state.as_deref() {
            Ok(BrickState::Labelled { label, .. }) => Some(label).filter(|label| label.membership.is_valid()),
            _ => None,
        }
    }

    fn holder(&self) -> Option<&Holder> {
        match self.state.as_deref() {
            Ok(BrickState::Labelled { holder, .. }) => holder.as_ref().map(|(holder, _)| holder),
            _ => None,
        }
    }

    /// Learns who has it, and for how many milliseconds nothing was heard of them.
    fn set_holder(&mut self, holder: Option<(Holder, u64)>) {
        if let Some(label) = self.label().cloned() {
            self.state = Ok(Arc::new(BrickState::Labelled { label, holder }));
        }
    }

    /// It takes no part.
    fn lose(&mut self, why: String) {
        tracing::warn!(server = %self.server(), why, "not taken over");
        (self.state, self.taken) = (Err(why), false);
    }

    fn empty(&self) -> Option<BrickId> {
        match self.state.as_deref() {
            Ok(BrickState::Empty { brick }) => Some(*brick),
            _ => None,
        }
    }

    /// Why it cannot take part, in words.
    fn trouble(&self) -> Option<String> {
        self.reason().map(|why| format!("{}: {why}", self.server()))
    }

    /// The same without the server.
    fn reason(&self) -> Option<&str> {
        match self.state.as_deref() {
            Ok(BrickState::Unusable { why }) => Some(why),
            Ok(BrickState::Labelled { label, .. }) if !label.membership.is_valid() => {
                Some("its membership record is damaged")
            }
            Ok(_) => None,
            Err(why) => Some(why),
        }
    }
}

/// Connects to the servers of a volume and takes it; forms it when all are empty.
///
/// # Errors
/// [`AssemblyError`] says which servers are missing or in the way, and why that matters.
pub async fn open(config: &VolumeConfig, world: World, events: Arc<EventLog>) -> Result<Arc<Volume>, AssemblyError> {
    let options = ConnOptions { stall: config.stall, grace: GRACE };
    let start = |server: &ServerAddr| Conn::start(server.clone(), world.clone(), options);
    let servers: Vec<Arc<Conn>> = config.servers.iter().map(start).collect();
    let spares: Vec<Arc<Conn>> = config.spares.iter().map(start).collect();
    let assembly = Assembly { config, world: &world, events: &events };
    let opened = assembly.run(&servers, &spares).await;
    match opened {
        Ok(core) => {
            core.follow();
            core.keep_checkpoints();
            core.keep_scrubbed();
            core.keep_seats_filled();
            core.keep_healing();
            Ok(Arc::new(Volume { core }))
        }
        Err(error) => {
            servers.iter().chain(&spares).for_each(|conn| conn.close());
            events.log(&config.name, None, &Event::AssemblyRefused { why: error.0.clone() });
            Err(error)
        }
    }
}

/// What there is to go on with.
struct Found {
    record: Membership,
    /// It may not be the newest: those that are away could have gone on alone.
    forced: bool,
}

struct Assembly<'a> {
    config: &'a VolumeConfig,
    world: &'a World,
    events: &'a Arc<EventLog>,
}

impl Assembly<'_> {
    async fn run(&self, servers: &[Arc<Conn>], spares: &[Arc<Conn>]) -> Result<Arc<Core>, AssemblyError> {
        let deadline = Instant::now() + self.config.timeout;
        let (mut members, mut spares) = self.survey(servers, spares, deadline).await;
        if members.iter().all(|candidate| candidate.empty().is_some()) {
            self.check_spares(&spares)?;
            self.form(&mut members, &mut spares).await?;
            let session = self.own(&mut members, &mut spares, false).await?;
            let found = self.examine(&members, &spares)?;
            let core = self.finish(members, spares, session, found).await?;
            core.begin_tree().await?;
            return Ok(core);
        }
        let Found { forced, .. } = self.examine(&members, &spares)?;
        let session = self.own(&mut members, &mut spares, forced).await?;
        // Servers may have gone meanwhile, and an owner that was waited for may have dropped some.
        let found = self.examine(&members, &spares)?;
        if found.forced && !forced {
            return Err(AssemblyError("servers went away while the volume was being taken".into()));
        }
        self.adopt_spares(&mut spares, &found.record, &session).await;
        self.finish(members, spares, session, found).await
    }

    /// Asks everybody; waits for those that do not answer as long as the rest does not suffice.
    async fn survey(
        &self,
        servers: &[Arc<Conn>],
        spares: &[Arc<Conn>],
        deadline: Instant,
    ) -> (Vec<Candidate>, Vec<Candidate>) {
        let soon = (Instant::now() + LATECOMERS).min(deadline);
        let ask = |conns: &[Arc<Conn>], until: Instant| {
            let asks: Vec<_> = conns.iter().map(|conn| state_of(Arc::clone(conn), until)).collect();
            futures_util::future::join_all(asks)
        };
        let (mut members, mut extra) = futures_util::future::join(ask(servers, soon), ask(spares, soon)).await;
        while Instant::now() < deadline && !self.suffices(&members, &extra) {
            let until = (Instant::now() + HELD_RETRY).min(deadline);
            (members, extra) = futures_util::future::join(ask(servers, until), ask(spares, until)).await;
            sleep_until(until).await;
        }
        self.log_survey(&members, &extra);
        (members, extra)
    }

    fn suffices(&self, members: &[Candidate], spares: &[Candidate]) -> bool {
        members.iter().all(|c| c.empty().is_some()) || self.examine(members, spares).is_ok_and(|found| !found.forced)
    }

    fn log_survey(&self, members: &[Candidate], spares: &[Candidate]) {
        for candidate in members {
            let event = match candidate.trouble() {
                None => Event::Connected,
                Some(_) => Event::ServerLost { reason: reason_of(candidate) },
            };
            self.events.log(&self.config.name, Some(candidate.server()), &event);
        }
        for spare in spares {
            let event = match spare.trouble() {
                None => Event::SpareConnected,
                Some(_) => Event::SpareUnreachable { reason: reason_of(spare) },
            };
            self.events.log(&self.config.name, Some(spare.server()), &event);
        }
    }

    /// The newest membership record, when enough of it is here to go on.
    fn examine(&self, members: &[Candidate], spares: &[Candidate]) -> Result<Found, AssemblyError> {
        let volume = one_volume(members)?;
        let labels =
            || members.iter().chain(spares).filter_map(Candidate::label).filter(|label| label.volume == volume);
        let newest = labels().map(|label| &label.membership).max_by_key(|record| record.version);
        let Some(record) = newest else { return Err(self.nobody(members)) };
        self.check_shape(record)?;
        let here: Vec<BrickId> = labels().map(|label| label.brick).collect();
        self.check_members(members, record, &here)?;
        let voters = self.check_voters(members, record, &here);
        let forced = voters.is_err();
        if !self.config.force {
            voters?;
        }
        Ok(Found { record: record.clone(), forced })
    }

    fn check_shape(&self, record: &Membership) -> Result<(), AssemblyError> {
        let (level, servers) = (self.config.level, self.config.servers.len());
        if record.level != level || record.slots.len() != servers {
            return Err(AssemblyError(format!(
                "the servers hold a {} volume of {} servers, but the configuration says raid = {} with {} servers",
                record.level,
                record.slots.len(),
                level.number(),
                servers
            )));
        }
        Ok(())
    }

    fn check_members(&self, members: &[Candidate], record: &Membership, here: &[BrickId]) -> Result<(), AssemblyError> {
        if quorum::has_members(record, here) {
            return Ok(());
        }
        let current = record.current_slots().filter(|slot| here.contains(&record.slots[slot.index()].brick)).count();
        Err(AssemblyError(format!(
            "{current} servers with current data answer, {} are needed: {}",
            record.members_needed(),
            missing(members, record)
        )))
    }

    /// Whether those that are away cannot have gone on alone.
    fn check_voters(&self, members: &[Candidate], record: &Membership, here: &[BrickId]) -> Result<(), AssemblyError> {
        if quorum::has_voters(record, here) {
            return Ok(());
        }
        let voters_away = record.voters.iter().filter(|voter| !here.contains(voter)).count();
        Err(AssemblyError(format!(
            "the {voters_away} servers that do not answer could hold newer data than the others, because they are enough \
             to have gone on alone: {}; start one of them, or add a spare (hotswap) to the volume for the next time; if \
             they are gone for good, --force goes on with what is here, and what only they hold is lost then",
            missing(members, record)
        )))
    }

    fn nobody(&self, members: &[Candidate]) -> AssemblyError {
        let troubles: Vec<String> = members.iter().filter_map(Candidate::trouble).collect();
        if members.iter().any(|candidate| candidate.empty().is_some()) {
            return AssemblyError(format!(
                "a new volume is formed only when every server answers with an empty directory: {}",
                troubles.join("; ")
            ));
        }
        AssemblyError(format!("no server of the volume answers: {}", troubles.join("; ")))
    }

    /// All servers are empty: no spare may hold what one of them has held.
    fn check_spares(&self, spares: &[Candidate]) -> Result<(), AssemblyError> {
        let is_member = |label: &Label| label.membership.slot_of(label.brick).is_some();
        match spares.iter().find(|spare| spare.label().is_some_and(is_member)) {
            None => Ok(()),
            Some(spare) => Err(AssemblyError(format!(
                "the directories of all servers are empty, but {}, a spare, holds data of a volume: are disks not mounted? If \
                 not, empty its directory, too",
                spare.server()
            ))),
        }
    }

    /// Makes a volume of empty bricks.
    async fn form(&self, members: &mut [Candidate], spares: &mut [Candidate]) -> Result<(), AssemblyError> {
        let bricks = |all: &[Candidate]| all.iter().filter_map(Candidate::empty).collect::<Vec<BrickId>>();
        let (member_ids, spare_ids) = (bricks(members), bricks(spares));
        let slot = |brick: &BrickId| SlotRecord { brick: *brick, state: SlotState::Current };
        let membership = Membership {
            version: 1,
            level: self.config.level,
            slots: member_ids.iter().map(slot).collect(),
            voters: member_ids.iter().chain(&spare_ids).copied().take(VOTERS_MAX).collect(),
            formers: Vec::new(),
        };
        let volume = VolumeId(self.world.random.bytes());
        for candidate in members.iter_mut().chain(spares.iter_mut()) {
            if let Some(brick) = candidate.empty() {
                self.format(candidate, self.label(volume, brick, &membership)).await?;
            }
        }
        self.events.log(&self.config.name, None, &Event::VolumeFormed);
        Ok(())
    }

    fn label(&self, volume: VolumeId, brick: BrickId, membership: &Membership) -> Label {
        Label {
            volume,
            name: self.config.name.clone(),
            brick,
            // The brick knows better what it can do.
            ownership: Ownership::Recorded,
            epoch: Epoch(0),
            complete: Generation(0),
            membership: membership.clone(),
        }
    }

    async fn format(&self, candidate: &mut Candidate, label: Label) -> Result<(), AssemblyError> {
        let request = Request::Format { label: Box::new(label.clone()) };
        let answer = candidate.conn.call(&request, Vec::new(), Vec::new(), false).await;
        answer.map_err(|error| AssemblyError(format!("{}: cannot be formatted: {error}", candidate.server())))?;
        candidate.state = Ok(Arc::new(BrickState::Labelled { label, holder: None }));
        Ok(())
    }

    /// Spares that are empty learn of the volume, and vote from the next change of the record on.
    async fn adopt_spares(&self, spares: &mut [Candidate], record: &Membership, session: &Session) {
        for spare in spares {
            let Some(brick) = spare.empty() else { continue };
            let label = self.label(session.volume, brick, record);
            let adopted = match self.format(spare, label).await {
                Ok(()) => self.own_one(spare, session).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.0),
            };
            if let Err(reason) = adopted {
                self.events.log(&self.config.name, Some(spare.server()), &Event::SpareUnreachable { reason });
            }
        }
    }

    /// Seats the members by slot and begins to serve.
    async fn finish(
        &self,
        mut members: Vec<Candidate>,
        mut spares: Vec<Candidate>,
        session: Session,
        found: Found,
    ) -> Result<Arc<Core>, AssemblyError> {
        let Found { record, forced } = found;
        for replaced in let_in(&mut members, &mut spares, &record) {
            self.events.log(&self.config.name, Some(&replaced), &Event::Replaced);
        }
        let complete = newest_complete(&members, &spares, session.volume);
        let checkpoints = Checkpoints::new(session.generation, complete);
        let unfinished = unfinished(&members, &record);
        let (version, others) = (record.version, other_records(&members, &spares, &record));
        let everywhere = is_everywhere(&members, &spares, &record);
        let taken: Vec<BrickId> =
            members.iter().filter(|c| c.taken).filter_map(Candidate::label).map(|label| label.brick).collect();
        let spare_seat = |spare: &Candidate| {
            let brick = spare.label().filter(|label| label.volume == session.volume).map(|label| label.brick);
            Seat::new(Arc::clone(&spare.conn), brick)
        };
        let spare_seats = spares.iter().map(spare_seat).collect();
        let seats = seats(&members, &record);
        let strangers: SlotSet = strangers(&seats, &taken);
        let members = Members::new(seats, spare_seats, session, record);
        // Later ones have higher numbers, also in later ownerships.
        let first_transaction = members.epoch().0 << TRANSACTION_BITS;
        let core = Arc::new(Core {
            config: self.config.clone(),
            layout: Layout::new(self.config.level, self.config.servers.len()),
            world: self.world.clone(),
            events: Arc::clone(self.events),
            members,
            checkpoints,
            overdue: super::patience::Overdue::default(),
            healing: Arc::default(),
            paths: OnceLock::new(),
            next_object: AtomicU64::new(2),
            next_transaction: AtomicU64::new(first_transaction),
            cache: BlockCache::new(self.config.cache_size),
            hedges: Hedges::default(),
            scrubs: Default::default(),
            damages: Default::default(),
            users: Default::default(),
        });
        core.members.heed(others);
        core.seat_all();
        // They are asked anew who they are, and whether they are ours.
        strangers.iter().for_each(|slot| core.members.conn(slot).reset());
        match forced {
            true => core.leave_out(core.absent(strangers)).await.map_err(|error| AssemblyError(error.to_string()))?,
            false => core.drop_absent(strangers).await?,
        }
        // With the record that says who was left out.
        core.seat_all();
        core.members.current().iter().for_each(|slot| core.members.conn(slot).set_kept(Generation(0)));
        core.tell_left_out().await;
        if !everywhere && core.members.record().version == version {
            core.confirm_record().await.map_err(|error| AssemblyError(error.to_string()))?;
        }
        if let Some(complete) = unfinished {
            core.recover(complete).await.map_err(|error| AssemblyError(format!("not recovered: {error}")))?;
        }
        spares.retain(|spare| self.config.spares.contains(spare.server()));
        core.enlist_spares(&spares).await;
        core.request_all(Request::PurgeOrphans).await.map_err(|error| AssemblyError(error.to_string()))?;
        // From here on the labels say how far this owner is, so that the next one can begin beyond it.
        core.checkpoint().await.map_err(|error| AssemblyError(error.to_string()))?;
        Ok(core)
    }
}

/// The last generation that some brick of the volume completed: all that were members then have it.
fn newest_complete(members: &[Candidate], spares: &[Candidate], volume: VolumeId) -> Generation {
    let labels = members.iter().chain(spares).filter_map(Candidate::label).filter(|label| label.volume == volume);
    labels.map(|label| label.complete).max().unwrap_or(Generation(0))
}

/// Whether every voter of a record has it.
fn is_everywhere(members: &[Candidate], spares: &[Candidate], record: &Membership) -> bool {
    let having = members.iter().chain(spares).filter_map(Candidate::label).filter(|label| label.membership == *record);
    let having: Vec<BrickId> = having.map(|label| label.brick).collect();
    record.voters.iter().all(|voter| having.contains(voter))
}

/// The records that voters of the newest have instead of it.
fn other_records(members: &[Candidate], spares: &[Candidate], record: &Membership) -> Vec<Membership> {
    let labels = members.iter().chain(spares).filter_map(Candidate::label);
    let behind = |label: &&Label| record.voters.contains(&label.brick) && label.membership != *record;
    labels.filter(behind).map(|label| label.membership.clone()).collect()
}

/// The newest generation that a current member completed, when they may differ in what came after it: the last owner did
/// not give all of them up, or not after the same generation.
fn unfinished(members: &[Candidate], record: &Membership) -> Option<Generation> {
    let current = |label: &Label| record.current_slots().any(|slot| record.slots[slot.index()].brick == label.brick);
    let states = members.iter().filter_map(|candidate| match candidate.state.as_deref() {
        Ok(BrickState::Labelled { label, holder }) if current(label) => Some((label.complete, holder.is_some())),
        _ => None,
    });
    let states: Vec<(Generation, bool)> = states.collect();
    let newest = states.iter().map(|(complete, _)| *complete).max()?;
    states.iter().any(|(complete, held)| *held || *complete != newest).then_some(newest)
}

/// Slots whose brick was not taken: their connection leads nowhere, or to something else than the slot's brick, or the brick
/// refused.
fn strangers(seats: &[Seat], taken: &[BrickId]) -> SlotSet {
    let strange = |seat: &Seat| seat.brick().is_none_or(|brick| !taken.contains(&brick));
    let slots = seats.iter().enumerate().filter(|(_, seat)| strange(seat));
    slots.map(|(slot, _)| Slot(slot as u8)).collect()
}

impl Core {
    /// Gives the root of a new volume the same times on all members.
    async fn begin_tree(self: &Arc<Core>) -> Result<(), AssemblyError> {
        let now = self.world.clock.now();
        let set = SetAttr { atime: Some(now), mtime: Some(now), ..SetAttr::default() };
        let set = Change::SetAttr { id: ObjectId::ROOT, set };
        self.change_all(set, Bytes::new(), now).await.map_err(|error| AssemblyError(error.to_string()))
    }

    /// Members that are missing from the start are dropped at once: they miss this whole ownership.
    async fn drop_absent(self: &Arc<Core>, strangers: SlotSet) -> Result<(), AssemblyError> {
        let absent = self.absent(strangers);
        let dropped = self.drop_members(absent, "it did not answer when the volume was mounted").await;
        dropped.map_err(|error| AssemblyError(error.to_string()))
    }

    fn absent(&self, strangers: SlotSet) -> SlotSet {
        let gone = |slot: &Slot| strangers.has(*slot) || !self.members.conn(*slot).is_up();
        self.members.slots().iter().filter(gone).collect()
    }

    /// Has every connection look for the brick of its slot.
    fn seat_all(&self) {
        let record = self.members.record();
        for slot in self.members.slots().iter() {
            let (seat, take_over) = (self.members.seat(slot), record.is_left_out(slot));
            seat.conn.set_session(Session { brick: seat.brick(), take_over, ..self.members.session.clone() });
        }
    }

    /// Spares that hold a label of this volume vote from now on. One that cannot be told stands by without.
    async fn enlist_spares(&self, spares: &[Candidate]) {
        let volume = self.members.session.volume;
        let labels = spares.iter().filter_map(Candidate::label).filter(|label| label.volume == volume);
        let bricks: Vec<BrickId> = labels.map(|label| label.brick).collect();
        if let Err(error) = self.add_voters(&bricks).await {
            tracing::warn!(volume = self.config.name, %error, "spares do not vote");
        }
    }
}

/// Spares that took slots become members, and those whose slots they took do not: those among these that answer, and are strangers.
fn let_in(members: &mut [Candidate], spares: &mut [Candidate], record: &Membership) -> Vec<ServerAddr> {
    let brick = |candidate: &Candidate| candidate.label().map(|label| label.brick);
    let mut replaced = Vec::new();
    for slot in &record.slots {
        let is_here = |candidate: &Candidate| brick(candidate) == Some(slot.brick);
        let is_strange = |candidate: &Candidate| brick(candidate).is_none_or(|brick| record.slot_of(brick).is_none());
        if members.iter().any(is_here) {
            continue;
        }
        let Some(spare) = spares.iter().position(is_here) else {
            free_former(members, spares, record, slot.brick);
            continue;
        };
        let Some(member) = members.iter().position(is_strange) else { continue };
        std::mem::swap(&mut members[member], &mut spares[spare]);
        // About one that may have its slot again it is not decided yet.
        if brick(&spares[spare]).is_some_and(|brick| record.may_return(brick).is_none()) {
            replaced.push(spares[spare].server().clone());
        }
    }
    replaced
}

/// A spare that took a slot is away: who had the slot, and may have it again, stands by, and a server that does not answer is taken for
/// the spare's.
fn free_former(members: &mut [Candidate], spares: &mut [Candidate], record: &Membership, spare: BrickId) {
    let Some((former, _)) = record.slot_of(spare).and_then(|slot| record.replaced_in(slot)) else { return };
    let is_former = |candidate: &Candidate| candidate.label().is_some_and(|label| label.brick == former);
    let is_silent = |candidate: &Candidate| candidate.state.is_err();
    if let (Some(member), Some(silent)) = (members.iter().position(is_former), spares.iter().position(is_silent)) {
        std::mem::swap(&mut members[member], &mut spares[silent]);
    }
}

/// Members by slot: a brick is known by its label, wherever it is served; slots whose brick does not answer
/// get the connections that are left, in the order of the configuration.
fn seats(members: &[Candidate], record: &Membership) -> Vec<Seat> {
    let at = |slot: &SlotRecord| members.iter().position(|c| c.label().is_some_and(|l| l.brick == slot.brick));
    let found: Vec<Option<usize>> = record.slots.iter().map(at).collect();
    let mut left = (0..members.len()).filter(|index| !found.contains(&Some(*index)));
    let index_of = |(slot, found): (usize, &Option<usize>)| found.or_else(|| left.next()).unwrap_or(slot);
    let order: Vec<usize> = found.iter().enumerate().map(index_of).collect();
    let seat =
        |(slot, index): (usize, usize)| Seat::new(Arc::clone(&members[index].conn), Some(record.slots[slot].brick));
    order.into_iter().enumerate().map(seat).collect()
}

/// Waits until a server answered or could not be reached by `until`.
async fn state_of(conn: Arc<Conn>, until: Instant) -> Candidate {
    let mut states = conn.watch();
    let up = timeout_at(until, states.wait_for(|state| matches!(state, LinkState::Up(_)))).await;
    let state = match up {
        Ok(Ok(state)) => match &*state {
            LinkState::Up(brick) => Ok(Arc::clone(brick)),
            _ => Err("no answer".to_string()),
        },
        _ => match conn.state() {
            LinkState::Lost(why) => Err(why.to_string()),
            _ => Err("no answer".to_string()),
        },
    };
    Candidate { conn, state, taken: false }
}

fn reason_of(candidate: &Candidate) -> String {
    candidate.reason().unwrap_or("no answer").to_string()
}

/// The one volume that all labelled members belong to.
fn one_volume(members: &[Candidate]) -> Result<VolumeId, AssemblyError> {
    let mut labels = members.iter().filter_map(|c| c.label().map(|label| (c, label)));
    let Some((first, label)) = labels.next() else {
        let troubles: Vec<String> = members.iter().filter_map(Candidate::trouble).collect();
        let hint = "a new volume is formed only when every server answers with an empty directory";
        return Err(AssemblyError(format!("{hint}: {}", troubles.join("; "))));
    };
    match labels.find(|(_, other)| other.volume != label.volume) {
        None => Ok(label.volume),
        Some((other, foreign)) => Err(AssemblyError(format!(
            "{} holds a brick of volume {} ({}), {} one of volume {} ({}): check the servers in the configuration",
            first.server(),
            label.name,
            label.volume,
            other.server(),
            foreign.name,
            foreign.volume
        ))),
    }
}

/// Why members are not counted, in words.
fn missing(members: &[Candidate], record: &Membership) -> String {
    let troubles: Vec<String> = members.iter().filter_map(|candidate| missing_words(candidate, record)).collect();
    troubles.join("; ")
}

/// Why a member is not counted, in words.
fn missing_words(candidate: &Candidate, record: &Membership) -> Option<String> {
    if let Some(trouble) = candidate.trouble() {
        return Some(trouble);
    }
    if candidate.empty().is_some() {
        return Some(format!("{}: its directory is empty (is its disk mounted?)", candidate.server()));
    }
    let label = candidate.label()?;
    let slot = record.slot_of(label.brick);
    match slot.map(|slot: Slot| record.slots[slot.index()].state) {
        Some(SlotState::Current) => None,
        Some(SlotState::Stale { .. }) if slot.is_some_and(|slot| record.is_left_out(slot)) => {
            Some(format!("{}: it was left out by --force, and what it holds does not count", candidate.server()))
        }
        Some(SlotState::Stale { .. }) => Some(format!("{}: it was dropped and misses changes", candidate.server())),
        None => Some(format!("{}: it is no member of the volume any more", candidate.server())),
    }
}
