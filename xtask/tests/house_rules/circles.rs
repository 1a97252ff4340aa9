//! Files that import one another in a circle: none can be read, or moved, without all the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    krate::{FileId, Krate},
    sources,
};

/// The crates in which not even two files import each other. Elsewhere two files may, if one of them says why in a line
/// `// One thought with <the other file>: <the reason>`.
const WITHOUT_PAIRS: [&str; 1] = ["fluffle-amqp"];

const PAIR_COMMENT: &str = "// One thought with ";

#[test]
fn no_files_import_one_another_in_a_circle() {
    let wrong: Vec<String> = sources::all_crates().iter().flat_map(offences).collect();
    assert!(
        wrong.is_empty(),
        "{} circles of files. Cut one import of each: move what both ends need to a file below them, or hand it in as \
         an argument, a closure or a trait.\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The imports between files, each with its line.
type Imports = BTreeMap<(FileId, FileId), usize>;

fn offences(krate: &Krate) -> Vec<String> {
    let imports = krate.imports();
    let mut wrong = Vec::new();
    for knot in knots(krate.files.len(), &imports) {
        let line = |from: FileId, to: FileId| {
            format!("{}:{} imports {}", krate.place(from), imports[&(from, to)], krate.place(to))
        };
        if let [one, other] = knot[..] {
            let may_be_a_pair = !WITHOUT_PAIRS.contains(&krate.name.as_str());
            if may_be_a_pair && (says_why(krate, one, other) || says_why(krate, other, one)) {
                continue;
            }
            let or = if may_be_a_pair {
                "; cut one, or say why they are one: `// One thought with <file>: <reason>`"
            } else {
                ""
            };
            wrong.push(format!(
                "{}: two files import each other{or}\n    {}\n    {}",
                krate.name,
                line(one, other),
                line(other, one)
            ));
            continue;
        }
        let circle = shortest_circle(&knot, &imports);
        let shown: Vec<String> = circle.iter().map(|(from, to)| line(*from, *to)).collect();
        let is_inside = |(from, to): &&(FileId, FileId)| knot.contains(from) && knot.contains(to);
        let rest = imports.keys().filter(is_inside).filter(|import| !circle.contains(import));
        let rest: Vec<String> = rest.map(|(from, to)| line(*from, *to)).collect();
        wrong.push(format!(
            "{}: {} files reach one another by their imports\n  the shortest circle:\n    {}\n  \
             the other imports among them:\n    {}",
            krate.name,
            knot.len(),
            shown.join("\n    "),
            rest.join("\n    ")
        ));
    }
    wrong
}

/// Whether `file` has the line that says why it and `other` are one.
fn says_why(krate: &Krate, file: FileId, other: FileId) -> bool {
    let says_so = |line: &str| {
        let said = line.trim_start().strip_prefix(PAIR_COMMENT)?;
        let (name, reason) = said.split_once(':')?;
        let name = name.trim().trim_matches('`');
        let is_the_other = krate.place(other) == name || krate.place(other).ends_with(&format!("/{name}"));
        (is_the_other && !reason.trim().is_empty()).then_some(())
    };
    krate.files[file].text.lines().any(|line| says_so(line).is_some())
}

/// The groups of two and more files each of which reaches all others of its group.
fn knots(files: usize, imports: &Imports) -> Vec<Vec<FileId>> {
    let reached: Vec<BTreeSet<FileId>> = (0..files).map(|file| reach(file, imports)).collect();
    let knot = |file: FileId| -> Vec<FileId> {
        (0..files).filter(|other| reached[file].contains(other) && reached[*other].contains(&file)).collect()
    };
    let all = (0..files).map(|file| (file, knot(file)));
    all.filter(|(file, knot)| knot.len() > 1 && knot[0] == *file).map(|(_, knot)| knot).collect()
}

/// The files that a file imports, those that these import, and so on.
fn reach(file: FileId, imports: &Imports) -> BTreeSet<FileId> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![file];
    while let Some(next) = waiting.pop() {
        waiting.extend(imports_of(next, imports).filter(|to| reached.insert(*to)));
    }
    reached
}

fn imports_of(file: FileId, imports: &Imports) -> impl Iterator<Item = FileId> + '_ {
    imports.range((file, 0)..=(file, FileId::MAX)).map(|((_, to), _)| *to)
}

/// The shortest circle of a knot, as its imports.
fn shortest_circle(knot: &[FileId], imports: &Imports) -> Vec<(FileId, FileId)> {
    let circles = knot.iter().filter_map(|start| {
        let mut before = BTreeMap::new();
        let mut waiting = VecDeque::from([*start]);
        while let Some(next) = waiting.pop_front() {
            for to in imports_of(next, imports) {
                if to == *start {
                    let mut circle = vec![(next, to)];
                    let mut at = next;
                    while let Some(from) = before.get(&at) {
                        circle.insert(0, (*from, at));
                        at = *from;
                    }
                    return Some(circle);
                }
                if knot.contains(&to) && !before.contains_key(&to) {
                    before.insert(to, next);
                    waiting.push_back(to);
                }
            }
        }
        None
    });
    circles.min_by_key(Vec::len).unwrap_or_default()
}

#[test]
fn the_rules_see_a_circle_of_two_and_take_a_pair_that_says_why() {
    let pair = |comment: &str| {
        let b = format!("{comment}\nuse crate::a::A;\npub struct B;");
        Krate::of(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;\npub struct A;"), ("b.rs", &b)])
    };
    let wrong = offences(&pair(""));
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].contains("a.rs:1 imports b.rs") && wrong[0].contains("b.rs:2 imports a.rs"), "{}", wrong[0]);
    assert!(offences(&pair("// One thought with a.rs: A makes B, and B ends A.")).is_empty());
    assert_eq!(offences(&pair("// One thought with a.rs: ")).len(), 1, "a pair without a reason");
    assert_eq!(offences(&pair("// One thought with lib.rs: it is.")).len(), 1, "a pair with another file");
    let strict = Krate { name: WITHOUT_PAIRS[0].to_owned(), ..pair("// One thought with a.rs: they are.") };
    assert_eq!(offences(&strict).len(), 1, "a pair where there may be none");
}

#[test]
fn the_rules_see_a_circle_of_three() {
    let krate = Krate::of(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "pub fn a() { crate::b::b() }"),
        ("b.rs", "// One thought with a.rs: no pair, so no reason counts.\npub fn b() { super::c::c() }"),
        ("c.rs", "use super::{a, d};\npub fn c() { a::a(); d::d() }"),
        ("d.rs", "pub fn d() {}\n#[cfg(test)]\nmod tests { use crate::a::a; }"),
    ]);
    let wrong = offences(&krate);
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].starts_with("small: 3 files reach one another"), "{}", wrong[0]);
    for import in ["a.rs:1 imports b.rs", "b.rs:2 imports c.rs", "c.rs:1 imports a.rs"] {
        assert!(wrong[0].contains(import), "{}", wrong[0]);
    }
    assert!(!wrong[0].contains("d.rs"), "{}", wrong[0]);
}

#[test]
fn the_rules_see_a_parent_and_its_child_in_a_circle() {
    let krate = Krate::of(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; use b::B; pub struct A(B);"),
        ("a/b.rs", "pub struct B; fn b(_: super::A) {}"),
    ]);
    assert_eq!(offences(&krate).len(), 1);
}
