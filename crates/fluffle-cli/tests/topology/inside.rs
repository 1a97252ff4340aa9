//! On the broker inside the process, which speaks AMQP alone.

use fluffle_broker::Broker;

use crate::support::{arguments, file, hand, path, text, topology};

const FILE: &str = "
    [[exchange]]
    name = \"orders\"
    type = \"topic\"
    [[queue]]
    name = \"work\"
    type = \"quorum\"
    delivery_limit = 5
    [[queue.binding]]
    exchange = \"orders\"
    key = \"a.#\"
    [[queue]]
    name = \"other\"
    type = \"classic\"
";

#[test]
fn plan_apply_and_a_conflict() {
    let broker = Broker::start().unwrap();
    let url = broker.url();
    let toml = file(FILE, ".toml");
    let run = |arguments: &[&str]| topology(&[arguments, &[path(&toml), "--url", &url, "--json"]].concat());
    for _ in 0..2 {
        // The second plan would find what the first had created.
        let plan = run(&["plan"]);
        assert_eq!(plan.code, 1, "{plan:?}");
        assert!(plan.statuses().values().all(|status| status == "create"), "{plan:?}");
    }
    assert_eq!(run(&["apply", "--yes"]).code, 0);
    let statuses = run(&["plan"]).statuses();
    assert_eq!(statuses["queue work"], "unchanged", "{statuses:?}");
    assert_eq!(statuses["binding orders work a.#"], "bind", "{statuses:?}");
    let hand = hand(&url);
    hand.delete_queue("other");
    hand.queue("other", arguments([("x-queue-type", text("quorum"))]));
    hand.publish("other");
    let plan = run(&["plan"]);
    assert_eq!(plan.code, 2);
    let other = plan.item("other");
    assert_eq!(other["status"], "refused", "{other}");
    assert_eq!(other["differences"][0]["argument"], "x-queue-type", "{other}");
}
