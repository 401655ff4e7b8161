//! Random operations against a simple model, with restarts in between.

use std::collections::BTreeMap;

use super::*;

/// A small generator of our own: a seed replays the run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

type Model = BTreeMap<String, (u64, Vec<u8>)>;

fn resolve(rig: &Rig, text: &str, number: u64) {
    rig.ok(Request::Resolve { id: id(number), path: vec![name(text)] });
}

fn write(rig: &Rig, random: &mut Random, number: u64, content: &mut Vec<u8>) {
    let block = BLOCK_SIZE as u64;
    let first = random.below(40);
    let len = (random.below(20 * block) + 1) as usize;
    let data = pattern(random.below(1 << 20), len);
    let offset = (first * block) as usize;
    // Within the old content only whole blocks are written, as a client does.
    let mut data = data;
    let end = (offset + data.len()).next_multiple_of(BLOCK_SIZE).min(content.len().max(offset + data.len()));
    if end > offset + data.len() {
        data.extend_from_slice(&content[offset + data.len()..end]);
    }
    if content.len() < offset && !content.len().is_multiple_of(BLOCK_SIZE) {
        content.resize(content.len().next_multiple_of(BLOCK_SIZE), 0);
    }
    rig.write(id(number), offset as u64, &data);
    content.resize(content.len().max(end), 0);
    content[offset..offset + data.len()].copy_from_slice(&data);
}

fn truncate(rig: &Rig, random: &mut Random, number: u64, content: &mut Vec<u8>) {
    let len = random.below(60) as usize * BLOCK_SIZE;
    let change = Change::Truncate { id: id(number), size: len as u64, brick_len: len as u64, mtime: None, mode: None };
    rig.change(change);
    content.resize(len, 0);
}

fn punch(rig: &Rig, random: &mut Random, number: u64, content: &mut [u8]) {
    let unit = random.below(4);
    rig.change(Change::Punch { id: id(number), unit, count: 1, mtime: None });
    let start = (unit as usize * UNIT_SIZE).min(content.len());
    let end = (start + UNIT_SIZE).min(content.len());
    content[start..end].fill(0);
}

fn check(rig: &Rig, model: &Model) {
    let mut names = rig.names(ROOT, true);
    names.sort();
    assert_eq!(names, model.keys().cloned().collect::<Vec<_>>());
    for (text, (number, content)) in model {
        let read = rig.read_checked(id(*number), 0, content.len().next_multiple_of(BLOCK_SIZE).max(BLOCK_SIZE));
        assert_eq!(&read[..content.len()], content, "{text}");
    }
}

fn step(rig: &Rig, random: &mut Random, model: &mut Model, fresh: &mut u64) {
    let text = format!("n{}", random.below(6));
    let Some((number, mut content)) = model.remove(&text) else {
        *fresh += 1;
        rig.file(&text, *fresh);
        model.insert(text, (*fresh, Vec::new()));
        return;
    };
    match random.below(8) {
        0..=2 => write(rig, random, number, &mut content),
        3 => truncate(rig, random, number, &mut content),
        4 => punch(rig, random, number, &mut content),
        5 => {
            rig.change(rig.unlink(&text, number, random.below(2) == 0));
            return;
        }
        6 => {
            let new = format!("n{}", random.below(6));
            let target = match model.remove(&new) {
                Some((victim, _)) => RenameTarget::Replace { id: id(victim), keep: random.below(2) == 0 },
                None if new == text => RenameTarget::Replace { id: id(number), keep: false },
                None => RenameTarget::Absent,
            };
            rig.change(rig.rename(&text, number, &new, target));
            model.insert(new, (number, content));
            return;
        }
        _ => {
            rig.ok(Request::Release { id: id(number) });
        }
    }
    model.insert(text, (number, content));
}

#[test]
fn random_operations_match_a_model() {
    for (seed, mut rig) in (1..).zip(Rig::both().into_iter().chain(Rig::both())) {
        println!("seed {seed}");
        let (mut random, mut model, mut fresh) = (Random(seed), Model::new(), 100);
        for round in 0..20 {
            for _ in 0..25 {
                step(&rig, &mut random, &mut model, &mut fresh);
            }
            check(&rig, &model);
            if round % 3 == 2 {
                rig.checkpoint();
                check(&rig, &model);
                for (text, (_, content)) in &model {
                    assert_eq!(&std::fs::read(rig.path(text)).expect("there"), content, "{text}");
                }
            }
            if round % 5 == 4 {
                rig.restart();
                model.iter().for_each(|(text, (number, _))| resolve(&rig, text, *number));
            }
        }
    }
}
