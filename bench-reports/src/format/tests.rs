use super::*;

#[test]
fn three_digits_whatever_the_size() {
    let shown = [0.0, 0.000_4, 0.012_34, 0.999_4, 0.999_6, 3.904, 9.996, 45.06, 99.96, 2912.4, 1_234_567.0];
    let expected =
        ["0", "<0.001", "0.012", "0.999", "1.00", "3.90", "10.0", "45.1", "100", "2,912", "1,234,567"];
    assert_eq!(shown.map(three_digits), expected);
    assert_eq!(three_digits(f64::NAN), "–");
    assert_eq!(three_digits(-1500.0), "-1,500");
    assert_eq!(thousands(-0.2), "0");
}

#[test]
fn units_and_shares() {
    assert_eq!(
        [0.0, 512.0, 1500.0, 47_000.0, 5e9].map(bytes),
        ["0 B", "512 B", "1.46 KiB", "45.9 KiB", "4.66 GiB"]
    );
    assert_eq!(
        [0.0, 12.0, 0.004, 0.25, 3.0, 1234.0].map(per_rollout),
        ["0", "12", "<0.01", "0.25", "3", "1,234"]
    );
    assert_eq!([0.0, 0.000_2, 0.031, 0.5].map(percent), ["0 %", "<0.1 %", "3.1 %", "50 %"]);
    assert_eq!(with_ms(1500.0), "1.50 ms");
    assert_eq!(times(747.2), "747×");
    assert_eq!([counted(1, "rung", "rungs"), counted(8, "rung", "rungs")], ["1 rung", "8 rungs"]);
}
