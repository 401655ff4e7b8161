//! Access control lists, by the rules of acl(5).

pub const ACCESS: &[u8] = b"system.posix_acl_access";
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const OWNER: u16 = 1;
const USER: u16 = 2;
const GROUP: u16 = 4;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Entries: tag, permissions, id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<(u16, u16, u32)>);

impl Acl {
    /// Owner, one user by id, group, mask, others; or only what a mode says.
    pub fn new(bits: u32, user: Option<u32>) -> Acl {
        let perm = |shift: u32| (bits >> shift & 7) as u16;
        let none = u32::MAX;
        Acl(match user {
            None => vec![(OWNER, perm(6), none), (GROUP, perm(3), none), (OTHER, perm(0), none)],
            Some(id) => vec![
                (OWNER, perm(6), none),
                (USER, perm(9), id),
                (GROUP, perm(12), none),
                (MASK, perm(3), none),
                (OTHER, perm(0), none),
            ],
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in &self.0 {
            value.extend(tag.to_le_bytes());
            value.extend(perm.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// A list that [`Acl::encode`] made.
    pub fn decode(value: &[u8]) -> Option<Acl> {
        let (entries, rest) = value.get(4..)?.as_chunks::<8>();
        let entry = |bytes: &[u8; 8]| {
            let [t0, t1, p0, p1, id @ ..] = *bytes;
            (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]), u32::from_le_bytes(id))
        };
        (rest.is_empty() && value.starts_with(&[2, 0, 0, 0])).then(|| Acl(entries.iter().map(entry).collect()))
    }

    /// The entries that the classes of a mode stand for, with their places in it.
    fn classes(&mut self) -> impl Iterator<Item = (u32, &mut u16)> {
        let has_mask = self.0.iter().any(|(tag, _, _)| *tag == MASK);
        self.0.iter_mut().filter_map(move |(tag, perm, _)| match *tag {
            OWNER => Some((6, perm)),
            GROUP if !has_mask => Some((3, perm)),
            MASK => Some((3, perm)),
            OTHER => Some((0, perm)),
            _ => None,
        })
    }

    pub fn mode(&self) -> u32 {
        self.clone().classes().map(|(shift, perm)| u32::from(*perm) << shift).sum()
    }

    pub fn is_more_than_mode(&self) -> bool {
        self.0.len() > 3
    }

    pub fn chmod(&mut self, mode: u32) {
        self.classes().for_each(|(shift, perm)| *perm = (mode >> shift & 7) as u16);
    }

    /// Mode and access list of what is made with `mode` below a directory with this default list.
    pub fn inherit(&self, mode: u32) -> (u32, Option<Acl>) {
        let mut access = self.clone();
        access.classes().for_each(|(shift, perm)| *perm &= (mode >> shift & 7) as u16);
        (mode & !0o777 | access.mode(), access.is_more_than_mode().then_some(access))
    }
}
