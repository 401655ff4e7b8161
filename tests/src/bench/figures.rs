//! Pure: what was measured, of whom, and how it compares.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a figure counts, and with that whether more of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// Millions of bytes a second.
    MegabytesPerSecond,
    /// Operations a second.
    PerSecond,
    Seconds,
    Microseconds,
    /// Of all processors, for 2^30 bytes.
    CpuSecondsPerGib,
    Mebibytes,
}

impl Unit {
    fn is_more_better(self) -> bool {
        matches!(self, Unit::MegabytesPerSecond | Unit::PerSecond)
    }

    fn name(self) -> &'static str {
        match self {
            Unit::MegabytesPerSecond => "MB/s",
            Unit::PerSecond => "/s",
            Unit::Seconds => "s",
            Unit::Microseconds => "us",
            Unit::CpuSecondsPerGib => "CPU s/GiB",
            Unit::Mebibytes => "MiB",
        }
    }
}

/// All that was measured: figures in the order in which they were first seen, and for each who has which values.
#[derive(Debug, Default)]
pub(super) struct Figures {
    order: Vec<(String, Unit)>,
    values: BTreeMap<(String, String), Vec<f64>>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[half - 1] + sorted[half]) / 2.0 } else { sorted[half] }
}

impl Figures {
    /// Notes what was measured once more.
    pub(super) fn put(&mut self, of: &str, figure: &str, unit: Unit, value: f64) {
        if !self.order.iter().any(|(known, _)| known == figure) {
            self.order.push((figure.to_string(), unit));
        }
        self.values.entry((of.to_string(), figure.to_string())).or_default().push(value);
    }

    /// The median of what was measured.
    pub(super) fn of(&self, of: &str, figure: &str) -> Option<f64> {
        self.values.get(&(of.to_string(), figure.to_string())).map(|values| median(values))
    }

    /// How many times better the one is than the other.
    fn ratio(&self, one: &str, other: &str, (figure, unit): &(String, Unit)) -> Option<f64> {
        let (one, other) = (self.of(one, figure)?, self.of(other, figure)?);
        let ratio = if unit.is_more_better() { one / other } else { other / one };
        ratio.is_finite().then_some(ratio)
    }

    /// A table for people: `of` beside each of `others`, and how many times better it is.
    pub(super) fn table(&self, of: &str, others: &[&str]) -> String {
        let mut table = format!("{:32}{of:>18}", "");
        others.iter().for_each(|other| write!(table, "{other:>26}").expect("to a string"));
        table.push('\n');
        for figure in &self.order {
            let Some(value) = self.of(of, &figure.0) else { continue };
            let named = format!("{}, {}", figure.0, figure.1.name());
            write!(table, "{named:32}{:>18}", short(value)).expect("to a string");
            for other in others {
                let value = self.of(other, &figure.0).map_or_else(|| "-".into(), short);
                let ratio = self.ratio(of, other, figure).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x"));
                write!(table, "{value:>16}{ratio:>10}").expect("to a string");
            }
            table.push('\n');
        }
        table
    }

    /// Everything, by who and by figure: the median and all values.
    pub(super) fn json(&self) -> serde_json::Value {
        let mut all = serde_json::Map::new();
        for ((of, figure), values) in &self.values {
            let unit = self.order.iter().find(|(known, _)| known == figure).map_or("", |(_, unit)| unit.name());
            let entry = all.entry(of.clone()).or_insert_with(|| serde_json::json!({}));
            entry[figure] = serde_json::json!({ "unit": unit, "median": median(values), "values": values });
        }
        all.into()
    }
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_above_one_are_better_whatever_is_counted() {
        let mut figures = Figures::default();
        for value in [1.0, 9.0, 4.0] {
            figures.put("ours", "untar", Unit::Seconds, value);
            figures.put("ours", "write", Unit::MegabytesPerSecond, value * 100.0);
        }
        figures.put("peer", "untar", Unit::Seconds, 8.0);
        figures.put("peer", "write", Unit::MegabytesPerSecond, 200.0);
        assert_eq!(figures.of("ours", "untar"), Some(4.0));
        let ratio = |figure| figures.ratio("ours", "peer", &figures.order[figure]);
        assert_eq!((ratio(0), ratio(1)), (Some(2.0), Some(2.0)));
        let table = figures.table("ours", &["peer", "floor"]);
        assert_eq!(table.matches("2.00x").count(), 2, "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");
        assert_eq!(figures.json()["ours"]["write"]["median"], 400.0);
    }

    #[test]
    fn an_even_number_has_its_median_between() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }
}
