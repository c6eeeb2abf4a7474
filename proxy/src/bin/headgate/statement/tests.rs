//! The language: what is understood, what is refused and how, and that no text breaks it.

use std::time::Duration;

use migrator::model::plan::Settings;
use proptest::prelude::*;
use proxy::config::Migrator;

use super::*;

fn one(text: &str) -> Result<Statement, Mistake> {
    let statements = split(text)?;
    assert_eq!(statements.len(), 1, "{text}");
    parse(&statements[0])
}

fn mistake(text: &str) -> Mistake {
    one(text).expect_err(text)
}

#[test]
fn every_form_of_the_help_is_understood() {
    for form in FORMS.iter() {
        // A form without its brackets is a statement.
        let text = form.text.replace(['[', ']'], "").replace('…', "");
        assert!(one(&text).is_ok(), "{text}: {:?}", one(&text));
        let short = form.text.split(" [").next().expect("a first part");
        assert!(one(short).is_ok(), "{short}: {:?}", one(short));
    }
}

#[test]
fn a_migration_is_created_with_every_setting_of_the_configuration_that_help_names() {
    let create = &FORMS[0].text;
    for key in Migrator::options() {
        assert!(create.contains(&format!("{} = ", key.name())), "{}", key.name());
        let text = format!("CREATE MIGRATION m FROM a TO b WITH ({} = '1'", key.name());
        let form = one(&format!("{text})")).err().map_or(String::new(), |mistake| mistake.hint);
        assert!(!form.starts_with("did you mean"), "{form}");
    }
    let text = "CREATE MIGRATION m FROM a TO b WITH (copy_workers = 7, copy_chunk = '2MiB', check_workers = 8, \
        check_range_rows = 900, proof_rate = 4000, check_budget = '200ms', residue_keys = 7, residue_rate = 0, counter_gap = 10, slot_create_timeout = '3s', schemas = 'a, b')";
    let Ok(Statement::Create { settings, .. }) = one(text) else {
        panic!("not a CREATE");
    };
    let named = Settings {
        copy_workers: 7,
        copy_chunk_bytes: 2 << 20,
        check_workers: 8,
        check_range_rows: 900,
        proof_rate: 4000,
        check_budget: Duration::from_millis(200),
        residue_keys: 7,
        residue_rate: 0,
        counter_gap: 10,
        slot_create_timeout: Duration::from_secs(3),
        schemas: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(settings.over(&Migrator::default()), named);
    // Journals that lack a setting are read with the same default.
    assert_eq!(Given::default().over(&Migrator::default()), Settings::default());
}

#[test]
fn keywords_fold_and_names_keep_what_their_quotes_hold() {
    let text = "create MIGRATION \"Big One\" from Blue /* a /* nested */ one */ to 'green' -- end\n for route shop";
    let Statement::Create { name, source, target, route, .. } = one(text).expect("valid") else {
        panic!("not a CREATE");
    };
    assert_eq!((name.as_str(), source.as_str(), target.as_str()), ("Big One", "blue", "green"));
    assert_eq!(route.as_deref(), Some("shop"));
    let quoted = one("SHOW CUTOVER REPORT \"a\"\"b\"").expect("valid");
    assert_eq!(quoted, Statement::ShowReport("a\"b".to_owned()));
}

#[test]
fn options_are_read_with_their_units() {
    let expected = Options {
        max_hold: Duration::from_millis(500),
        waive_check: true,
        waive_accounts: vec!["shop".to_owned(), "till".to_owned()],
        waive_sessions: false,
        way_back: true,
        proof_before: true,
        check_budget: Some(Duration::from_millis(20)),
    };
    let text = "CUTOVER MIGRATION m WITH (max_hold='500ms', waive_check = TRUE, waive_accounts = 'shop, till', \
        proof = 'before', check_budget = '20ms')";
    assert_eq!(one(text), Ok(Statement::Cutover("m".to_owned(), expected)));
    assert_eq!(mistake("CUTOVER MIGRATION m WITH (max_hold=2)").code, "22023");
    let unknown = mistake("REHEARSE MIGRATION m WITH (max_holds='2s')");
    assert!(unknown.hint.starts_with("did you mean max_hold?"), "{unknown:?}");
    assert_eq!(unknown.position, 28);
    assert_eq!(mistake("CREATE MIGRATION m FROM a TO b WITH (copy_workers=0)").code, "22023");
}

#[test]
fn several_statements_are_cut_at_their_semicolons_only() {
    let all = split(";; SHOW ROUTES; SHOW MIGRATION STATUS 'a;b' ;").expect("valid");
    let parsed: Vec<_> = all.iter().map(|tokens| parse(tokens)).collect();
    assert_eq!(parsed, [Ok(Statement::ShowRoutes), Ok(Statement::ShowStatus(Some("a;b".to_owned())))]);
    assert!(split(" -- nothing\n;").expect("valid").is_empty());
}

#[test]
fn a_slip_is_answered_with_the_nearest_form_and_its_place() {
    for (text, form, position) in [
        ("SHOW MIGRATON LIST", "write SHOW MIGRATION LIST", 6),
        ("START MIGRATIONS m", "write START MIGRATION name", 7),
        ("CUTOVER m", "write CUTOVER MIGRATION name", 9),
        ("CREATE MIGRATION m FROM a", "write CREATE MIGRATION name FROM cluster", 25),
        ("SHOW ROUTE", "write SHOW ROUTES", 6),
        ("SHOW MIGRATION CHECK m", "write SHOW MIGRATION CHECKS name", 22),
        ("PRECHEK MIGRATION m", "write PRECHECK MIGRATION name", 1),
        ("DROP MIGRATION m CASCADE", "write DROP MIGRATION name", 18),
        ("VACUUM FULL", "write HELP", 1),
        ("INSERT INTO t VALUES (1)", "write HELP", 1),
    ] {
        let mistake = mistake(text);
        assert_eq!(mistake.code, "42601", "{text}");
        assert!(mistake.hint.starts_with(form), "{text}: {}", mistake.hint);
        assert_eq!(mistake.position, position, "{text}: {mistake:?}");
    }
}

#[test]
fn a_position_counts_characters_not_bytes() {
    assert_eq!(mistake("/* größe */ SHOW NOTHING").position, 18);
}

#[test]
fn what_drivers_send_by_themselves_is_understood() {
    for text in [
        "BEGIN",
        "START TRANSACTION READ ONLY",
        "COMMIT",
        "ROLLBACK",
        "SET extra_float_digits = 3",
        "SET application_name = 'x'",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "SELECT 1",
        "select version()",
        "SELECT pg_catalog.version()",
        "DEALLOCATE ALL",
        "DISCARD ALL",
    ] {
        assert!(one(text).is_ok(), "{text}: {:?}", one(text));
    }
    assert_eq!(mistake("SELECT * FROM pg_class").code, "0A000");
}

#[test]
fn later_statements_are_known_as_such() {
    assert_eq!(one("ROLLBACK MIGRATION m"), Ok(Statement::Rollback("m".to_owned(), Options::default())));
    let without = Options { way_back: false, ..Options::default() };
    assert_eq!(one("CUTOVER MIGRATION m WITH (way_back = 'none')"), Ok(Statement::Cutover("m".to_owned(), without)));
    assert!(one("CUTOVER MIGRATION m WITH (way_back = 'perhaps')").is_err());
    assert!(one("CUTOVER MIGRATION m WITH (proof = 'perhaps')").is_err());
    assert_eq!(one("COMMIT MIGRATION m"), Ok(Statement::Later("COMMIT MIGRATION")));
}

#[test]
fn parameters_take_the_place_of_names_and_values() {
    let tokens = split("CUTOVER MIGRATION $1 WITH (max_hold = $2)").expect("valid").remove(0);
    assert_eq!(parameter_count(&tokens), 2);
    assert!(parse(&tokens).is_ok(), "{:?}", parse(&tokens));
    let values = [Some("m".to_owned()), Some("3s".to_owned())];
    let bound = parse(&bind(&tokens, &values).expect("both are given")).expect("valid");
    let expected = Options {
        max_hold: Duration::from_secs(3),
        waive_check: false,
        waive_accounts: Vec::new(),
        waive_sessions: false,
        way_back: true,
        proof_before: false,
        check_budget: None,
    };
    assert_eq!(bound, Statement::Cutover("m".to_owned(), expected));
    assert!(bind(&tokens, &values[..1]).is_err());
    assert!(split("SHOW MIGRATION STATUS $0").is_err());
    assert!(split("SHOW MIGRATION STATUS $99999999999999999999999").is_err());
}

#[test]
fn an_unterminated_quote_or_comment_names_where_it_began() {
    assert_eq!(mistake_of_split("SHOW ROUTES; SHOW 'abc").position, 19);
    assert_eq!(mistake_of_split("HELP /* a /* b */").position, 6);
    assert_eq!(mistake_of_split("/*/").position, 1);
}

fn mistake_of_split(text: &str) -> Mistake {
    split(text).expect_err(text)
}

#[test]
fn ten_megabytes_of_anything_end_in_an_answer() {
    const SIZE: usize = 10 << 20;
    for unit in ["'", "/*", "(a", "$1", ";", "\0"] {
        let text = unit.repeat(SIZE / unit.len());
        if let Ok(statements) = split(&text) {
            for tokens in statements.iter().take(3) {
                assert!(parse(tokens).is_err(), "{unit:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        for tokens in split(&text).into_iter().flatten() {
            let _ = parse(&tokens);
        }
    }

    #[test]
    fn no_mixture_of_words_panics(words in prop::collection::vec(
        prop::sample::select(vec![
            "SHOW", "MIGRATION", "CREATE", "FROM", "TO", "FOR", "ROUTE", "WITH", "(", ")", "=", ",",
            "m", "'x'", "$1", "STATUS", "CHECK", "CUTOVER", "2s", "max_hold", "SELECT", "\"", ";",
        ]),
        0..12,
    )) {
        for tokens in split(&words.join(" ")).into_iter().flatten() {
            let _ = parse(&tokens);
        }
    }
}
