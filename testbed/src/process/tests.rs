use super::usage::Stat;
use super::{Ready, usage};

#[test]
fn ready_lines_are_read_and_others_refused() {
    let ready = |url: &str, admin: Option<&str>| {
        Some(Ready { url: url.to_owned(), admin_url: admin.map(str::to_owned) })
    };
    let postgres = "postgres://postgres@127.0.0.1:5433/mipro";
    for (line, expected) in [
        ("listening on http://127.0.0.1:80\n", ready("http://127.0.0.1:80", None)),
        (&format!("listening on {postgres}"), ready(postgres, None)),
        (
            "listening on tcp://127.0.0.1:1 admin http://127.0.0.1:2",
            ready("tcp://127.0.0.1:1", Some("http://127.0.0.1:2")),
        ),
        ("listening on http://127.0.0.1", None),
        ("listening on 127.0.0.1:80", None),
        ("listening on http://127.0.0.1:80 admin", None),
        ("listening on http://127.0.0.1:80 admin http://127.0.0.1:81 and more", None),
        ("listening on http://127.0.0.1:80 (debug)", None),
        ("database system is ready", None),
        ("", None),
    ] {
        assert_eq!(Ready::parse(line), expected, "{line:?}");
    }
    assert_eq!(ready(postgres, None).unwrap().address(), Some("127.0.0.1:5433"));
}

#[test]
fn a_program_name_with_brackets_and_spaces_does_not_shift_the_fields() {
    let line = "42 (a ) S 9 (b) S 7 42 42 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 1 0 100 0 0";
    let stat = Stat::parse(line).unwrap();
    assert_eq!(stat.parent, 7);
    assert_eq!((stat.user_ticks, stat.system_ticks), (11.0, 12.0));
    assert_eq!((stat.reaped_user_ticks, stat.reaped_system_ticks), (13.0, 14.0));
    assert!(Stat::parse("42 (short) S 7").is_none());
}

#[test]
fn a_process_that_does_not_exist_has_no_usage() {
    // Process ids end at 2^22 on Linux.
    assert_eq!(usage::of_process(i32::MAX), None);
    assert_eq!(usage::of_tree(i32::MAX), None);
}
