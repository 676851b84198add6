use super::*;

/// As perf 6.1 prints it: two samples of one stack, one of the kernel below it, one without any frame, one of an unknown symbol.
const SCRIPT: &str = "tokio-runtime-w   4711 
\t    55d0c0f2a1 mipro_service::engine::decide::h0123456789abcdef+0x1f (/home/somebody/target/release/mipro)
\t    55d0c0f000 <alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once+0x40 (/home/somebody/target/release/mipro)
\t    7f0000 start_thread+0x2d (/usr/lib/x86_64-linux-gnu/libc.so.6)

tokio-runtime-w   4711 
\t    55d0c0f2b7 mipro_service::engine::decide::hfedcba9876543210+0x35 (/home/somebody/target/release/mipro)
\t    55d0c0f000 <alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once+0x40 (/home/somebody/target/release/mipro)
\t    7f0000 start_thread+0x2d (/usr/lib/x86_64-linux-gnu/libc.so.6)

log writer   4712 
\tffffffff8110 ext4_sync_file ([kernel.kallsyms])
\tffffffff8120 do_syscall_64 ([kernel.kallsyms])
\t    7f1234 fdatasync+0x10 (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t    55d0 a::b::hello (/home/somebody/target/release/mipro)
\t    55d0 c (x) (/home/somebody/target/release/mipro)
\t    55d0 d (/home/somebody/target/release/mipro)

mipro   4710 

mipro   4710 
\t    7f99 [unknown] (/usr/lib/x86_64-linux-gnu/libm.so.6)
\t    0 [unknown] ([unknown])
";

fn collapsed(text: &str) -> Collapsed {
    let mut collapser = Collapser::default();
    text.lines().for_each(|line| collapser.line(line));
    collapser.finish()
}

#[test]
fn perf_script_is_folded() {
    let found = collapsed(SCRIPT);
    insta::assert_snapshot!(found.stacks.to_text(), @r"
    log writer;d;c (x);a::b::hello;fdatasync;do_syscall_64_[k];ext4_sync_file_[k] 1
    mipro 1
    mipro;[unknown];[libm.so.6] 1
    tokio-runtime-w;start_thread;<alloc::boxed::Box<F,A> as core::ops::function::FnOnce<Args>>::call_once;mipro_service::engine::decide 2
    ");
    assert_eq!((found.samples, found.shallow, found.kernel), (5, 4, 1));
    assert!(!found.stacks.to_text().contains("somebody"), "where files lie is not told");
}

#[test]
fn text_that_is_no_script_breaks_nothing() {
    for text in ["", "\n\n", "\t 55 orphan (x)\n", "only a head", "\u{fffd}\u{fffd} 1\n\t\n\t x\n"] {
        let _ = collapsed(text);
    }
    assert!(collapsed("\t 55 orphan (x)\n").stacks.is_empty());
    let deep: String =
        std::iter::once("t 1\n".to_owned()).chain((0..1_000).map(|n| format!("\t 5 f{n} (x)\n"))).collect();
    let stacks = collapsed(&deep).stacks;
    let (stack, _) = stacks.iter().next().unwrap();
    assert_eq!(stack.split(';').count(), 257, "a thread and so many frames");
    assert!(stack.ends_with(";f0"), "the innermost are kept");
}

#[test]
fn what_the_picture_lacks_is_said() {
    let notes = collapsed("t 1\n\t 5 f (x)\n").notes("blob");
    assert!(
        notes[0].starts_with("blob: most CPU stacks are cut short") && notes[0].contains("just flame"),
        "{notes:?}"
    );
    assert!(notes[1].starts_with("blob: the kernel's part of the CPU is missing"), "{notes:?}");
    let deep = "t 1\n\t 5 sys ([kernel.kallsyms])\n\t 5 a (x)\n\t 5 b (x)\n\t 5 c (x)\n\t 5 d (x)\n";
    assert_eq!(collapsed(deep).notes("blob"), Vec::<String>::new());
}

#[test]
fn why_there_is_no_picture_is_a_sentence() {
    insta::assert_snapshot!(refused("Error:\nAccess to performance monitoring is limited.", Some(3)), @"No CPU flamegraph: perf was refused: Error (kernel.perf_event_paranoid is 3). It takes CAP_PERFMON, or kernel.perf_event_paranoid at 2 or less and the same user; containers often forbid it altogether. In its stead the wall clock's [poll] leaves and the busy view say in which stages code ran, though not in which functions.");
}

#[tokio::test]
async fn a_perf_that_is_not_there_is_a_reason_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("perf.data");
    let absent = dir.path().join("no-such-perf");
    let why = Recording::start(&absent, 1, data.clone(), dir.path()).await.err().unwrap();
    assert!(why.starts_with("No CPU flamegraph: perf can't be run (No such file"), "{why}");
    // One that ends at once was refused.
    let why = Recording::start(Path::new("false"), 1, data, dir.path()).await.err().unwrap();
    assert!(why.starts_with("No CPU flamegraph: perf was refused: it said nothing"), "{why}");
}
