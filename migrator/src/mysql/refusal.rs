//! What a server says where it refuses: which right is needed, and who lacks it.

/// Who asks, as SQL writes it.
pub(crate) const ACCOUNT: &str = "SELECT CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', 1)), '@', QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)))";

/// The narrowest of the rights of which a server says that one is needed.
pub(crate) fn right_needed(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("(at least one of) the ")?;
    let (listed, _) = after.split_once(" privilege")?;
    let rights = listed
        .split(" or ")
        .flat_map(|part| part.split(','))
        .map(str::trim)
        .filter(|right| !right.starts_with("WITH "));
    let narrow = rights.clone().filter(|right| *right != "SUPER");
    narrow.last().or_else(|| rights.last())
}

#[cfg(test)]
mod tests {
    use super::right_needed;

    #[test]
    fn the_least_right_is_read_from_the_server_s_own_words() {
        for (message, right) in [
            (
                "Access denied; you need (at least one of) the SUPER or ALLOW_NONEXISTENT_DEFINER privilege(s) for this operation",
                "ALLOW_NONEXISTENT_DEFINER",
            ),
            (
                "Access denied; you need (at least one of) the SUPER, SET USER privilege(s) for this operation",
                "SET USER",
            ),
            (
                "Access denied; you need (at least one of) the WITH ADMIN, ROLE_ADMIN, SUPER privilege(s) for this operation",
                "ROLE_ADMIN",
            ),
            ("Access denied; you need (at least one of) the SUPER privilege(s) for this operation", "SUPER"),
        ] {
            assert_eq!(right_needed(message), Some(right));
        }
        assert_eq!(right_needed("Access denied"), None);
    }
}
