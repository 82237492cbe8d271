//! Attackers get nowhere, and it is not for want of trying.

use grinta_tests::{Lines, Plan};

/// What each attacker must be seen to do, at least so often in twenty seconds.
const DEEDS: [(&str, &str, usize); 8] = [
    (
        "without-certificate",
        "is refused without a good certificate",
        15,
    ),
    (
        "foreign-ca",
        "is refused with a foreign CA's certificate",
        3,
    ),
    ("expired", "is refused without a good certificate", 15),
    ("liar", "is refused under another's name", 15),
    ("replayed", "sends what was sent before", 300),
    ("amplify", "has its victim answered", 80),
    ("slow-loris", "begins a handshake", 300),
    ("frames", "is refused with nonsense", 15),
];

#[test]
fn attackers_try_and_change_nothing() {
    for (attack, deed, times) in DEEDS {
        let text = format!(
            "tier full\nnodes 3\nchaos 35s\nat 5s claim n1 a\nat 12s attack n1 {attack} for 20s\n\
            at 15s open n0 a messages 20 bytes 100 every 500ms then finish\n\
            at 16s open n2 a messages 20 bytes 100 every 500ms then finish\n"
        );
        // Without the attacker the honest are told the same: that is an invariant, too.
        let outcome = Plan::parse(&text).unwrap().run(Lines::Kept);
        assert_eq!(outcome.violation, None, "{attack}");
        let deeds = outcome.lines.iter().filter(|line| line.contains(deed));
        let deeds = deeds.count();
        assert!(deeds >= times, "{attack}: {deed}, {deeds} times");
    }
}
