//! The page's sources without what only their readers need: it leaves room for the picture in a first paint.

/// Lines without their indentation; no empty lines, and no lines that are a comment.
pub(super) fn lines(source: &str) -> String {
    let mut lean = String::with_capacity(source.len());
    for line in source.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let is_comment = line.starts_with("//") || (line.starts_with("/*") && line.ends_with("*/"));
        if !is_comment {
            lean.push_str(line);
            lean.push('\n');
        }
    }
    lean
}

/// A style without spaces that separate nothing. None of its strings has one of these pairs.
pub(super) fn style(source: &str) -> String {
    lines(source).replace(" {", "{").replace(": ", ":").replace(";\n", ";").replace("{\n", "{")
}

/// Where the script is at a character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a block, or in the `${…}` of a template.
    Code,
    /// In a string, behind its `"`.
    Text,
    /// In a template, behind its `` ` ``.
    Template,
}

/// A script without spaces that separate nothing. Strings and templates stay as they are.
///
/// The parts have no comment behind code, no text in `'`, and no `"` or `` ` `` in a regular expression.
pub(super) fn script(source: &str) -> String {
    let source = lines(source);
    let mut lean = String::with_capacity(source.len());
    let mut places = vec![Place::Code];
    let mut letters = source.chars().peekable();
    while let Some(letter) = letters.next() {
        let place = places.last().copied().unwrap_or(Place::Code);
        if place != Place::Code {
            lean.push(letter);
            match (place, letter) {
                (_, '\\') => lean.extend(letters.next()),
                (Place::Text, '"') | (Place::Template, '`') => drop(places.pop()),
                (Place::Template, '$') if letters.peek() == Some(&'{') => {
                    lean.extend(letters.next());
                    places.push(Place::Code);
                }
                _ => (),
            }
            continue;
        }
        match letter {
            '"' => places.push(Place::Text),
            '`' => places.push(Place::Template),
            '{' => places.push(Place::Code),
            '}' => drop(places.pop()),
            ' ' => {
                let separates = lean.ends_with(is_of_a_word) && letters.peek().is_some_and(|next| is_of_a_word(*next));
                if !separates {
                    continue;
                }
            }
            // Where a statement cannot end, a line goes on.
            '\n' if lean.ends_with(['{', ',', ';', '(', '[']) => continue,
            _ => (),
        }
        lean.push(letter);
    }
    lean
}

fn is_of_a_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

#[cfg(test)]
mod tests {
    use super::{script, style};

    #[test]
    fn a_script_keeps_its_words_and_its_texts() {
        let source = r#"
// A comment.
const words = (count, one = "a  b {") => {
  return `${count} of ${one ? `{ ${ one } }` : "\" - "} , all`;
};

let next = words( 1 , "x" )
  typeof next
"#;
        let lean = concat!(
            r#"const words=(count,one="a  b {")=>{return`${count} of ${one?`{ ${one} }`:"\" - "} , all`;};"#,
            "let next=words(1,\"x\")\ntypeof next\n"
        );
        assert_eq!(script(source), lean);
    }

    #[test]
    fn a_style_keeps_the_spaces_of_selectors_and_values() {
        let source = "/* A comment. */\n.a .b > i:hover {\n  margin: 0 auto;\n  content: \"✓ \";\n}\n";
        assert_eq!(style(source), ".a .b > i:hover{margin:0 auto;content:\"✓ \";}\n");
    }
}
