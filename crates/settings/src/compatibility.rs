//! The table of docs/COMPATIBILITY.md has the rows of this one, with what is in them, and each argument is explained.

use leveret_queue::queue::kind::QueueKind;

use super::kinds::{ALL, Kinds};
use super::setting::{Effect, MergeByKind, Setting};
use super::table::SETTINGS;
use super::value::Merge;

const PAGE: &str = include_str!("../../../docs/COMPATIBILITY.md");
/// The head of the section with the table.
const SECTION: &str = "### Arguments and policy keys, one by one";
const KINDS: [QueueKind; 3] = [QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream];

/// A section of the page, without its head, up to the next head of its level or above.
fn section(head: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n{head}\n")).unwrap();
    let (level, _) = head.split_once(' ').unwrap();
    let end = (1..=level.len())
        .filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))))
        .min();
    end.map_or(rest, |end| rest.split_at(end).0)
}

/// The cells of each line of the tables in `text`, heads left out.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.map(|row| {
        row.trim_end_matches('|')
            .split('|')
            .map(str::trim)
            .collect()
    });
    cells.filter(|cells: &Vec<&str>| !cells[0].is_empty())
}

fn names(kinds: Kinds) -> String {
    if kinds == ALL {
        return "all".to_owned();
    }
    let kinds = KINDS.into_iter().filter(|kind| kinds.have(*kind));
    kinds.map(QueueKind::name).collect::<Vec<_>>().join(", ")
}

fn word(merge: Merge, [first, second]: [&'static str; 2]) -> &'static str {
    match merge {
        Merge::Lower => "lower",
        Merge::First => first,
        Merge::Second => second,
        Merge::On => "either",
    }
}

fn of_both(merge: MergeByKind, kinds: Kinds) -> String {
    let merge = |kind| word(merge.of(kind), ["argument", "policy"]);
    let mut words: Vec<(&str, Vec<&str>)> = Vec::new();
    for kind in KINDS.into_iter().filter(|kind| kinds.have(*kind)) {
        match words.iter_mut().find(|(word, _)| *word == merge(kind)) {
            Some((_, kinds)) => kinds.push(kind.name()),
            None => words.push((merge(kind), vec![kind.name()])),
        }
    }
    match &words[..] {
        [(word, _)] => (*word).to_owned(),
        several => {
            let shown = several.iter();
            let shown = shown.map(|(word, kinds)| format!("{word} ({})", kinds.join(", ")));
            shown.collect::<Vec<_>>().join(", ")
        }
    }
}

/// A setting as the page has it.
fn line(setting: &Setting) -> String {
    let argument = setting.argument.as_ref();
    let key = setting.key.as_ref();
    let both = argument
        .zip(key)
        .map(|(argument, key)| argument.kinds & key.kinds);
    let of_both = match (&setting.effect, both) {
        (Effect::Set { merge, .. }, Some(kinds)) => of_both(*merge, kinds),
        _ => String::new(),
    };
    let by_operator = key.and_then(|key| key.operator);
    let cells = [
        argument.map_or(String::new(), |it| it.name.to_owned()),
        argument.map_or(String::new(), |it| names(it.kinds)),
        key.map_or(String::new(), |it| it.names.join(", ")),
        key.map_or(String::new(), |it| names(it.kinds)),
        of_both,
        by_operator
            .map_or("", |it| word(it, ["policy", "operator"]))
            .to_owned(),
        match setting.effect {
            Effect::Nothing => "accepted",
            Effect::OfExchanges => "of exchanges",
            Effect::Set { .. } => "in force",
        }
        .to_owned(),
    ];
    format!("| {} |", cells.join(" | "))
}

#[test]
fn the_page_lists_the_settings_as_they_are() {
    let listed = section(SECTION).lines();
    let listed: Vec<&str> = listed
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    let settings: Vec<String> = SETTINGS.iter().map(line).collect();
    for setting in &settings {
        assert!(listed.contains(&setting.as_str()), "not there: {setting}");
    }
    for line in &listed {
        assert!(
            settings.iter().any(|it| it == line),
            "no such setting: {line}"
        );
    }
    assert_eq!(listed, settings, "the order is that of the checks");
}

/// The words that are names, of arguments or of others.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
}

#[test]
fn the_page_explains_each_argument_and_no_others() {
    let explained = PAGE.replace(section(SECTION), "");
    let explains = |name: &str, cells: &[&str]| {
        cells
            .iter()
            .any(|cell| words(cell).any(|word| word == name))
    };
    for setting in SETTINGS {
        let Some(argument) = &setting.argument else {
            continue;
        };
        let is_accepted = matches!(setting.effect, Effect::Nothing);
        let line = lines(&explained).find(|cells| {
            (cells[1] == "accepted") == is_accepted
                && explains(argument.name, &cells[..3.min(cells.len())])
        });
        assert!(line.is_some(), "{} is not explained", argument.name);
    }
    // A line that explains a header says so.
    let queues = section("## Queues").replace(section(SECTION), "");
    let known = |name: &str| SETTINGS.iter().any(|setting| setting.name() == name);
    for cells in lines(&queues).filter(|cells| !cells[0].starts_with("header")) {
        let unknown = words(cells[0]).find(|word| word.starts_with("x-") && !known(word));
        assert_eq!(unknown, None, "in {:?}", cells[0]);
    }
}
