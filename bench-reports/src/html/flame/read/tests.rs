use super::*;

const ROW: &str = "<g><title>all (10 samples, 100%)</title><rect x=\"0.0%\" y=\"50\" width=\"100.0%\" height=\"15\" fill=\"rgb(1,22,255)\" fg:x=\"0\"/></g>";

fn graph(more: &str) -> Vec<Frame> {
    frames(&format!("<svg><rect x=\"0\" y=\"0\" width=\"100%\" fill=\"url(#b)\"/>{ROW}{more}</svg>"))
}

fn frame(x: f64, width: f64, depth: u32, title: &str) -> Frame {
    Frame { x, width, depth, title: title.to_owned(), fill: Some([1, 22, 255]) }
}

#[test]
fn inferno_s_frames_are_read_from_the_root_up() {
    let more = "<g><title>f&lt;T&gt; (6 samples, 60%)</title><rect x=\"40%\" y=\"34\" width=\"60%\" fill=\"rgb(1,22,255)\"/></g>\
                <g><title>g (3 samples, 30%)</title><rect x=\"70%\" y=\"18\" width=\"30%\" fill=\"rgb(1,22,255)\"/></g>";
    assert_eq!(
        graph(more),
        [
            frame(0.0, 100.0, 0, "all (10 samples, 100%)"),
            frame(40.0, 60.0, 1, "f<T> (6 samples, 60%)"),
            frame(70.0, 30.0, 2, "g (3 samples, 30%)"),
        ]
    );
}

/// flamegraph.pl writes pixels from a margin on, and `<g >`.
#[test]
fn pixels_are_turned_into_shares() {
    let svg = "<svg><g ><title>all (4 samples)</title><rect x=\"10.0\" y=\"33\" width=\"1180.0\" height=\"15.0\" fill=\"rgb(1,22,255)\" rx=\"2\" /></g>\
               <a xlink:href=\"http://x\"><title>f (2 samples)</title><rect x=\"600\" y=\"17\" width=\"590\" fill=\"rgb(1,22,255)\" rx=\"2\"/></a></svg>";
    assert_eq!(frames(svg), [frame(0.0, 100.0, 0, "all (4 samples)"), frame(50.0, 50.0, 1, "f (2 samples)")]);
}

#[test]
fn what_is_no_frame_is_passed_over() {
    for more in [
        "<!-- <g><title>x</title><rect x=\"0\" y=\"1\" width=\"5\"/></g> -->",
        "<script>'<g><title>x</title><rect x=\"0\" y=\"1\" width=\"5\"/></g>'</script>",
        "<style><g><title>x</title><rect x=\"0\" y=\"1\" width=\"5\"/></g></style>",
        "<![CDATA[<g><title>x</title><rect x=\"0\" y=\"1\" width=\"5\"/></g>]]>",
        "<g><title>x</title></g><g><rect x=\"0\" y=\"1\" width=\"5\"/></g>",
        "<g><title>x</title><rect x=\"0\" y=\"1\" width=\"0\"/></g>",
        "<g><title>x</title><rect x=\"NaN\" y=\"1\" width=\"5\"/></g>",
        "<g><title>x</title><rect rx=\"0\" y=\"1\" width=\"5\"/></g>",
        "<g><title>x</title><rect x=\"0\" y=\"1\" width=\"5\"",
        "<!-- never closed",
    ] {
        assert_eq!(graph(more).len(), 1, "{more}");
    }
    for text in ["", "no markup", "<svg></svg>", "<", "<g><title>", "<rect>"] {
        assert_eq!(frames(text), [], "{text}");
    }
}

#[test]
fn colours_are_three_numbers_or_none() {
    assert_eq!(rgb("rgb(0, 128 ,255)"), Some([0, 128, 255]));
    for text in
        ["rgb(256,0,0)", "rgb(1,2)", "rgb(1,2,3,4)", "rgb(1,2,3);x", "red", "url(#x)", "rgb(-1,2,3)", ""]
    {
        assert_eq!(rgb(text), None, "{text}");
    }
}

#[test]
fn titles_are_unescaped_once() {
    assert_eq!(unescaped("&amp;lt; &lt;&gt;&quot;&apos;"), "&lt; <>\"'");
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "[<>/a-z=\"%0-9 !\\[\\]&;-]{0,200}") {
        for frame in frames(&text) {
            proptest::prop_assert!(frame.x.is_finite() && frame.width > 0.0);
        }
    }
}
