//! Tables and medians for people.

/// A table that grows line by line and is printed when complete.
#[derive(Debug)]
pub(crate) struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { lines: vec![columns.iter().map(|&name| name.to_owned()).collect()] }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    /// Prints it under a title: the first column to the left, all others to the right.
    pub(crate) fn print(&self, title: &str) {
        println!("\n## {title}\n");
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or_default();
        let wide = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(wide).collect();
        for (number, line) in self.lines.iter().enumerate() {
            print_line(line, &widths);
            if number == 0 {
                let rule = |(column, width): (usize, &usize)| {
                    let rule = "-".repeat(width.saturating_sub(1));
                    if column == 0 { format!("{rule}-") } else { format!("{rule}:") }
                };
                let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
                print_line(&rules, &widths);
            }
        }
    }
}

fn print_line(cells: &[String], widths: &[usize]) {
    let mut text = String::from("|");
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = if column == 0 { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") };
        text.push_str(&cell);
    }
    println!("{text}");
}

/// The middle of the values, or the mean of the two middle ones.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    match (values.get(upper.wrapping_sub(1)), values.get(upper)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

/// The median of the rounds' own quotients: what slows a whole round down is in neither.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let quotients: Vec<f64> = ours.iter().zip(theirs).map(|(our, their)| our / their).collect();
    median(&quotients)
}

/// The smallest value that at least this share of all values does not exceed.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among a few values"
    )]
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
