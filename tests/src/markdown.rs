// SPDX-License-Identifier: Apache-2.0
//! What a Markdown document says that can be checked: links, and what stands in code.

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The target of a link.
    Link(String),
    /// Code within a line.
    Span(String),
    /// A line of a block of code, its continuation lines joined.
    Block(String),
}

/// The pieces of a document, each with the number of its line.
#[must_use]
pub fn pieces(text: &str) -> Vec<(usize, Piece)> {
    let mut found = Vec::new();
    let mut fenced = false;
    let mut continued: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            let (start, before) = continued.take().unwrap_or((number, String::new()));
            let joined = format!("{before}{}", line.trim());
            match joined.strip_suffix('\\') {
                Some(beginning) => continued = Some((start, beginning.to_owned())),
                None => found.push((start, Piece::Block(joined))),
            }
        } else {
            inline(line, |piece| found.push((number, piece)));
        }
    }
    found
}

fn inline(line: &str, mut each: impl FnMut(Piece)) {
    for (index, part) in line.split('`').enumerate() {
        if index % 2 == 1 {
            each(Piece::Span(part.to_owned()));
            continue;
        }
        for link in part.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            each(Piece::Link(target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    // a link whose text is code is cut in two by its backticks
    for link in line.split("`](").skip(1) {
        each(Piece::Link(link.split(')').next().unwrap_or_default().to_owned()));
    }
}

/// The commands of a line, as words: of a shell's pipes and lists each one, without prompts and assignments.
#[must_use]
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let code = line.split(" #").next().unwrap_or_default();
    let mut all = vec![Vec::new()];
    for word in code.trim_start_matches("$ ").split_whitespace() {
        if ["|", "||", "&&", ";", "&"].contains(&word) {
            all.push(Vec::new());
            continue;
        }
        let Some(command) = all.last_mut() else { continue };
        let assignment = command.is_empty()
            && word.split('=').next().is_some_and(|name| {
                word.contains('=') && !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            });
        let wrapper = command.is_empty() && ["kubectl", "sudo", "exec"].contains(&word);
        if !assignment && !wrapper {
            command.push(word.trim_end_matches([';', ',']).to_owned());
        }
    }
    all.retain(|command: &Vec<String>| command.len() > 1);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_spans_and_blocks_are_told_apart() {
        let text = "See [a](b.md#c) and `d/e.rs` and [`f`](g.md).\n```sh\n$ X=1 holdfast run \\\n  --state d\n```\n";
        let found: Vec<_> = pieces(text).into_iter().map(|(_, piece)| piece).collect();
        let span = |text: &str| Piece::Span(text.to_owned());
        assert!(
            [Piece::Link("b.md#c".to_owned()), span("d/e.rs"), Piece::Link("g.md".to_owned())].iter().all(|x| found.contains(x))
        );
        let Some(Piece::Block(line)) = found.last() else { panic!("{found:?}") };
        assert_eq!(commands(line), [["holdfast", "run", "--state", "d"]]);
    }

    #[test]
    fn pipes_and_lists_are_several_commands() {
        assert_eq!(commands("just check && cargo test -p x | tail -3 # slow").len(), 3);
        assert_eq!(commands("holdfast"), Vec::<Vec<String>>::new());
    }
}
