//! The text of `perf script`, folded as it comes: nothing but one stack and the sums is held.

use mipro_telemetry::Folded;

use super::Collapsed;

/// Frames of a stack that are kept, the innermost ones.
const FRAMES_MAX: usize = 256;
/// User frames up to which a stack counts as cut short; a runtime's thread alone has more.
const SHALLOW: usize = 3;

/// Reads lines of `perf script -F comm,tid,ip,sym,dso`: a head `thread-name 123`, a line a frame from the innermost out
/// (`  55d0 symbol (file)`), and an empty line after each sample.
#[derive(Default)]
pub(super) struct Collapser {
    folded: Folded,
    samples: u64,
    shallow: u64,
    kernel: u64,
    thread: Option<String>,
    /// Innermost first.
    frames: Vec<String>,
    in_kernel: usize,
}

impl Collapser {
    pub(super) fn line(&mut self, line: &str) {
        if line.trim().is_empty() {
            self.end_of_sample();
        } else if line.starts_with([' ', '\t']) {
            // Below no head it is no part of a sample.
            if self.thread.is_some() {
                self.frame(line.trim());
            }
        } else {
            self.end_of_sample();
            // Names of threads may have spaces in them.
            let head = line.trim();
            let name = head.rsplit_once(char::is_whitespace).map_or(head, |(name, _)| name.trim());
            self.thread = Some(name.to_owned());
        }
    }

    pub(super) fn finish(mut self) -> Collapsed {
        self.end_of_sample();
        let Self { folded: stacks, samples, shallow, kernel, .. } = self;
        Collapsed { stacks, samples, shallow, kernel }
    }

    fn frame(&mut self, line: &str) {
        if self.frames.len() >= FRAMES_MAX {
            return;
        }
        let (_, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (symbol, file) =
            rest.rsplit_once(" (").map_or((rest, ""), |(symbol, file)| (symbol, file.trim_end_matches(')')));
        let kernel = is_kernel(file);
        self.in_kernel += usize::from(kernel);
        let name = match function(symbol) {
            // Of a file only the name: where it lies is nobody's business.
            "" | "[unknown]" => {
                let file = file.rsplit('/').next().unwrap_or_default().trim_matches(['[', ']']);
                format!("[{}]", if file.is_empty() { "unknown" } else { file })
            }
            name => name.to_owned(),
        };
        self.frames.push(if kernel { format!("{name}_[k]") } else { name });
    }

    fn end_of_sample(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let user = self.frames.len() - self.in_kernel;
        self.samples += 1;
        self.shallow += u64::from(user <= SHALLOW);
        self.kernel += u64::from(self.in_kernel > 0);
        let frames = std::iter::once(thread.as_str()).chain(self.frames.iter().rev().map(String::as_str));
        self.folded.add(frames, 1);
        self.frames.clear();
        self.in_kernel = 0;
    }
}

fn is_kernel(file: &str) -> bool {
    file.starts_with("[kernel")
        || file.starts_with("[guest.kernel")
        || file.ends_with(".ko")
        || file.ends_with(".ko.xz")
}

/// A symbol without offset and without the hash that compilers append, so that two builds of a function are one.
fn function(symbol: &str) -> &str {
    let symbol = symbol.trim();
    let symbol = match symbol.rsplit_once("+0x") {
        Some((name, offset)) if offset.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => symbol,
    };
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => symbol,
    }
}
