//! A plan as text for people.

use comfy_table::{Cell, Color};

use crate::{
    common::output::{Colour, OutputArgs, safe, table},
    topology::{
        item::{Difference, Item, Status},
        plan::{End, Plan},
    },
};

fn colour(status: Status) -> Colour {
    match status {
        Status::Refused => Colour::Red,
        Status::New | Status::Policy | Status::Unknown => Colour::Yellow,
        Status::Create => Colour::Green,
        Status::Bind => Colour::Cyan,
        Status::Skipped | Status::Unchanged => Colour::Dim,
    }
}

fn cell_colour(status: Status) -> Color {
    match colour(status) {
        Colour::Red => Color::Red,
        Colour::Yellow => Color::Yellow,
        Colour::Green => Color::Green,
        Colour::Cyan => Color::Cyan,
        Colour::Dim => Color::DarkGrey,
        Colour::Bold => Color::Reset,
    }
}

/// The plan: a table with one line for each entity, then what a person has to do.
pub(crate) fn plan(plan: &Plan, output: &OutputArgs) -> String {
    let title = format!("{}, virtual host {}", plan.broker, safe(&plan.vhost));
    let mut text = output.paint(Colour::Bold, &title) + "\n";
    let mut lines = table(&["", "name", "plan", "how it is known"]);
    for item in &plan.items {
        let known = item.known.words();
        let status = Cell::new(item.status.words());
        // The table counts its own colours out of a column's width, and no others.
        let status = if output.has_colour() { status.fg(cell_colour(item.status)) } else { status };
        lines.add_row([Cell::new(item.entity.kind()), Cell::new(safe(&item.entity.name())), status, Cell::new(known)]);
    }
    if output.has_colour() {
        lines.enforce_styling();
    }
    text.push_str(&format!("{lines}\n"));
    for item in plan.items.iter().filter(|item| item.status.is_by_hand()) {
        text.push_str(&by_hand(item, output));
    }
    text.push_str(&summary(plan));
    text
}

fn by_hand(item: &Item, output: &OutputArgs) -> String {
    let title = format!("{} {}: {}", item.entity.kind(), safe(&item.entity.name()), item.status.words());
    let mut text = format!("\n{}\n", output.paint(colour(item.status), &title));
    for difference in &item.differences {
        text.push_str(&format!("  {}\n", differs(difference)));
    }
    if let (Some(messages), Some(consumers)) = (item.messages, item.consumers) {
        text.push_str(&format!("  it holds {messages} messages, and has {consumers} consumers\n"));
    }
    if !item.why.is_empty() {
        text.push_str(&format!("  {}\n", safe(&item.why)));
    }
    for (number, step) in item.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}\n", number + 1, safe(step)));
    }
    text
}

fn differs(difference: &Difference) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), safe);
    format!(
        "{}: the file says {}, the broker has {}",
        safe(&difference.argument),
        value(&difference.wanted),
        value(&difference.existing)
    )
}

fn summary(plan: &Plan) -> String {
    let counts = [
        (Status::Create, "to create"),
        (Status::Bind, "to bind, if they are not bound"),
        (Status::Policy, "to change by policy"),
        (Status::New, "to replace by hand"),
        (Status::Refused, "refused"),
        (Status::Unknown, "unknown"),
        (Status::Skipped, "not planned"),
        (Status::Unchanged, "unchanged"),
    ];
    let counts = counts.iter().filter(|(status, _)| plan.count(*status) > 0);
    let counts: Vec<_> = counts.map(|(status, words)| format!("{} {words}", plan.count(*status))).collect();
    let next = match plan.end() {
        End::Nothing => "Nothing is to be done.",
        End::Changes if plan.count(Status::Create) == 0 => {
            "Nothing is missing that AMQP can tell; --api tells about bindings, too."
        }
        End::Changes => "`fluffle topology apply` makes these changes.",
        End::Refused => "`apply` changes nothing until this is settled, or is no longer in the file.",
    };
    format!("\n{}.\n{next}\n", counts.join(", "))
}
