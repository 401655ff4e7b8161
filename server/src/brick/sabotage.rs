//! Deliberate faults, one at a time: the cluster simulation must notice each of them. Only builds with the feature `sim` have
//! the switch; in all others the questions here are answered when they are compiled.

/// What a brick does wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(feature = "sim"), allow(dead_code))]
pub enum Sabotage {
    /// Nothing.
    None,
    /// What is appended to the log is not made durable.
    SkipLogSync,
    /// Overwrites go into the file before all members have them durably.
    ApplyEarly,
    /// Changes leave no stamp.
    ForgetStamp,
    /// Members that were dropped are said to be current.
    TrustStale,
    /// Units are never said to have been written later than what was asked for.
    ForgetUnits,
}

#[cfg(feature = "sim")]
thread_local! {
    static CHOSEN: std::cell::Cell<Sabotage> = const { std::cell::Cell::new(Sabotage::None) };
}

/// From now on all bricks that run in this thread do it; returns what they did before.
#[cfg(feature = "sim")]
pub fn choose(sabotage: Sabotage) -> Sabotage {
    CHOSEN.replace(sabotage)
}

/// Whether bricks do it.
#[cfg(feature = "sim")]
pub(super) fn is_chosen(sabotage: Sabotage) -> bool {
    CHOSEN.get() == sabotage
}

/// Never.
#[cfg(not(feature = "sim"))]
pub(super) const fn is_chosen(_: Sabotage) -> bool {
    false
}
