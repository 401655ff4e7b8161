use super::*;

#[test]
fn check_value() {
    let data: Vec<&[u8]> = b"HELLO".chunks(1).collect();
    let (mut p, mut q) = ([0], [0]);
    generate_pq(&data, &mut p, &mut q);
    assert_eq!((p, q), ([0x42], [0x31]));
}
