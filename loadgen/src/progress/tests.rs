use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Progress, Style, TerminalProgress, bar, left, short, words};

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn progress(style: Style) -> (TerminalProgress, Page) {
    let page = Page::default();
    (TerminalProgress::new("blob".to_owned(), style, Box::new(page.clone())), page)
}

#[test]
fn a_bar_shows_what_is_done_and_what_is_left() {
    let (progress, _) = progress(Style::Lines);
    let mut state = progress.state();
    state.total = Some(40);
    state.last = (10, 0, 3);
    let elapsed = Duration::from_secs(30);
    insta::assert_snapshot!(bar("blob", &state, elapsed, false), @"[======                  ] blob 10/40, 3 in flight, 30 s, 1:30 min left");
    state.last = (40, 2, 0);
    assert_eq!(
        bar("blob", &state, elapsed, true),
        "[\x1b[33m========================\x1b[0m] blob 40/40, 2 failed, 30 s"
    );
    state.total = None;
    assert_eq!(bar("blob", &state, elapsed, true), words("blob", &state, elapsed));
    assert_eq!(left(&state, elapsed), None, "without a total nobody knows");
    assert_eq!(short(Duration::from_secs(7_260)), "2:01 h");
}

#[test]
fn without_a_terminal_there_are_plain_lines_and_few() {
    let (progress, page) = progress(Style::Lines);
    progress.started(Some(5));
    (1..=5).for_each(|done| progress.tick(done, 0, 0));
    progress.finished();
    assert_eq!(page.text(), "blob 5/5, 0 s\n");
}

#[test]
fn a_terminal_is_redrawn_in_place_and_colour_can_be_refused() {
    let (progress, page) = progress(Style::Bar { color: true });
    let progress = progress.without_color();
    progress.started(Some(2));
    progress.tick(2, 0, 0);
    progress.finished();
    let text = page.text();
    assert!(text.starts_with("\r\x1b[2K[ "), "{text:?}");
    assert!(text.ends_with("blob 2/2, 0 s\n") && text.matches('\n').count() == 1, "{text:?}");
    assert!(!text.contains("\x1b[3"), "{text:?}");
}
