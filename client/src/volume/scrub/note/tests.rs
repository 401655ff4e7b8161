use super::*;

fn note(path: &[&str]) -> Note {
    let path = path.iter().map(|name| Name::new(name.as_bytes()).expect("a name")).collect();
    let sums = Sums { files: 1, bytes: 2, mended: 3, damaged: 4, work: 5, seconds: 6 };
    Note { format: FORMAT, age: (7, 8), begun: 9, last: 10, sums, place: Some(Place { path, id: 11, stripe: 12 }) }
}

#[test]
fn a_note_comes_back() {
    for note in [note(&[]), note(&["d", "large"]), Note { place: None, ..note(&[]) }] {
        let bytes = note.encode();
        assert_eq!(Note::decode(&bytes), Some(note));
        for cut in 0..bytes.len() {
            assert_eq!(Note::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
    assert_eq!(Note::decode(&[]), None);
    let mut newer = note(&[]).encode();
    newer[0] = 2;
    assert_eq!(Note::decode(&newer), None);
}

#[test]
fn a_path_that_is_too_long_begins_higher_up() {
    let long = "x".repeat(200);
    let place = Note::decode(&note(&[long.as_str(); 200]).encode()).and_then(|note| note.place).expect("a place");
    assert!(!place.path.is_empty() && place.path.len() < 100);
    assert_eq!((place.id, place.stripe), (0, 0));
}
