//! What was found after a recovery against what was promised; what was found is the truth from then on.

use std::collections::{BTreeMap, BTreeSet};

use net_raid_proto::ids::ObjectId;
use net_raid_proto::message::Kind;

use crate::common::offline::{Contents, Item};
use crate::content::Content;
use crate::history::{ActorHistory, FileHistory, History, NEW, Names, Place, Sort};

/// What one actor's directory was found to be.
#[derive(Default)]
struct Found<'a> {
    names: Names,
    items: BTreeMap<ObjectId, &'a Item>,
}

/// Checks what was found, after a crash from which the kernels kept what they had, or not (`lossy`), and takes it over.
pub fn verify(history: &mut History, contents: &Contents, lossy: bool) -> Result<(), String> {
    let tick = history.tick;
    for (index, actor) in history.actors.iter_mut().enumerate() {
        let found = found(contents, &format!("actor{index}"));
        check(actor, &found, contents, lossy).map_err(|why| format!("actor {index}: {why}"))?;
        *actor = adopted(&found, contents, tick);
    }
    Ok(())
}

/// All below one name of the root.
fn found<'a>(contents: &'a Contents, home: &str) -> Found<'a> {
    let mut found = Found::default();
    for (path, item) in &contents.tree {
        let Some(at) = path.iter().rposition(|byte| *byte == b'/') else { continue };
        let (dir, name) = (&path[..at], String::from_utf8_lossy(&path[at + 1..]).into_owned());
        let text = String::from_utf8_lossy(path);
        let below = text.strip_prefix('/').and_then(|text| text.strip_prefix(home));
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            found.names.insert((contents.tree[dir].id, name), item.id);
            found.items.insert(item.id, item);
        }
    }
    found
}

fn sort_of(item: &Item) -> Sort {
    match item.kind {
        Kind::Directory => Sort::Directory,
        Kind::Symlink => Sort::Symlink,
        _ => Sort::File,
    }
}

fn check(actor: &ActorHistory, found: &Found<'_>, contents: &Contents, lossy: bool) -> Result<(), String> {
    if lossy {
        check_promised_names(actor, found)?
    } else {
        check_all_names(actor, found)?
    }
    for (id, item) in &found.items {
        if let Some(sort) = actor.sorts.get(id).filter(|sort| **sort != sort_of(item)) {
            return Err(format!("object {id} was a {sort:?} and is a {:?}", item.kind));
        }
        if let Some(bytes) = contents.files.get(id) {
            check_file(actor.files.get(id), item, &Content::of(bytes), lossy)
                .map_err(|why| format!("object {id}: {why}"))?;
        }
    }
    Ok(())
}

/// Whether what was found may be what a state says: an object that was being made has any id.
fn fits(actor: &ActorHistory, said: ObjectId, found: ObjectId) -> bool {
    said == found || said == NEW && !actor.sorts.contains_key(&found)
}

/// The names are those that were acknowledged, with what was under way or without.
fn check_all_names(actor: &ActorHistory, found: &Found<'_>) -> Result<(), String> {
    let same = |state: &&Names| {
        state.len() == found.names.len()
            && state.iter().zip(&found.names).all(|(one, two)| one.0 == two.0 && fits(actor, *one.1, *two.1))
    };
    if actor.names.possible(false).iter().any(same) {
        return Ok(());
    }
    Err(format!("names {:?}, expected {:?}, or {:?}", found.names, actor.names.last(), actor.names.pending()))
}

/// Every name is one that was there since it was last durable; what was there all the time is there still.
fn check_promised_names(actor: &ActorHistory, found: &Found<'_>) -> Result<(), String> {
    let since = |place: &Place| {
        let (dir, place) = (actor.dirs.get(&place.0), actor.places.get(place));
        dir.copied().unwrap_or(0).max(place.copied().unwrap_or(0))
    };
    for (place, id) in &found.names {
        let was = |state: &Names| state.get(place).is_some_and(|said| fits(actor, *said, *id));
        if !actor.names.since(since(place)).any(was) {
            return Err(format!("{place:?} is {id}, which it never was since it was durable"));
        }
    }
    let places: BTreeSet<&Place> = actor.names.possible(true).into_iter().flat_map(|state| state.keys()).collect();
    for place in places {
        let mut states = actor.names.since(since(place)).map(|state| state.get(place).filter(|id| **id != NEW));
        let Some(Some(id)) = states.next() else { continue };
        let there = place.0 == ObjectId::ROOT || found.items.contains_key(&place.0);
        if states.all(|other| other == Some(id)) && there && found.names.get(place) != Some(id) {
            return Err(format!("{place:?} was {id} durably, and is {:?}", found.names.get(place)));
        }
    }
    for (id, tick) in &actor.objects {
        let count = |names: &Names| names.values().filter(|named| *named == id).count();
        let counts: Vec<usize> = actor.names.since(*tick).map(count).collect();
        let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
        let now = count(&found.names);
        if *least > 0 && now == 0 || now > *most {
            return Err(format!("object {id} had {least} to {most} names since it was durable, and has {now}"));
        }
    }
    Ok(())
}

fn check_file(file: Option<&FileHistory>, item: &Item, found: &Content, lossy: bool) -> Result<(), String> {
    let Some(file) = file else {
        // It was being made.
        return if found.size == 0 { Ok(()) } else { Err(format!("{} bytes that nobody wrote", found.size)) };
    };
    let versions = file.content.possible(lossy);
    let sizes: BTreeSet<u64> = versions.iter().map(|version| version.size).collect();
    let (least, most) = (sizes.first().unwrap_or(&0), sizes.last().unwrap_or(&0));
    // A write that was interrupted may have made the file longer by a part of what it was to: bytes, or zeros.
    let between = lossy || file.writing && file.content.pending().is_some_and(|next| next.size == *most);
    if between && !(least..=most).contains(&&found.size) || !between && !sizes.contains(&found.size) {
        return Err(format!("its size is {}, and was {sizes:?}", found.size));
    }
    found.mixed_of(&versions)?;
    if !file.mode.possible(lossy).contains(&&item.mode) {
        return Err(format!("its mode is {:o}, and was {:?}", item.mode, file.mode.possible(lossy)));
    }
    let note = item.xattrs.get(&b"user.note"[..]).cloned();
    if !file.xattr.possible(lossy).contains(&&note) {
        return Err(format!("its attribute is {note:?}, and was {:?}", file.xattr.possible(lossy)));
    }
    Ok(())
}

/// A history that begins with what was found, which recovery has made durable.
fn adopted(found: &Found<'_>, contents: &Contents, tick: u64) -> ActorHistory {
    let mut actor = ActorHistory::new(found.names.clone());
    for (id, item) in &found.items {
        actor.sorts.insert(*id, sort_of(item));
        if let Some(bytes) = contents.files.get(id) {
            let note = item.xattrs.get(&b"user.note"[..]).cloned();
            actor.files.insert(*id, FileHistory::new(tick, Content::of(bytes), item.mode, note));
        }
    }
    actor
}
