//! Finding the name that a misspelt one was probably meant to be.

/// The known name with the fewest single-character edits from `name`; the first of several equally near ones.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|candidate| edits(name, candidate))
}

/// Levenshtein distance by the one-row recurrence.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// `unknown table "respones"; the nearest is "responses"`
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown {what} {name:?}; the nearest is {near:?}"),
        None => format!("unknown {what} {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{edits, nearest, unknown};

    #[test]
    fn counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("respones", "responses", 1),
            ("pärs", "pairs", 2),
        ] {
            assert_eq!(edits(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn names_the_nearest() {
        assert_eq!(nearest("respones", ["pairs", "responses"]), Some("responses"));
        assert_eq!(nearest("x", []), None);
        assert_eq!(
            unknown("table", "pair", ["pairs", "labels"]),
            r#"unknown table "pair"; the nearest is "pairs""#
        );
    }
}
