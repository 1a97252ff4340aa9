//! Header values that Fluffle writes are read back, and invalid values from outside do no harm.
#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use fluffle_wire::headers::HeaderValue::{Int, Str};
use fluffle_wire::headers::{
    self, Attempt, DeadLetterInfo, HeaderValue, InvalidTrace, ItemTraces, ItemTypes, Origin, Reason, TraceContext,
    error_chain,
};

use proptest::prelude::*;

type Table<'a> = Vec<(&'static str, HeaderValue<'a>)>;

fn lookup<'a>(table: &'a Table<'a>) -> impl Fn(&'static str) -> Option<HeaderValue<'a>> {
    |name| table.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

fn attempt(value: HeaderValue<'_>) -> u32 {
    Attempt::read(lookup(&vec![(headers::ATTEMPT, value)])).get()
}

#[test]
fn an_attempt_is_read_from_numbers_and_text_and_nonsense_is_the_first() {
    assert_eq!(Attempt::read(|_| None), Attempt::FIRST);
    assert_eq!(attempt(Int(7)), 7);
    assert_eq!(attempt(Str(" 7 ")), 7);
    for nonsense in [Int(0), Int(-3), Int(i64::MIN), Str(""), Str("seven"), Str("7.5")] {
        assert_eq!(attempt(nonsense), 1, "{nonsense:?}");
    }
}

#[test]
fn an_attempt_too_large_to_count_is_past_every_cap() {
    assert_eq!(attempt(Int(i64::MAX)), u32::MAX);
    assert_eq!(Attempt::new(u32::MAX).unwrap().next().get(), u32::MAX);
    assert_eq!(Attempt::new(0), None);
}

fn info() -> DeadLetterInfo {
    DeadLetterInfo {
        reason: Reason::AttemptsExhausted,
        error: "no room: disk full".into(),
        attempts: Attempt::new(5).unwrap(),
        origin: Origin {
            exchange: "quakes".into(),
            key: "quake.major".into(),
            queue: "alerts".into(),
            first_seen: UNIX_EPOCH + Duration::from_millis(1_517_966_773_840),
        },
    }
}

#[test]
fn a_dead_letter_put_back_into_its_queue_starts_anew() {
    let info = info();
    let table = info.headers().to_vec();
    assert_eq!(Attempt::read(lookup(&table)), Attempt::FIRST);
    assert_eq!(DeadLetterInfo::read(lookup(&table)).unwrap().attempts.get(), 5);
}

#[test]
fn a_dead_letters_story_is_read_as_it_was_written() {
    for reason in [Reason::Rejected, Reason::AttemptsExhausted, Reason::Undecodable, Reason::Other("tired".into())] {
        let info = DeadLetterInfo { reason, ..info() };
        assert_eq!(DeadLetterInfo::read(lookup(&info.headers().to_vec())), Some(info.clone()));
    }
}

#[test]
fn a_message_without_reason_or_origin_is_no_dead_letter() {
    let info = info();
    let without =
        |missing: &str| info.headers().into_iter().filter(|(name, _)| *name != missing).collect::<Table<'_>>();
    for missing in
        [headers::REASON, headers::ORIGIN_EXCHANGE, headers::ORIGIN_KEY, headers::ORIGIN_QUEUE, headers::FIRST_SEEN]
    {
        assert_eq!(DeadLetterInfo::read(lookup(&without(missing))), None, "{missing}");
    }
    assert_eq!(DeadLetterInfo::read(lookup(&without(headers::ERROR))).unwrap().error, "");
    assert_eq!(DeadLetterInfo::read(lookup(&without(headers::ATTEMPT))).unwrap().attempts, Attempt::FIRST);
}

#[test]
fn a_time_that_is_none_makes_no_origin() {
    let info = info();
    for nonsense in [Int(-1), Int(i64::MIN), Str("yesterday")] {
        let mut table = info.origin.headers().to_vec();
        table[3].1 = nonsense;
        assert_eq!(Origin::read(lookup(&table)), None, "{nonsense:?}");
    }
    // A time far in the future is read as a time or as none, but never panics.
    let mut table = info.origin.headers().to_vec();
    table[3].1 = Int(i64::MAX);
    let _ = Origin::read(lookup(&table));
}

#[test]
fn long_texts_are_cut_between_characters_when_written_and_when_read() {
    let info = DeadLetterInfo { error: "é".repeat(5_000), ..info() };
    let written = info.headers().to_vec();
    let error = lookup(&written)(headers::ERROR).unwrap().as_str().unwrap();
    assert!(error.len() <= DeadLetterInfo::ERROR_BYTES);

    let long = "é".repeat(5_000);
    let mut table = info.headers().to_vec();
    for (name, value) in &mut table {
        if *name != headers::FIRST_SEEN && *name != headers::ATTEMPT {
            *value = Str(&long);
        }
    }
    let read = DeadLetterInfo::read(lookup(&table)).unwrap();
    assert!(read.error.len() <= DeadLetterInfo::ERROR_BYTES && read.error.ends_with('…'));
    assert!(read.origin.exchange.len() <= 255 && read.origin.key.len() <= 255 && read.origin.queue.len() <= 255);
    assert!(read.reason.as_str().len() <= 64);
}

#[derive(Debug)]
struct Layer(&'static str, Option<Box<Layer>>);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Layer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|layer| layer as _)
    }
}

#[test]
fn a_chain_of_errors_is_one_line_without_saying_things_twice() {
    let chain = Layer("not saved: disk full", Some(Box::new(Layer("disk full", Some(Box::new(Layer("quota", None)))))));
    assert_eq!(error_chain(&chain), "not saved: disk full: quota");
}

#[test]
fn a_chain_of_errors_has_an_end() {
    let mut chain = Layer("bottom", None);
    for _ in 0..1_000 {
        chain = Layer("why ", Some(Box::new(Layer("x", Some(Box::new(chain))))));
    }
    assert!(error_chain(&chain).len() < 200);
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_traceparent_comes_back_as_it_was() {
    let context: TraceContext = PARENT.parse().unwrap();
    assert_eq!(context.traceparent(), PARENT);
    assert!(context.sampled());
    assert_eq!(context.span_id(), [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert_eq!(TraceContext::new(context.trace_id(), context.span_id(), true), Ok(context));
}

#[test]
fn a_traceparent_of_a_later_version_is_read_as_version_00() {
    for text in [
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-the-future-brings",
    ] {
        assert_eq!(text.parse::<TraceContext>().unwrap().traceparent(), PARENT, "{text}");
    }
}

#[test]
fn what_is_no_traceparent_is_refused() {
    let parse = |text: &str| text.parse::<TraceContext>().unwrap_err();
    for text in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736aa-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47360-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert_eq!(parse(text), InvalidTrace::Form, "{text}");
    }
    assert_eq!(parse(&PARENT.replacen("00", "ff", 1)), InvalidTrace::Version);
    assert_eq!(parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), InvalidTrace::Zero);
    assert_eq!(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"), InvalidTrace::Zero);
    assert_eq!(PARENT.parse::<TraceContext>().unwrap().with_span([0; 8]), Err(InvalidTrace::Zero));
}

fn read(parent: &str, state: &str) -> Option<TraceContext> {
    TraceContext::read(lookup(&vec![(headers::TRACEPARENT, Str(parent)), (headers::TRACESTATE, Str(state))]))
}

#[test]
fn a_good_tracestate_travels_with_its_span() {
    let context = read(PARENT, "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE").unwrap();
    assert_eq!(context.state(), Some("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"));
    assert_eq!(context.with_span([1; 8]).unwrap().state(), context.state());
}

#[test]
fn a_bad_tracestate_is_dropped_and_the_span_kept() {
    let members = |count| (0..count).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
    assert!(read(PARENT, &members(32)).unwrap().state().is_some());
    let long = |value| format!("k={}", "v".repeat(value));
    assert!(read(PARENT, &long(510)).unwrap().state().is_some());
    for bad in [members(33), long(511), "novalue".into(), "=v".into(), "k=\u{e9}".into(), "k\n=v".into(), " , ".into()]
    {
        let context = read(PARENT, &bad).unwrap();
        assert_eq!((context.traceparent().as_str(), context.state()), (PARENT, None), "{bad:?}");
    }
}

#[test]
fn a_message_without_a_usable_traceparent_starts_a_new_trace() {
    assert_eq!(read("rubbish", "k=v"), None);
    assert_eq!(TraceContext::read(|_| Some(Int(1))), None);
    assert_eq!(TraceContext::read(|_| None), None);
}

fn any_value() -> impl Strategy<Value = (usize, Option<String>, i64)> {
    let text = prop_oneof![
        ".{0,60}",
        "[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{15,17}-[0-9a-f]{2}.{0,3}",
        "([a-z]{0,3}=?[a-z]{0,3},){0,40}",
        "-?[0-9]{0,20}",
    ];
    (0_usize..9, proptest::option::of(text), any::<i64>())
}

proptest! {
    #[test]
    fn any_headers_are_read_without_a_panic(values in proptest::collection::vec(any_value(), 0..40)) {
        const NAMES: [&str; 9] = [
            headers::TRACEPARENT, headers::TRACESTATE, headers::ATTEMPT, headers::REASON, headers::ERROR,
            headers::ORIGIN_EXCHANGE, headers::ORIGIN_KEY, headers::ORIGIN_QUEUE, headers::FIRST_SEEN,
        ];
        let table: Table<'_> = values
            .iter()
            .map(|(name, text, number)| (NAMES[*name], text.as_deref().map_or(Int(*number), Str)))
            .collect();
        prop_assert!(Attempt::read(lookup(&table)).get() >= 1);
        if let Some(info) = DeadLetterInfo::read(lookup(&table)) {
            prop_assert_eq!(DeadLetterInfo::read(lookup(&info.headers().to_vec())), Some(info.clone()));
        }
        if let Some(context) = TraceContext::read(lookup(&table)) {
            prop_assert_eq!(context.traceparent().len(), 55);
        }
    }

    #[test]
    fn every_trace_context_comes_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled in any::<bool>()) {
        prop_assume!(trace != [0; 16] && span != [0; 8]);
        let context = TraceContext::new(trace, span, sampled).unwrap();
        prop_assert_eq!(context.traceparent().parse::<TraceContext>().unwrap(), context);
    }
}

fn traced(span: u8) -> TraceContext {
    TraceContext::new([7; 16], [span; 8], true).unwrap()
}

#[test]
fn the_traces_of_items_come_back_and_neighbours_are_kept_once() {
    let (one, two) = (traced(1), traced(2));
    let mut traces = ItemTraces::default();
    for index in 0..1000 {
        traces.push(index, Some(&one));
    }
    traces.push(1002, Some(&two));
    assert_eq!(traces.iter().count(), 2);
    let header = traces.header(1024);
    assert_eq!(header, format!("1000*{} 2*- 1*{}", one.traceparent(), two.traceparent()));
    let read = ItemTraces::parse(&header);
    assert_eq!(read, traces);
    assert_eq!((read.get(999), read.get(1000), read.get(1002), read.get(1003)), (Some(&one), None, Some(&two), None));
    assert_eq!((read.common(1000), read.common(1003)), (None, None));
}

#[test]
fn a_trace_that_all_items_share_is_common_to_them() {
    let mut traces = ItemTraces::default();
    traces.push(0, Some(&traced(1)));
    traces.push(1, Some(&traced(1)));
    assert_eq!((traces.common(2), traces.common(3)), (Some(&traced(1)), None), "the third has none");
}

#[test]
fn traces_without_room_in_the_header_are_left_out_whole() {
    let mut traces = ItemTraces::default();
    (0..10).for_each(|index| traces.push(usize::from(index), Some(&traced(index + 1))));
    let header = traces.header(200);
    assert!(header.len() <= 200, "{header}");
    let read = ItemTraces::parse(&header);
    assert_eq!((read.len(), read.get(2), read.get(3)), (3, Some(&traced(3)), None));
}

#[test]
fn a_damaged_header_of_item_traces_is_read_up_to_the_damage() {
    let good = format!("2*{}", traced(1).traceparent());
    for damage in
        ["", "x", "0*-", "-1*-", "1*", "1*00-00-00-00", &format!("{}*-", u128::MAX), &format!("{}*-", usize::MAX)]
    {
        let read = ItemTraces::parse(&format!("{good} {damage} 5*-"));
        assert_eq!(read.get(1), Some(&traced(1)), "{damage}");
        assert!(read.len() == 2 || damage.is_empty(), "{damage}: {}", read.len());
    }
}

#[test]
fn the_types_of_items_come_back_and_neighbours_are_kept_once() {
    let mut types = ItemTypes::default();
    for name in ["a.A", "a.A", "b.B", "a.A"] {
        types.push(&name.into());
    }
    assert_eq!(types.header(), "2*a.A 1*b.B 1*a.A");
    assert_eq!(ItemTypes::parse(&types.header()), types);
    assert_eq!(
        (0..5).map(|index| types.get(index)).collect::<Vec<_>>(),
        [Some("a.A"), Some("a.A"), Some("b.B"), Some("a.A"), None]
    );
    assert_eq!(types.from(1).header(), "1*a.A 1*b.B 1*a.A");
    assert_eq!(types.from(3).common().map(|name| &**name), Some("a.A"));
    assert!(types.from(4).is_empty() && types.common().is_none());
}

#[test]
fn a_damaged_header_of_item_types_is_read_up_to_the_damage() {
    for damage in ["", "x", "0*a.A", "-1*a.A", "1*", "18446744073709551615*a.A", "*"] {
        let types = ItemTypes::parse(&format!("2*a.A {damage} 1*b.B"));
        assert_eq!(types.len(), if damage.is_empty() { 3 } else { 2 }, "{damage}");
    }
}

#[test]
fn a_header_of_item_types_has_a_limit_that_the_batch_keeps() {
    let mut types = ItemTypes::default();
    let names: [std::sync::Arc<str>; 2] = ["a.A".into(), "b.B".into()];
    while types.has_room_for(&names[types.len() % 2]) {
        let name = &names[types.len() % 2];
        types.push(name);
    }
    assert!(types.header().len() <= ItemTypes::MOST && types.len() > 300);
    assert!(types.has_room_for(&names[(types.len() - 1) % 2]), "another of the same type takes no more room");
}
