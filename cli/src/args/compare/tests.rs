use super::*;

#[test]
fn a_margin_is_a_percentage_or_a_share() {
    assert_eq!(margin("10%"), Ok(0.1));
    assert_eq!(margin("0.25"), Ok(0.25));
    assert_eq!(share("0"), Ok(0.0));
    for wrong in ["0", "-5%", "ten", "", "inf"] {
        assert!(margin(wrong).is_err(), "{wrong}");
    }
}
