use super::*;

fn folded(stacks: &[(&[&str], u64)]) -> Folded {
    let mut folded = Folded::default();
    for (frames, count) in stacks {
        folded.add(frames.iter().copied(), *count);
    }
    folded
}

#[test]
fn counts_of_a_stack_add_up_and_the_text_reads_back() {
    let one = folded(&[(&["a", "b"], 3), (&["a"], 1), (&["a", "b"], 4), (&["a", "zero"], 0), (&[], 9)]);
    assert_eq!(one.to_text(), "a 1\na;b 7\n");
    assert_eq!(one.total(), 8);
    assert_eq!(Folded::parse(&one.to_text()), Ok(one));
}

#[test]
fn names_can_not_pass_for_other_stacks() {
    let one = folded(&[(&["impl A; B", " ", "two\nlines 7"], 2)]);
    assert_eq!(one.to_text(), "impl A: B;two lines 7 2\n");
    assert_eq!(Folded::parse(&one.to_text()), Ok(one));
}

#[test]
fn what_goes_beyond_the_bound_is_still_counted() {
    let mut few = Folded::bounded(2);
    for (name, count) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("a", 5)] {
        few.add([name], count);
    }
    assert_eq!(few.to_text(), "[stacks beyond the bound] 7\na 6\nb 2\n");
    assert_eq!(few.total(), 15);
}

#[test]
fn a_part_of_it_is_taken_by_the_stack_or_by_the_last_frame() {
    let all = folded(&[(&["x", "[await]"], 5), (&["x", "y", "[await]"], 6), (&["[await]", "z"], 7)]);
    assert_eq!(all.total_at("[await]"), 11);
    assert_eq!(all.only(|stack| stack.starts_with("x;")).total(), 11);
}

#[test]
fn a_line_that_is_no_stack_is_named() {
    for (text, line) in [("a;b 1\n\nnonsense\n", 3), ("a -1", 1), (" 7", 1), ("a 1.5", 1)] {
        assert_eq!(Folded::parse(text), Err(NotFolded { line }), "{text}");
    }
    assert_eq!(Folded::parse("all; request; db.query 12\n").unwrap().to_text(), "all;request;db.query 12\n");
}
