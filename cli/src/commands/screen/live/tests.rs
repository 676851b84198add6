use std::sync::Arc;

use mipro_bench_reports::Accounting;
use mipro_telemetry::Group;

use super::*;

/// What was written, and what a terminal would show of it.
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

    /// The screen of a terminal that knows the two movements that are used; panics at any other.
    fn screen(&self) -> Vec<String> {
        let mut lines: Vec<String> = vec![String::new()];
        let text = self.text();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            if let Some(escape) = rest.strip_prefix("\x1b[") {
                let at = escape.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let number: usize = escape[..at].parse().unwrap();
                match &escape[at..=at] {
                    "F" => {
                        let row = lines.len().checked_sub(number + 1).expect("not above the first line");
                        // What is below stays until it is cleared, which must come next.
                        assert!(escape[at + 1..].starts_with("\x1b[0J"));
                        lines.truncate(row);
                        lines.push(String::new());
                    }
                    "J" => assert_eq!(number, 0),
                    "m" => {}
                    other => panic!("unknown movement {other}"),
                }
                rest = &escape[at + 1..];
            } else if let Some(after) = rest.strip_prefix('\n') {
                lines.push(String::new());
                rest = after;
            } else {
                let next = rest.find(['\x1b', '\n']).unwrap_or(rest.len());
                lines.last_mut().unwrap().push_str(&rest[..next]);
                rest = &rest[next..];
            }
        }
        lines
    }
}

fn live(surface: Surface) -> (Live, Page) {
    let page = Page::default();
    (Live::new("2/10 blob", surface, Box::new(page.clone())), page)
}

fn figures() -> Figures {
    Figures {
        accounting: Accounting { ok: 9, timeout: 2, http_5xx: 1, ..Accounting::default() },
        samples: 11,
        response_us: Some([4_379_000.0, 4_800_500.0, 4_901_000.0]),
        lag_p99_us: Some(21.4),
        groups_us: vec![
            (Group::Db, 1_739_000.0),
            (Group::S3, 675_000.0),
            (Group::Llm, 2_037_000.0),
            (Group::Queue, 0.0),
            (Group::Other, 1_510.0),
        ],
    }
}

fn view<'a>(figures: Option<&'a Figures>) -> View<'a> {
    View {
        label: "2/10 blob",
        total: Some(40),
        done: 12,
        failed: 3,
        in_flight: 1,
        elapsed: Duration::from_secs(58),
        rate: Some(0.2483),
        figures,
        cpu_share: Some(0.021),
    }
}

#[test]
fn a_terminal_is_told_everything() {
    let figures = figures();
    insta::assert_snapshot!(view(Some(&figures)).block(100, false).join("\n"), @r"
    [=======                 ] 2/10 blob 12/40, 58 s, 2:15 min left
      rate 0.248/s  in flight 1  3 failed: 5xx 1, timeout 2
      response p50 4379 ms  p90 4800 ms  p99 4901 ms of 11 so far
      llm          2037 ms  ####################
      db           1739 ms  #################
      s3            675 ms  #######
      other        1.51 ms
      generator lag p99 0.021 ms  CPU 2 % of a core
    ");
}

#[test]
fn a_narrow_terminal_is_told_what_fits() {
    let figures = figures();
    insta::assert_snapshot!(view(Some(&figures)).block(40, false).join("\n"), @r"
    2/10 blob 12/40, 58 s, 2:15 min left
      rate 0.248/s  in flight 1  3 failed:…
      response p50 4379 ms  p90 4800 ms  p…
      llm          2037 ms  #############
      db           1739 ms  ###########
      s3            675 ms  ####
      other        1.51 ms
      generator lag p99 0.021 ms  CPU 2 % …
    ");
}

#[test]
fn before_the_first_rollout_there_is_little_to_tell() {
    let nothing = View { done: 0, failed: 0, rate: None, cpu_share: None, total: None, ..view(None) };
    insta::assert_snapshot!(nothing.block(80, false).join("\n"), @r"
    2/10 blob 0, 58 s
      rate –/s  in flight 1  none failed
      response none yet
      generator no lag yet
    ");
    assert_eq!(nothing.line(), "2/10 blob 0, 1 in flight, 58 s");
}

#[test]
fn a_plain_line_says_the_same_in_short() {
    let figures = figures();
    insta::assert_snapshot!(view(Some(&figures)).line(), @"2/10 blob 12/40, 3 failed, 1 in flight, 0.248/s, p50 4379 ms, p99 4901 ms, mostly db 1739 ms, 58 s, 2:15 min left");
}

#[test]
fn a_generator_at_its_limits_says_so() {
    let late = Figures { lag_p99_us: Some(12_000.0), ..figures() };
    let lines = View { cpu_share: Some(0.97), ..view(Some(&late)) }.block(100, true);
    assert_eq!(
        lines.last().unwrap(),
        "  generator \x1b[31mlate by 12.0 ms at p99\x1b[0m\x1b[31m  CPU 97 % of a core: it may be the limit\x1b[0m"
    );
}

#[test]
fn no_width_and_no_colour_breaks_a_line() {
    let figures = figures();
    for width in 0..140 {
        let plain = view(Some(&figures)).block(width, false);
        let room = if width == 0 { 79 } else { width - 1 };
        assert!(plain.iter().all(|line| line.chars().count() <= room.max(1)), "{width}: {plain:#?}");
        assert!(plain.iter().all(|line| !line.contains('\x1b')));
        let colored = view(Some(&figures)).block(width, true);
        let bare = colored.iter().map(|line| {
            ["\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"]
                .iter()
                .fold(line.clone(), |line, code| line.replace(code, ""))
        });
        assert_eq!(bare.collect::<Vec<_>>(), plain);
    }
}

#[test]
fn a_terminal_is_redrawn_in_place_and_left_with_one_line() {
    let (live, page) = live(Surface::Terminal { color: true, width: || 60 });
    live.started(Some(2));
    assert_eq!(page.screen().len(), 5, "four lines and the cursor's");
    live.figures(&figures());
    let before = page.text().len();
    live.tick(1, 0, 1);
    assert_eq!(page.text().len(), before, "not within a tenth of a second of the last time");
    let state = live.state();
    let later = state.start + REDRAW_EVERY;
    drop(state);
    live.redraw(&mut live.state(), later);
    let screen = page.screen();
    assert_eq!(screen.len(), 9, "{screen:#?}");
    assert!(screen[0].contains("2/10 blob 1/2"), "{screen:#?}");
    live.tick(2, 0, 0);
    live.finished();
    let screen = page.screen();
    assert_eq!(screen.len(), 2, "{screen:#?}");
    assert!(screen[0].starts_with("2/10 blob 2/2, "), "{screen:#?}");
}

#[test]
fn without_a_terminal_there_are_plain_lines_and_few() {
    let (live, page) = live(Surface::Lines);
    live.started(Some(5));
    (1..=5).for_each(|done| live.tick(done, 0, 0));
    assert_eq!(page.text(), "");
    live.finished();
    let text = page.text();
    assert!(text.starts_with("2/10 blob 5/5, ") && text.ends_with(" s\n"), "{text:?}");
    assert_eq!((text.matches('\n').count(), text.contains('\x1b')), (1, false));
}

#[test]
fn figures_are_wanted_at_first_and_then_not_too_often() {
    let (live, _) = live(Surface::Terminal { color: false, width: || 80 });
    live.started(None);
    assert!(live.wants_figures());
    live.figures(&figures());
    assert!(!live.wants_figures());
}

#[test]
fn the_rate_is_that_of_the_ticks_remembered() {
    let start = clock::now();
    let at = |ms| start + Duration::from_millis(ms);
    let rate = |ticks: &[(u64, u64)]| rate(&ticks.iter().map(|(ms, done)| (at(*ms), *done)).collect());
    assert_eq!(rate(&[(0, 0)]), None);
    assert_eq!(rate(&[(0, 10), (500, 12), (2_000, 30)]), Some(10.0));
    assert_eq!(rate(&[(5, 10), (5, 12)]), None);
}

#[test]
fn ticks_are_forgotten() {
    let (live, _) = live(Surface::Lines);
    live.started(None);
    (0..1_000).for_each(|done| live.tick(done, 0, 0));
    assert_eq!(live.state().ticks.len(), TICKS_MAX);
}
