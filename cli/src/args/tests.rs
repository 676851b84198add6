use clap::{CommandFactory as _, Parser as _};

use super::*;

fn error(line: &str) -> String {
    let words = line.split_whitespace();
    Cli::try_parse_from(words).expect_err("this line is wrong").to_string()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_defaults_tell_the_whole_story() {
    let cli = Cli::try_parse_from(["mipro", "bench"]).unwrap();
    let Command::Bench(args) = cli.command else { panic!("not bench") };
    assert_eq!(args.rungs.0, mipro_harness::RungName::ALL);
    assert_eq!(
        (args.link.to_string().as_str(), args.ground.stack.to_string().as_str()),
        ("cross-region", "auto")
    );
    assert!(!args.quick && args.llm.is_none() && args.history == 0);
}

#[test]
fn bad_values_are_named_with_what_is_allowed() {
    assert!(
        error("mipro bench --rungs fast").contains("there is no rung `fast`; rungs are all, direct, blob")
    );
    assert!(error("mipro bench --timeout 10").contains("has no unit; say 10s or 10ms"));
    assert!(error("mipro bench --systems 0").contains("0 is not in 1..=1024"));
    assert!(error("mipro bench -n 0").contains("at least 1 is needed"));
    assert!(error("mipro load -n 10").contains("<--target <URL>|--url <URL>|--calibrate>"));
    assert!(error("mipro load --url http://h/").contains("--body <FILE>"));
    assert!(error("mipro bench --stack external --database sqlite:x").contains("--blobs <URL>"));
}

#[test]
fn every_command_shows_examples() {
    let cli = Cli::command();
    let commands = cli.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for command in commands.flat_map(|command| std::iter::once(command).chain(command.get_subcommands())) {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("Examples:"), "`mipro {} --help` shows no example", command.get_name());
    }
}
