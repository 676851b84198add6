//! Plain tables: aligned, split where too wide (the key columns repeated), never cut.

use super::{Style, Tone, harmless, wrap};

const GAP: usize = 2;
/// Narrowest a wrapping column gets.
const WRAP_MIN: usize = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    /// Left, and broken into lines where the table would be too wide.
    Wrap,
}

pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: harmless(text.as_ref()), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    /// Leading columns that say what a row is about, repeated where the table is split.
    keys: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), keys: 1, rows: Vec::new() }
    }

    pub(super) fn keys(mut self, keys: usize) -> Self {
        self.keys = keys.clamp(1, self.columns.len());
        self
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn render(&self, style: Style) -> String {
        let mut text = String::new();
        for (index, part) in self.parts(style.width()).iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            self.render_part(style, part, &mut text);
        }
        text
    }

    fn natural_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].text.chars().count());
        cells.chain([self.columns[column].0.chars().count()]).max().unwrap_or(0)
    }

    /// Columns with their widths, split so that each part fits; every part begins with the key columns.
    fn parts(&self, width: usize) -> Vec<Vec<(usize, usize)>> {
        let natural: Vec<usize> = (0..self.columns.len()).map(|column| self.natural_width(column)).collect();
        let least = |column: usize| match self.columns[column].1 {
            Align::Wrap => natural[column].min(WRAP_MIN),
            Align::Left | Align::Right => natural[column],
        };
        let keys: Vec<(usize, usize)> = (0..self.keys).map(|column| (column, least(column))).collect();
        let keys_width = keys.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP;
        let mut parts: Vec<Vec<(usize, usize)>> = vec![keys.clone()];
        let mut used = keys_width;
        for column in self.keys..self.columns.len() {
            if used + GAP + least(column) > width && parts.last().is_some_and(|part| part.len() > keys.len())
            {
                parts.push(keys.clone());
                used = keys_width;
            }
            used += GAP + least(column);
            parts.last_mut().expect("starts with one part").push((column, least(column)));
        }
        for part in &mut parts {
            let used: usize = part.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP;
            let mut spare = width.saturating_sub(used);
            for (column, width) in part.iter_mut() {
                let grow = (natural[*column] - *width).min(spare);
                *width += grow;
                spare -= grow;
            }
        }
        parts
    }

    fn render_part(&self, style: Style, part: &[(usize, usize)], text: &mut String) {
        let titles: Vec<_> = part
            .iter()
            .map(|&(column, width)| (self.lines(column, self.columns[column].0, width), Tone::Dim))
            .collect();
        self.render_row(style, part, &titles, text);
        for row in &self.rows {
            let cells: Vec<_> = part
                .iter()
                .map(|&(column, width)| (self.lines(column, &row[column].text, width), row[column].tone))
                .collect();
            self.render_row(style, part, &cells, text);
        }
    }

    fn lines(&self, column: usize, text: &str, width: usize) -> Vec<String> {
        match self.columns[column].1 {
            Align::Wrap => wrap(text, width),
            Align::Left | Align::Right => vec![text.to_owned()],
        }
    }

    fn render_row(
        &self,
        style: Style,
        part: &[(usize, usize)],
        cells: &[(Vec<String>, Tone)],
        text: &mut String,
    ) {
        let height = cells.iter().map(|(lines, _)| lines.len()).max().unwrap_or(1);
        for line in 0..height {
            let mut row = String::new();
            let mut blanks = 0;
            for ((column, width), (lines, tone)) in part.iter().zip(cells) {
                let content = lines.get(line).map_or("", String::as_str);
                let pad = width - content.chars().count().min(*width);
                let (before, after) =
                    if self.columns[*column].1 == Align::Right { (pad, 0) } else { (0, pad) };
                // Blanks are owed, not written, so that no line ends in them.
                blanks += before;
                if !content.is_empty() {
                    row.extend(std::iter::repeat_n(' ', blanks));
                    row.push_str(&style.paint(content, *tone));
                    blanks = 0;
                }
                blanks += after + GAP;
            }
            text.push_str(&row);
            text.push('\n');
        }
    }
}
