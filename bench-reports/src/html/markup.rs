//! Building blocks: text that cannot break out, sections, tables that a screen reader can follow.

use std::fmt::{self, Display, Write as _};

use crate::format::{NOTHING, ms, thousands};

/// Text, escaped for elements and quoted attributes alike; control characters are made visible and harmless.
pub(crate) struct Esc<'a>(pub(crate) &'a str);

impl Display for Esc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(' ')?,
                c if c.is_control() => f.write_char('\u{FFFD}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Markup under construction.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of our own.
    pub(super) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Markup with values in it; texts from outside go in as [`Esc`].
    pub(super) fn put(&mut self, markup: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(markup);
    }

    /// Opens a section with its heading and a sentence on how to read it.
    pub(super) fn section(&mut self, id: &str, title: &str, note: &str) {
        self.put(format_args!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{}</h2>\n",
            Esc(title)
        ));
        if !note.is_empty() {
            self.put(format_args!("<p class=\"note\">{}</p>\n", Esc(note)));
        }
    }

    pub(super) fn end_section(&mut self) {
        self.raw("</section>\n");
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A table cell: its markup, what it sorts by, and its classes.
pub(super) struct Cell {
    markup: String,
    sort: Option<f64>,
    class: &'static str,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self { markup: Esc(text).to_string(), sort: None, class: "" }
    }

    /// Markup of our own making, in which texts from outside are already [`Esc`].
    pub(super) fn markup(markup: String) -> Self {
        Self { markup, sort: None, class: "" }
    }

    /// A figure that is shown as `text` and sorted by `value`.
    pub(super) fn figure(text: &str, value: f64) -> Self {
        Self { markup: Esc(text).to_string(), sort: Some(value), class: "n" }
    }

    /// Microseconds, shown in milliseconds.
    pub(super) fn ms(us: Option<f64>) -> Self {
        us.map_or_else(Self::nothing, |us| Self::figure(&ms(us), us))
    }

    /// Time in a stage, zeros faint so that the eye finds the others.
    pub(super) fn stage_ms(us: Option<f64>) -> Self {
        let cell = Self::ms(us);
        if us == Some(0.0) { cell.class("n faint") } else { cell }
    }

    pub(super) fn whole(value: u64) -> Self {
        Self::figure(&thousands(value as f64), value as f64)
    }

    pub(super) fn nothing() -> Self {
        Self { markup: NOTHING.to_owned(), sort: None, class: "n faint" }
    }

    pub(super) fn class(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }

    /// The figure the eye should find first; where there is none, nothing changes.
    pub(super) fn strong(self) -> Self {
        if self.sort.is_some() { self.class("n strong") } else { self }
    }

    pub(super) fn sorted_by(mut self, value: f64) -> Self {
        self.sort = Some(value);
        self
    }
}

/// A column's title, and whether its cells are figures.
#[derive(Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    class: &'static str,
    hint: &'static str,
}

impl Column {
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, class: "", hint: "" }
    }

    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, class: "n", hint: "" }
    }

    pub(super) const fn wide(title: &'static str) -> Self {
        Self { title, class: "wide", hint: "" }
    }

    pub(super) const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}

/// A table with a caption; each row's first cell names the row.
pub(super) struct Table {
    caption: String,
    columns: Vec<Column>,
    /// Markup to stand under a column's title, by column.
    under: Vec<(usize, String)>,
    rows: Vec<Vec<Cell>>,
    sortable: bool,
}

impl Table {
    pub(super) fn new(caption: &str, columns: &[Column]) -> Self {
        Self {
            caption: caption.to_owned(),
            columns: columns.to_vec(),
            under: Vec::new(),
            rows: Vec::new(),
            sortable: false,
        }
    }

    pub(super) fn sortable(mut self) -> Self {
        self.sortable = true;
        self
    }

    /// Puts markup (an axis) under the title of a column.
    pub(super) fn under(mut self, column: usize, markup: String) -> Self {
        self.under.push((column, markup));
        self
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn render(&self, page: &mut Html) {
        let caption = Esc(&self.caption);
        let sortable = if self.sortable { " data-sortable" } else { "" };
        page.put(format_args!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n\
             <table{sortable}>\n<caption>{caption}</caption>\n<thead><tr>"
        ));
        for (index, column) in self.columns.iter().enumerate() {
            let hint = if column.hint.is_empty() {
                String::new()
            } else {
                format!(" title=\"{}\"", Esc(column.hint))
            };
            let under = self.under.iter().find(|(at, _)| *at == index).map_or("", |(_, markup)| markup);
            page.put(format_args!(
                "<th scope=\"col\" class=\"{}\"{hint}><span>{}</span>{under}</th>",
                column.class,
                Esc(column.title)
            ));
        }
        page.raw("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            page.raw("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let tag = if index == 0 { "th scope=\"row\"" } else { "td" };
                let sort = cell.sort.filter(|value| value.is_finite());
                let sort = sort.map_or_else(String::new, |value| format!(" data-v=\"{value}\""));
                let class =
                    if cell.class.is_empty() { String::new() } else { format!(" class=\"{}\"", cell.class) };
                let end = if index == 0 { "th" } else { "td" };
                page.put(format_args!("<{tag}{class}{sort}>{}</{end}>", cell.markup));
            }
            page.raw("</tr>\n");
        }
        page.raw("</tbody>\n</table>\n</div>\n");
    }
}
