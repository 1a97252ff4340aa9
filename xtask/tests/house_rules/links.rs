//! Links of the documents and of the guide: each leads to a file that exists and to a heading in it.
//!
//! Addresses of other hosts are not asked for. Those of this repository's own pages are taken as paths.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::sources::{files, place, root};

/// Where the guide, whose pages only know one another, finds the other documents.
const OWN: [&str; 2] =
    ["https://github.com/fluffle-rs/fluffle/blob/main/", "https://github.com/fluffle-rs/fluffle/tree/main/"];

/// The pages of the guide, which mdBook renders without the rest of the repository.
const GUIDE: &str = "book/chapters";

#[test]
fn each_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 40, "the rule looks at {} documents only", pages.len());
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        for (line, problem) in offences(page, text, &pages) {
            wrong.push(format!("{page}:{line}: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{} links lead nowhere:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_page_of_the_guide_is_in_its_table_of_contents() {
    let summary = fs::read_to_string(root().join(GUIDE).join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = links(&summary).into_iter().map(|(_, target)| target).collect();
    let guide = root().join(GUIDE);
    let pages = files(&guide).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    let pages: BTreeSet<String> = pages
        .map(|page| page.strip_prefix(&guide).unwrap().display().to_string())
        .filter(|page| page != "SUMMARY.md")
        .collect();
    assert_eq!(pages, listed, "the files in {GUIDE}, and the links in its SUMMARY.md");
}

#[test]
fn the_rules_see_a_link_that_leads_nowhere() {
    let page = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let pages = BTreeMap::from([
        page("docs/A.md", "# The `first` one\n## It's (here)\n## Twice\n## Twice\n"),
        page("README.md", "# Start\n"),
        page("book/chapters/one.md", "# One\n"),
        page("book/chapters/two/README.md", "# Two\n"),
    ]);
    let problems = |from: &str, text: &str| offences(from, text, &pages).len();
    for good in [
        "[a](docs/A.md#the-first-one)",
        "[a](docs/A.md#its-here) and [b](docs/A.md#twice-1)",
        "[a][b]\n\n[b]: docs/A.md",
        "`[a](nowhere.md)` and\n```text\n[a](nowhere.md)\n```\n",
        "[a](https://example.com/nowhere)",
        "[a](#start)\n\n# Start",
        "[a](https://github.com/fluffle-rs/fluffle/blob/main/docs/A.md#twice)",
        "`a[0][1]`, and a[list] of [words] in brackets",
    ] {
        assert_eq!(problems("README.md", good), 0, "{good}");
    }
    for bad in [
        "[a](nowhere.md)",
        "[a](docs/A.md#nowhere)",
        "[a][b]\n\n[b]: docs/B.md",
        "[a][b]",
        "![a](nowhere.svg)",
        "[a](#nowhere)",
        "[a](https://github.com/fluffle-rs/fluffle/blob/main/docs/B.md)",
    ] {
        assert_eq!(problems("README.md", bad), 1, "{bad}");
    }
    assert_eq!(problems("book/chapters/one.md", "[a](../../README.md)"), 1, "mdBook does not render it");
    assert_eq!(problems("book/chapters/one.md", "[a](two/README.md)"), 1, "mdBook gives it another name");
}

/// Each document by its path in the repository.
fn pages() -> BTreeMap<String, String> {
    let all = files(&root()).into_iter();
    let documents = all.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    documents.map(|file| (place(&file), fs::read_to_string(&file).unwrap())).collect()
}

/// The links of a document that lead nowhere, each with its line.
fn offences(page: &str, text: &str, pages: &BTreeMap<String, String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, target) in links(text) {
        let own = OWN.iter().find_map(|own| target.strip_prefix(own));
        let (path, anchor) = match own.unwrap_or(&target).split_once('#') {
            Some((path, anchor)) => (path, Some(anchor)),
            None => (own.unwrap_or(&target), None),
        };
        let to = match own {
            Some(_) => path.to_owned(),
            None if target.contains("://") || target.starts_with("mailto:") => continue,
            None if path.is_empty() => page.to_owned(),
            None => resolved(page, path),
        };
        let known = if to == page { Some(text) } else { pages.get(&to).map(String::as_str) };
        if known.is_none() && !root().join(&to).exists() {
            found.push((line, format!("{target}: no such file")));
        } else if own.is_none() && page.starts_with(GUIDE) && !to.starts_with(GUIDE) {
            found.push((line, format!("{target}: outside of the guide; write {}{to}", OWN[0])));
        } else if to.starts_with(GUIDE) && to.ends_with("README.md") {
            found.push((
                line,
                format!("{target}: mdBook links it as README.html, which is not there; name it index.md"),
            ));
        } else if let (Some(known), Some(anchor)) = (known, anchor)
            && !headings(known).contains(anchor)
        {
            found.push((line, format!("{target}: no such heading")));
        }
    }
    let defined: BTreeSet<String> = definitions(text).into_iter().map(|(_, name, _)| name).collect();
    let undefined = uses(text).into_iter().filter(|(_, name)| !defined.contains(name));
    found.extend(undefined.map(|(line, name)| (line, format!("[{name}] is defined nowhere on the page"))));
    found
}

/// A path that stands in a document, from the repository's folder on.
fn resolved(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Path::new(page).parent().unwrap().to_str().unwrap().split('/').collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.iter().collect::<PathBuf>().display().to_string()
}

/// The targets of links, pictures and definitions.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, prose) in prose(text) {
        let mut rest = prose.as_str();
        while let Some((_, behind)) = rest.split_once("](") {
            let Some((target, behind)) = behind.split_once(')') else { break };
            found.push((line, target.to_owned()));
            rest = behind;
        }
    }
    found.extend(definitions(text).into_iter().map(|(line, _, target)| (line, target)));
    found
}

/// `[name]: target`, each with its line.
fn definitions(text: &str) -> Vec<(usize, String, String)> {
    let lines = prose(text).into_iter();
    let definition = |(line, prose): (usize, String)| {
        let (name, target) = prose.strip_prefix('[')?.split_once("]: ")?;
        Some((line, name.to_lowercase(), target.trim().to_owned()))
    };
    lines.filter_map(definition).collect()
}

/// `[text][name]`, each with its line.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, prose) in prose(text) {
        for (_, behind) in prose.match_indices("][").map(|(at, _)| prose.split_at(at + 2)) {
            if let Some((name, _)) = behind.split_once(']') {
                found.push((line, name.to_lowercase()));
            }
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub and mdBook make them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in outside_of_blocks(text).into_iter().map(|(_, line)| line) {
        let Some((marks, title)) = line.split_once(' ') else { continue };
        if marks.is_empty() || !marks.chars().all(|mark| mark == '#') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(slug.clone()).or_default();
        found.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    found
}

/// The lines outside of code blocks, without what stands in backticks.
fn prose(text: &str) -> Vec<(usize, String)> {
    let without_code = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("code");
    outside_of_blocks(text).into_iter().map(|(number, line)| (number, without_code(line))).collect()
}

fn outside_of_blocks(text: &str) -> Vec<(usize, &str)> {
    let mut fence: Option<&str> = None;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => found.push((index + 1, line)),
            _ => {}
        }
    }
    found
}
