// SPDX-License-Identifier: Apache-2.0
//! Which known word somebody may have meant.

/// The known word closest to `word`, if one is close.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distances = known.into_iter().map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate));
    let (distance, candidate) = distances.min()?;
    let close = distance <= 1 + candidate.len() / 4;
    close.then_some(candidate)
}

/// How many letters must be changed, added, left out or swapped with the next.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let width = two.len() + 1;
    let mut table = vec![0; (one.len() + 1) * width];
    for row in 0..=one.len() {
        for column in 0..width {
            let at = |rows: usize, columns: usize| table[(row - rows) * width + column - columns];
            table[row * width + column] = if row == 0 || column == 0 {
                row + column
            } else {
                let same = usize::from(one[row - 1] != two[column - 1]);
                let mut best = (at(1, 0) + 1).min(at(0, 1) + 1).min(at(1, 1) + same);
                if row > 1 && column > 1 && one[row - 1] == two[column - 2] && one[row - 2] == two[column - 1] {
                    best = best.min(at(2, 2) + 1);
                }
                best
            };
        }
    }
    table[table.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["include", "exclude", "path", "label", "provision"];
        for (word, meant) in [("exlude", "exclude"), ("excludes", "exclude"), ("lable", "label"), ("Path", "path")] {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
        assert_eq!(nearest("schedule", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
