use proptest::prelude::*;

use super::{field_before, parse, split_at_error};

#[test]
fn the_field_before_an_error_is_found() {
    assert_eq!(field_before("{\"reward\": -"), Some("reward".into()));
    assert_eq!(field_before("{\"reward\"\n :"), Some("reward".into()));
    assert_eq!(field_before("{\"reward\": 1."), None);
    assert_eq!(field_before("{"), None);
    assert_eq!(field_before(":"), None);
    assert_eq!(field_before("\":"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn the_place_of_an_error_lies_within_the_text(text in "[\\{\\}\\[\\]\",:\nNaé1.e-]{0,40}") {
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
            let (before, after) = split_at_error(text.as_bytes(), &error);
            prop_assert_eq!(format!("{before}{after}"), text);
        }
    }
}
