//! The implementations, and the choice of one.

use std::sync::OnceLock;

use super::scalar;

/// One summand of a linear combination: coefficient and unit.
pub(super) type Term<'a> = (u8, &'a [u8]);

/// What an implementation can do. All slices of one piece of work have the same length: the front
/// has checked it. An implementation that is handed less may panic, but stays in bounds.
pub(super) enum Work<'a> {
    /// Write the sum of the units.
    Xor { units: &'a [&'a [u8]], out: &'a mut [u8] },
    /// Write P and Q of the data units.
    Pq { data: &'a [&'a [u8]], p: &'a mut [u8], q: &'a mut [u8] },
    /// Write the sum of coefficient times unit.
    Combine { terms: &'a [Term<'a>], out: &'a mut [u8] },
    /// Add coefficient times (old + new) to `out`.
    AddDelta { coefficient: u8, old: &'a [u8], new: &'a [u8], out: &'a mut [u8] },
}

/// One implementation. A kernel that needs a CPU feature is handed out only where it is present,
/// so that calling it is safe.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) run: fn(Work<'_>),
}

impl Kernel {
    pub(super) fn xor(&self, units: &[&[u8]], out: &mut [u8]) {
        (self.run)(Work::Xor { units, out });
    }

    pub(super) fn pq(&self, data: &[&[u8]], p: &mut [u8], q: &mut [u8]) {
        (self.run)(Work::Pq { data, p, q });
    }

    pub(super) fn combine(&self, terms: &[Term<'_>], out: &mut [u8]) {
        (self.run)(Work::Combine { terms, out });
    }

    pub(super) fn add_delta(&self, coefficient: u8, old: &[u8], new: &[u8], out: &mut [u8]) {
        (self.run)(Work::AddDelta { coefficient, old, new, out });
    }
}

/// Those that this CPU can run, the fastest first; the last, which any CPU can run, is scalar.
pub(super) fn available() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    let fast = [super::gfni::kernel(), super::avx2::kernel()];
    #[cfg(target_arch = "aarch64")]
    let fast = [super::neon::kernel()];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let fast = [];
    fast.into_iter().flatten().chain([&scalar::KERNEL])
}

/// The fastest one, found once.
pub(super) fn chosen() -> &'static Kernel {
    static CHOSEN: OnceLock<&'static Kernel> = OnceLock::new();
    CHOSEN.get_or_init(|| available().next().unwrap_or(&scalar::KERNEL))
}
