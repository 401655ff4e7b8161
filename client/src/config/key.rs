//! The keys of a configuration file, and what was probably meant by another word.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    Diskname,
    Mountpoint,
    Raid,
    Servers,
    Hotswap,
    CacheSize,
    CacheReplacement,
    Timeout,
    Stall,
    Scrub,
    Errorlog,
}

/// Every accepted spelling; the first one of a key is the one that messages use.
const NAMES: [(&str, Key); 12] = [
    ("diskname", Key::Diskname),
    ("mountpoint", Key::Mountpoint),
    ("raid", Key::Raid),
    ("servers", Key::Servers),
    ("hotswap", Key::Hotswap),
    ("cache_size", Key::CacheSize),
    ("cache_replacement", Key::CacheReplacement),
    // Part of the format since its first example.
    ("cache_replacment", Key::CacheReplacement),
    ("timeout", Key::Timeout),
    ("stall", Key::Stall),
    ("scrub", Key::Scrub),
    ("errorlog", Key::Errorlog),
];

/// Words that people use for a key without being near its spelling.
const SYNONYMS: [(&str, Key); 16] = [
    ("name", Key::Diskname),
    ("disk", Key::Diskname),
    ("volume", Key::Diskname),
    ("mount", Key::Mountpoint),
    ("level", Key::Raid),
    ("raid_level", Key::Raid),
    ("hosts", Key::Servers),
    ("members", Key::Servers),
    ("bricks", Key::Servers),
    ("spare", Key::Hotswap),
    ("spares", Key::Hotswap),
    ("hotspare", Key::Hotswap),
    ("cache", Key::CacheSize),
    ("replacement", Key::CacheReplacement),
    ("log", Key::Errorlog),
    ("logfile", Key::Errorlog),
];

impl Key {
    /// The key of that very spelling.
    pub(super) fn named(word: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == word).map(|&(_, key)| key)
    }

    /// The key that was probably meant by a word that is none.
    pub(super) fn near(word: &str) -> Option<Self> {
        let word = word.to_lowercase().replace(['-', ' '], "_");
        if let Some(&(_, key)) = SYNONYMS.iter().find(|(name, _)| *name == word) {
            return Some(key);
        }
        // A third of the letters may be wrong; any more, and a guess would be noise.
        NAMES
            .iter()
            .map(|&(name, key)| (strsim::damerau_levenshtein(&word, name), name.len(), key))
            .filter(|&(distance, len, _)| distance <= (len / 3).max(1))
            .min_by_key(|&(distance, ..)| distance)
            .map(|(.., key)| key)
    }

    /// The spelling that messages use.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, key)| *key == self).map_or("", |&(name, _)| name)
    }

    /// Whether each volume must say it for itself: nothing that two volumes could share.
    pub(super) fn belongs_to_volume(self) -> bool {
        matches!(self, Self::Diskname | Self::Mountpoint | Self::Servers | Self::Hotswap)
    }

    /// All keys as a list for messages.
    pub(super) fn list() -> String {
        let names: Vec<_> = NAMES.iter().filter(|(name, key)| key.name() == *name).map(|(name, _)| *name).collect();
        names.join(", ")
    }
}
