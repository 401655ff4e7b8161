//! The implementations, and the choice of one.

use std::sync::OnceLock;

use crate::Digest;

/// One implementation. A kernel that needs a CPU feature is handed out only where it is present,
/// so that calling it is safe.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// Blocks that it hashes at once.
    pub(super) lanes: usize,
    /// Writes the digests of 1 to `lanes` blocks of one length.
    pub(super) run: fn(blocks: &[&[u8]], out: &mut [Digest]),
}

/// One block at a time, on any CPU.
pub(super) static SCALAR: Kernel = Kernel { name: "scalar", lanes: 1, run: scalar };

fn scalar(blocks: &[&[u8]], out: &mut [Digest]) {
    for (block, out) in blocks.iter().zip(out) {
        *out = super::md5(block);
    }
}

/// Those that this CPU can run, the widest first; the last, which any CPU can run, is scalar.
pub(super) fn available() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    let fast = [super::avx512::kernel(), super::avx2::kernel(), super::sse2::kernel()];
    #[cfg(target_arch = "aarch64")]
    let fast = [super::neon::kernel()];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let fast = [];
    fast.into_iter().flatten().chain([&SCALAR])
}

/// Those to use together, found once: the widest first, and scalar, for a single block, last.
///
/// Four lanes take longer than eight where a CPU has both, so they serve only in their absence.
pub(super) fn chosen() -> &'static [&'static Kernel] {
    static CHOSEN: OnceLock<Vec<&'static Kernel>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let mut kernels: Vec<_> = available().collect();
        if kernels[0].lanes > 4 {
            kernels.retain(|kernel| kernel.lanes != 4);
        }
        kernels
    })
}
