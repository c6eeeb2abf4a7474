//! Which of the known words somebody probably meant.

/// The candidate with the smallest edit distance to `given`, if it is near enough to be worth saying.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LENGTH_MAX: usize = 200;
    let given: Vec<char> = given.chars().take(LENGTH_MAX).collect();
    candidates
        .into_iter()
        .map(|candidate| (distance(&given, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 2 <= candidate.chars().count().max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many insertions, removals and replacements turn one word into the other.
fn distance(given: &[char], candidate: &str) -> usize {
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (line, wanted) in candidate.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (slot, have) in row.iter_mut().skip(1).zip(given) {
            let above = *slot;
            let replaced = diagonal + usize::from(*have != wanted);
            *slot = replaced.min(above + 1).min(left + 1);
            left = *slot;
            diagonal = above;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_the_word_and_nonsense_finds_none() {
        let words = ["listen.address", "http.address", "routes.NAME.cluster"];
        assert_eq!(nearest("listen.adress", words), Some("listen.address"));
        assert_eq!(nearest("https.address", words), Some("http.address"));
        assert_eq!(nearest("zzzzzzzzzzzzzzzzzzzzz", words), None);
        assert_eq!(nearest("", words), None);
    }
}
