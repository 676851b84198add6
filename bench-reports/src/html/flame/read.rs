//! Reads the frames of a flamegraph's SVG, as inferno and flamegraph.pl write it. Of the file only numbers, colours of the
//! form `rgb(r,g,b)` and titles (as text) are taken: no script, style, link or other markup of it can reach the page.

#[cfg(test)]
mod tests;

/// Frames read of one file at most.
const FRAMES_MAX: usize = 200_000;

/// One frame: where it stands, in percent of the whole and rows from the root, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) x: f64,
    pub(crate) width: f64,
    /// 0 is the root.
    pub(crate) depth: u32,
    /// `name (123 samples, 4.5%)`
    pub(crate) title: String,
    /// Red, green, blue.
    pub(crate) fill: Option<[u8; 3]>,
}

/// A rectangle as it stands in the file.
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    title: String,
    fill: Option<[u8; 3]>,
}

/// The frames of a flamegraph, in the file's order; none where the text is no flamegraph.
pub(crate) fn frames(svg: &str) -> Vec<Frame> {
    placed(rects(svg))
}

/// Every rectangle with a title before it in its group.
fn rects(svg: &str) -> Vec<Rect> {
    let mut found = Vec::new();
    let mut title: Option<String> = None;
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(end) = skipped(rest) {
            rest = &rest[end..];
            continue;
        }
        let Some(end) = rest.find('>') else { break };
        let tag = &rest[1..end];
        // A tag that is cut off by the next one is none.
        if let Some(next) = tag.find('<') {
            rest = &rest[next + 1..];
            continue;
        }
        rest = &rest[end + 1..];
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
        match name {
            "g" | "a" => title = None,
            "title" => {
                let text = &rest[..rest.find('<').unwrap_or(rest.len())];
                title = Some(unescaped(text.trim()));
            }
            "rect" => {
                if let Some(rect) = title.take().and_then(|title| rect(tag, title)) {
                    found.push(rect);
                }
                if found.len() >= FRAMES_MAX {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The length of a comment, a CDATA section, a script or a style that begins here: what is in it is no markup.
fn skipped(text: &str) -> Option<usize> {
    const SPANS: [(&str, &str); 4] =
        [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<script", "</script>"), ("<style", "</style>")];
    let (start, end) = SPANS.iter().find(|(start, _)| text.starts_with(start))?;
    let from = start.len();
    Some(text[from..].find(end).map_or(text.len(), |at| from + at + end.len()))
}

fn rect(tag: &str, title: String) -> Option<Rect> {
    let number = |name| {
        let value: f64 = attribute(tag, name)?.trim_end_matches('%').parse().ok()?;
        value.is_finite().then_some(value)
    };
    let width = number("width").filter(|width| *width > 0.0)?;
    let fill = attribute(tag, "fill").and_then(rgb);
    Some(Rect { x: number("x")?, y: number("y")?, width, title, fill })
}

/// The value of an attribute, as it stands between its quotes.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    while let Some(at) = rest.find(name) {
        let before = rest[..at].chars().next_back();
        let after = &rest[at + name.len()..];
        // `x` must not be found in `fg:x` or `rx`.
        if before.is_some_and(char::is_whitespace)
            && let Some(value) = after.strip_prefix("=\"")
        {
            return value.split('"').next();
        }
        rest = after;
    }
    None
}

fn rgb(text: &str) -> Option<[u8; 3]> {
    let parts = text.trim().strip_prefix("rgb(")?.strip_suffix(')')?;
    let mut channels = parts.split(',').map(|part| part.trim().parse::<u8>().ok());
    let rgb = [channels.next()??, channels.next()??, channels.next()??];
    channels.next().is_none().then_some(rgb)
}

fn unescaped(text: &str) -> String {
    // The ampersand last, so that nothing is unescaped twice.
    const ENTITIES: [(&str, &str); 6] =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    ENTITIES.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

/// Rectangles as frames: the widest at either end of the drawing is the root, and rows are counted from it.
fn placed(rects: Vec<Rect>) -> Vec<Frame> {
    let low = rects.iter().map(|rect| rect.x).fold(f64::MAX, f64::min);
    let high = rects.iter().map(|rect| rect.x + rect.width).fold(f64::MIN, f64::max);
    let root_y = rects
        .iter()
        .reduce(|root, rect| if rect.width > root.width { rect } else { root })
        .map(|root| root.y);
    let (Some(root_y), true) = (root_y, high > low) else { return Vec::new() };
    let mut distances: Vec<f64> = rects.iter().map(|rect| (rect.y - root_y).abs()).collect();
    distances.sort_by(f64::total_cmp);
    distances.dedup_by(|a, b| (*a - *b).abs() < 0.5);
    let share = 100.0 / (high - low);
    let frame = |rect: Rect| {
        let distance = (rect.y - root_y).abs();
        // Rows are as many as there are distances, so this fits.
        let depth = distances.partition_point(|other| *other < distance - 0.5) as u32;
        Frame {
            x: (rect.x - low) * share,
            width: rect.width * share,
            depth,
            title: rect.title,
            fill: rect.fill,
        }
    };
    rects.into_iter().map(frame).collect()
}
