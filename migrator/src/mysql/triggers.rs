//! The triggers of the moving tables: they must not fire while changes are applied, so they come with the switch.
