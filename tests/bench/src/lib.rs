//! The table that figures are printed in.

use std::fmt::Write as _;

/// Figures, each beside its baseline.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// One more row; `baseline` and `ratio` may be empty.
    pub fn row(&mut self, figure: &str, operator: &str, baseline: &str, ratio: &str) {
        self.rows.push([figure, operator, baseline, ratio].map(str::to_owned));
    }

    /// As it is printed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let head = ["FIGURE", "OPERATOR", "BASELINE", "RATIO"].map(str::to_owned);
        for [figure, operator, baseline, ratio] in std::iter::once(&head).chain(&self.rows) {
            let _ = writeln!(text, "{figure:<52} {operator:>12} {baseline:>12} {ratio:>8}");
        }
        text
    }
}
