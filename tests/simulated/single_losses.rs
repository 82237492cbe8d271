//! Whichever packet is lost of a join, a dial, a flow and a shutdown: all goes well.

use grinta_tests::{Lines, Outcome, Plan};

#[test]
fn any_one_packet_from_the_newcomer_may_be_lost() {
    lose_each("n1", "n0", "10.0.0.2:7400 > 10.0.0.1:7400");
}

#[test]
fn any_one_packet_to_the_newcomer_may_be_lost() {
    lose_each("n0", "n1", "10.0.0.1:7400 > 10.0.0.2:7400");
}

/// Loses each of the packets that go one way until the newcomer is gone again.
fn lose_each(from: &str, to: &str, way: &str) {
    let all = live("");
    assert_eq!(all.violation, None);
    let time = |line: &str| line.split_whitespace().next().unwrap().parse::<f64>();
    let of_life = |line: &&String| line.contains(way) && !line.ends_with("arrive");
    let packets = all.lines.iter().filter(of_life);
    let packets = packets
        .take_while(|line| time(line).unwrap() < GONE_BY)
        .count();
    assert!(packets >= 20, "{packets}");
    for number in 1..=packets {
        let loss = format!("at 0s lose-packet {number} from {from} to {to}");
        let outcome = live(&loss);
        assert_eq!(outcome.violation, None, "{loss}");
        let mut of_way = outcome.lines.iter().filter(of_life);
        let line = of_way.nth(number - 1).unwrap();
        assert!(line.ends_with("lost"), "{loss}: {line}");
    }
}

/// A node joins another one, sends something there, and goes.
fn live(loss: &str) -> Outcome {
    let text = format!(
        "tier full\nnodes 2\nchaos 6s\n{loss}\nat 400ms claim n0 a\n\
        at 600ms open n1 a messages 3 bytes 2000 every 1ms then finish\nat 1s shut-down n1\n"
    );
    Plan::parse(&text).unwrap().run(Lines::Kept)
}

/// When the newcomer has shut down, in seconds.
const GONE_BY: f64 = 1.5;
