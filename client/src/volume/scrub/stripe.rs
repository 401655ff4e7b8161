//! Pure: what is wrong with one stripe, from what all members say of it, and what is right instead.

use std::collections::BTreeMap;

use bytes::Bytes;
use net_raid_proto::ids::Generation;
use net_raid_proto::layout::Level;

use crate::layout::BLOCK;

const BLOCK_LEN: usize = BLOCK as usize;

/// One unit as its member has it.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// When it was written last; 0 if never.
    pub(super) generation: Generation,
    /// Whole blocks; what follows in the unit is zeros.
    pub(super) bytes: Bytes,
    /// Blocks that do not match their digests, one bit each.
    pub(super) bad: u32,
}

/// Why a block is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It does not match its digest.
    Digest,
    /// It matches its digest, but another copy is newer.
    Older,
    /// It matches its digest, but not the parity, and this is the one unit that explains it.
    Parity,
}

/// A block that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mend {
    pub(super) index: usize,
    pub(super) block: usize,
    pub(super) bytes: Bytes,
    pub(super) why: Why,
}

/// Why a block cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Beyond {
    /// Too few good units are left.
    TooFew,
    /// Copies, or data and parity, do not agree, and nothing says which is right.
    Undecided,
}

/// What is wrong with a stripe.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) mends: Vec<Mend>,
    pub(super) beyond: Option<Beyond>,
}

impl Verdict {
    pub(super) fn is_clean(&self) -> bool {
        self.mends.is_empty() && self.beyond.is_none()
    }

    fn give_up(&mut self, beyond: Beyond) {
        self.beyond = Some(self.beyond.map_or(beyond, |before| before.min(beyond)));
    }
}

/// Block `b` of a unit: good bytes, nothing where it does not match its digest.
enum Content<'a> {
    /// The unit is not known: its member is out of reach.
    Absent,
    Bad,
    Good(&'a [u8]),
    /// Behind the end of the unit.
    Zeros,
}

static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

impl<'a> Content<'a> {
    fn of(unit: Option<&'a Unit>, block: usize) -> Content<'a> {
        let Some(unit) = unit else { return Content::Absent };
        let start = block * BLOCK_LEN;
        match unit.bytes.get(start..start + BLOCK_LEN) {
            None => Content::Zeros,
            Some(_) if unit.bad >> block & 1 == 1 => Content::Bad,
            Some(bytes) => Content::Good(bytes),
        }
    }

    fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Content::Absent | Content::Bad => None,
            Content::Good(bytes) => Some(bytes),
            Content::Zeros => Some(&ZEROS),
        }
    }
}

/// Judges a stripe of `data` data units. `units` are by index, nothing for members that are not asked or do not answer; `outdated`
/// are indices on members that are known to have an older version of the file: they are not believed where they differ.
pub(super) fn judge(level: Level, data: usize, units: &[Option<Unit>], outdated: u32) -> Verdict {
    let mut verdict = Verdict::default();
    if is_whole(level, data, units) {
        return verdict;
    }
    let blocks = units.iter().flatten().map(|unit| unit.bytes.len() / BLOCK_LEN).max().unwrap_or(0);
    for block in 0..blocks {
        let contents: Vec<Content<'_>> = units.iter().map(|unit| Content::of(unit.as_ref(), block)).collect();
        match level {
            Level::Raid1 => judge_copies(&mut verdict, units, &contents, (block, outdated)),
            _ => judge_parity(&mut verdict, data, &contents, (block, outdated)),
        }
    }
    verdict
}

/// Whether everything is there and agrees: the common case, without looking at blocks.
fn is_whole(level: Level, data: usize, units: &[Option<Unit>]) -> bool {
    let Some(units) = units.iter().map(Option::as_ref).collect::<Option<Vec<&Unit>>>() else { return false };
    if units.iter().any(|unit| unit.bad != 0 || unit.bytes.len() != units[0].bytes.len()) {
        return false;
    }
    match level {
        Level::Raid1 => units.windows(2).all(|pair| pair[0].bytes == pair[1].bytes),
        _ if units[0].bytes.is_empty() => true,
        _ => {
            let slices: Vec<&[u8]> = units.iter().map(|unit| &unit.bytes[..]).collect();
            net_raid_raid::parity::check(&slices, data)
        }
    }
}

fn judge_copies(
    verdict: &mut Verdict,
    units: &[Option<Unit>],
    contents: &[Content<'_>],
    (block, outdated): (usize, u32),
) {
    let good: Vec<(usize, &[u8])> = contents.iter().enumerate().filter_map(|(i, c)| Some((i, c.bytes()?))).collect();
    let is_bad = |content: &Content<'_>| matches!(content, Content::Bad);
    let agree = good.windows(2).all(|pair| pair[0].1 == pair[1].1);
    if agree && !contents.iter().any(is_bad) {
        return;
    }
    let believed: Vec<(usize, &[u8])> = good.iter().copied().filter(|(i, _)| outdated >> i & 1 == 0).collect();
    let believed = if believed.is_empty() { good } else { believed };
    if believed.is_empty() {
        if contents.iter().any(is_bad) {
            verdict.give_up(Beyond::TooFew);
        }
        return;
    }
    let generation = |index: usize| units[index].as_ref().map_or(Generation(0), |unit| unit.generation);
    let Some(right) = newest(&believed, generation) else {
        return verdict.give_up(Beyond::Undecided);
    };
    for (index, content) in contents.iter().enumerate() {
        let why = match content {
            Content::Bad => Why::Digest,
            Content::Good(bytes) if *bytes != right => Why::Older,
            _ => continue,
        };
        verdict.mends.push(Mend { index, block, bytes: Bytes::copy_from_slice(right), why });
    }
}

/// The content of the copies that were written last; where these differ, that of more than half of them.
fn newest<'a>(copies: &[(usize, &'a [u8])], generation: impl Fn(usize) -> Generation) -> Option<&'a [u8]> {
    if copies.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        return copies.first().map(|(_, bytes)| *bytes);
    }
    let last = copies.iter().map(|(index, _)| generation(*index)).max()?;
    let mut votes: BTreeMap<&[u8], usize> = BTreeMap::new();
    let newest = copies.iter().filter(|(index, _)| generation(*index) == last);
    let count = newest.inspect(|(_, bytes)| *votes.entry(bytes).or_default() += 1).count();
    votes.into_iter().find(|(_, votes)| votes * 2 > count).map(|(bytes, _)| bytes)
}

fn judge_parity(verdict: &mut Verdict, data: usize, contents: &[Content<'_>], (block, outdated): (usize, u32)) {
    let parity = contents.len() - data;
    let mut unknown: Vec<usize> = (0..contents.len()).filter(|index| contents[*index].bytes().is_none()).collect();
    let any_bad = contents.iter().any(|content| matches!(content, Content::Bad));
    let mut why = Why::Digest;
    let mut right = match complete(data, contents, &unknown) {
        Completed::TooFew if any_bad => return verdict.give_up(Beyond::TooFew),
        Completed::TooFew => return,
        Completed::Right(right) => right,
        Completed::Differs => {
            let old = (0..contents.len()).filter(|i| outdated >> i & 1 == 1 && !unknown.contains(i));
            let located = locate(data, contents, &unknown);
            let suspects: Vec<usize> = old.collect();
            let without = match (suspects.is_empty(), located) {
                (false, _) => unknown.iter().copied().chain(suspects).collect(),
                (true, Some(index)) => vec![index],
                (true, None) => return verdict.give_up(Beyond::Undecided),
            };
            why = if located.is_some() { Why::Parity } else { Why::Older };
            match complete(data, contents, &without) {
                Completed::Right(right) => {
                    unknown = without;
                    right
                }
                Completed::TooFew | Completed::Differs => return verdict.give_up(Beyond::Undecided),
            }
        }
    };
    debug_assert!(unknown.len() <= parity);
    for index in unknown {
        let why = match contents[index] {
            Content::Bad => Why::Digest,
            Content::Good(bytes) if *bytes != right[index][..] => why,
            // Out of reach, right as it is, or behind the end.
            _ => continue,
        };
        verdict.mends.push(Mend { index, block, bytes: std::mem::take(&mut right[index]).into(), why });
    }
}

enum Completed {
    /// All units of the row.
    Right(Vec<Vec<u8>>),
    /// What is known does not agree.
    Differs,
    TooFew,
}

/// Computes what is not known; where there is parity left, sees whether it agrees.
fn complete(data: usize, contents: &[Content<'_>], unknown: &[usize]) -> Completed {
    if unknown.len() > contents.len() - data {
        return Completed::TooFew;
    }
    let known = |(index, content): (usize, &Content<'_>)| match content.bytes() {
        Some(bytes) if !unknown.contains(&index) => bytes.to_vec(),
        _ => vec![0; BLOCK_LEN],
    };
    let mut row: Vec<Vec<u8>> = contents.iter().enumerate().map(known).collect();
    if !unknown.is_empty() {
        let mut slices: Vec<&mut [u8]> = row.iter_mut().map(Vec::as_mut_slice).collect();
        net_raid_raid::parity::recover(&mut slices, data, unknown);
    }
    let slices: Vec<&[u8]> = row.iter().map(Vec::as_slice).collect();
    if net_raid_raid::parity::check(&slices, data) { Completed::Right(row) } else { Completed::Differs }
}

/// The one unit that explains why P and Q do not match, where nothing else is unknown.
fn locate(data: usize, contents: &[Content<'_>], unknown: &[usize]) -> Option<usize> {
    if contents.len() != data + 2 || !unknown.is_empty() {
        return None;
    }
    let row: Option<Vec<&[u8]>> = contents.iter().map(Content::bytes).collect();
    let index = net_raid_raid::parity::locate(&row?, data)?;
    // What is behind the end of a unit is zeros for certain.
    matches!(contents[index], Content::Good(_)).then_some(index)
}

#[cfg(test)]
mod tests;
