// SPDX-License-Identifier: Apache-2.0
//! Columns of text.

use crate::human::clean;
use std::io::{self, Write};

/// How a cell stands out on a terminal that shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    /// As it should be, or new.
    Good,
    /// Worth a look.
    Odd,
    /// Gone or broken.
    Bad,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Odd => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// A piece of a row.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell that stands out.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// Rows in columns, aligned. Cells are cleaned of whatever could steer a terminal.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    right: Vec<usize>,
}

impl Table {
    /// Columns under these headings; none: no heading.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let heading = headings.iter().map(|text| (*text).into()).collect::<Vec<_>>();
        Self { rows: if heading.is_empty() { Vec::new() } else { vec![heading] }, right: Vec::new() }
    }

    /// Columns of numbers.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        let cleaned = cells.into_iter().map(|cell| Cell { text: clean(&cell.text), ..cell });
        self.rows.push(cleaned.collect());
    }

    /// Adds a line of a list of facts: what, and how it is.
    pub(crate) fn fact(&mut self, what: &str, how: impl Into<String>) {
        self.row([what.into(), how.into().into()]);
    }

    /// Writes the rows.
    pub(crate) fn write(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column] - cell.text.chars().count());
                let (before, after) = if self.right.contains(&column) { (pad, String::new()) } else { (String::new(), pad) };
                let gap = if column == 0 { "" } else { "  " };
                let (on, off) = if colour && cell.tone != Tone::Plain { (cell.tone.code(), "\x1b[0m") } else { ("", "") };
                line.push_str(&format!("{gap}{before}{on}{}{off}{after}", cell.text));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_harmless() {
        let mut table = Table::new(&["NAME", "SIZE", "NOTE"]).right(&[1]);
        table.row(["a".into(), "1.0 KiB".into(), Cell::toned("fuzzy", Tone::Odd)]);
        table.row(["long\x1b[2J".into(), "5 B".into(), "".into()]);
        let mut plain = Vec::new();
        table.write(&mut plain, false).expect("memory");
        let expected = "NAME              SIZE  NOTE\na              1.0 KiB  fuzzy\nlong\\u{1b}[2J      5 B\n";
        assert_eq!(String::from_utf8_lossy(&plain), expected);
        let mut coloured = Vec::new();
        table.write(&mut coloured, true).expect("memory");
        assert!(String::from_utf8_lossy(&coloured).contains("\x1b[33mfuzzy\x1b[0m"));
    }
}
