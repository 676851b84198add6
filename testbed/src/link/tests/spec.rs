use proptest::prelude::*;

use crate::link::{LinkSpec, PRESETS, Profile, ProfileError};

#[test]
fn presets_parse_and_display_as_themselves() {
    for name in PRESETS {
        let spec: LinkSpec = name.parse().unwrap();
        assert_eq!(spec.to_string(), name);
        assert_eq!(spec.fitted, name == "cross-region", "only cross-region is fitted to an earlier system");
        spec.db.check().unwrap();
        spec.s3.check().unwrap();
    }
}

#[test]
fn cross_region_lands_inside_the_figures_it_is_fitted_to() {
    let LinkSpec { db, s3, .. } = LinkSpec::cross_region();
    // A new connection each time: four round trips for a query, two for an S3 request; jitter adds its mean.
    let query_ms = 4 * (db.rtt_us + db.jitter_us) / 1000;
    assert!((200..=370).contains(&query_ms), "{query_ms} ms");
    let put_ms = |bytes: u64| {
        2 * (s3.rtt_us + s3.jitter_us) / 1000 + bytes * 8 * 1000 / s3.up_bits_per_second.unwrap()
    };
    assert!((100..=125).contains(&put_ms(4 << 10)), "{} ms", put_ms(4 << 10));
    assert!(put_ms(1 << 20) >= put_ms(4 << 10) + 400, "an upload grows with the state");
}

#[test]
fn values_make_a_link() {
    let spec: LinkSpec = " db=12ms, s3=1.5ms,up=50mbit ,jitter=800us".parse().unwrap();
    let profile = |rtt_us| Profile {
        rtt_us,
        jitter_us: 800,
        up_bits_per_second: Some(50_000_000),
        down_bits_per_second: None,
    };
    assert_eq!((spec.db, spec.s3, spec.fitted), (profile(12_000), profile(1_500), false));
    assert_eq!(spec.to_string(), "db=12ms,s3=1500us,up=50mbit,jitter=800us");
    assert_eq!("s3=1s".parse::<LinkSpec>().unwrap().to_string(), "db=0ms,s3=1000ms");
}

#[test]
fn errors_say_what_to_write() {
    let error = |text: &str| text.parse::<LinkSpec>().unwrap_err().to_string();
    insta::assert_snapshot!(error("moon"), @r#"unknown link "moon": use loopback, same-region, cross-region, or values such as db=12ms,s3=40ms,up=50mbit"#);
    insta::assert_snapshot!(error("db=12ms,fast"), @r#"unknown link "fast": use loopback, same-region, cross-region, or values such as db=12ms,s3=40ms,up=50mbit"#);
    insta::assert_snapshot!(error("dbb=12ms"), @r#"unknown link value "dbb": the keys are db, s3, jitter, up and down"#);
    insta::assert_snapshot!(error("db=12ms,db=13ms"), @"link value db is given twice");
    insta::assert_snapshot!(error("db=12"), @r#"db="12" is not a time: write 12ms, 800us or 1.5s, at most 60s"#);
    insta::assert_snapshot!(error("s3=40ms,up=50"), @r#"up="50" is not a bandwidth: write 50mbit, 800kbit or 1gbit (a second), at least 1kbit"#);
    insta::assert_snapshot!(error("up=50mbit"), @"a link needs db=<round trip> or s3=<round trip>, such as db=12ms,s3=40ms");
    for bad in
        ["db=-1ms", "db=ms", "db=1e9s", "db=61s", "db=NaNms", "db=1.2.3ms", "db=1ms,up=0mbit", "db=+1ms"]
    {
        error(bad);
    }
}

#[test]
fn profiles_out_of_range_are_refused() {
    let slow = Profile { rtt_us: Profile::DELAY_US_MAX + 1, ..Profile::default() };
    assert!(matches!(slow.check(), Err(ProfileError::Delay { name: "rtt_us", .. })));
    let narrow = Profile { down_bits_per_second: Some(0), ..Profile::default() };
    assert!(matches!(narrow.check(), Err(ProfileError::Bandwidth { name: "down_bits_per_second", .. })));
}

proptest! {
    #[test]
    fn any_link_displays_as_something_that_parses_to_the_same(
        db in proptest::option::of(0_u64..=60_000_000),
        s3 in 0_u64..=60_000_000,
        up in proptest::option::of(1_000_u64..=100_000_000_000),
        down in proptest::option::of(1_000_u64..=100_000_000_000),
        jitter in proptest::option::of(0_u64..=60_000_000),
    ) {
        let mut text = format!("s3={s3}us");
        for (key, value, unit) in [("db", db, "us"), ("up", up, "bit"), ("down", down, "bit"), ("jitter", jitter, "us")] {
            if let Some(value) = value {
                text = format!("{key}={value}{unit},{text}");
            }
        }
        let spec: LinkSpec = text.parse().unwrap();
        prop_assert_eq!(spec.db.rtt_us, db.unwrap_or(0));
        prop_assert_eq!(spec.s3.rtt_us, s3);
        prop_assert_eq!(spec.s3.up_bits_per_second, up);
        prop_assert_eq!(spec.db.down_bits_per_second, down);
        prop_assert_eq!(&spec.to_string().parse::<LinkSpec>().unwrap(), &spec);
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<LinkSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[a-z0-9=,.µ]{0,30}") {
        let _ = text.parse::<LinkSpec>();
    }
}
