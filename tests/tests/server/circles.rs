//! Circles of files within a crate: files that import each other, directly or through others. A reader can begin with
//! none of them, and the compiler holds no arrow between their folders. Imports are read off `use` and off paths that
//! begin with `crate` or `super`, with re-exports followed to where a name comes from; tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tidy::{crates, sources};

/// A circle may have so many files, in one folder.
const FILES_MAX: usize = 8;

/// A module's path within its crate.
type Place = Vec<String>;

/// One file.
struct Source {
    path: String,
    place: Place,
    code: String,
}

/// A path that a file names; whether it gives the name on to others.
struct Named {
    path: Vec<String>,
    is_given_on: bool,
}

/// The files of a crate, without its tests.
fn files(root: &Path) -> Vec<Source> {
    let texts = sources(root).into_iter();
    let files = texts.filter_map(|(path, text)| {
        let path = path.strip_prefix(root).ok()?.to_str()?.to_owned();
        let mut place: Place = path
            .strip_suffix(".rs")?
            .split('/')
            .map(String::from)
            .collect();
        if place.iter().any(|part| part == "tests") {
            return None;
        }
        if place.last().is_some_and(|last| last == "mod") {
            place.pop();
        }
        if place == ["lib"] {
            place.clear();
        }
        let product = text.split("#[cfg(test)]").next()?.lines();
        let code = product.map(|line| line.split("//").next().unwrap_or_default());
        let code = code.collect::<Vec<_>>().join("\n");
        Some(Source { path, place, code })
    });
    files.collect()
}

/// The paths of `a::{b, c::{d, e}}`, one by one.
fn expanded(tree: &str) -> Vec<String> {
    let Some((front, rest)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let inside = rest.strip_suffix('}').unwrap_or(rest);
    let (mut paths, mut depth, mut part) = (Vec::new(), 0, String::new());
    for letter in inside.chars().chain([',']) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            if !part.is_empty() {
                paths.extend(expanded(&format!("{front}{part}")));
            }
            part.clear();
        } else {
            part.push(letter);
        }
    }
    paths
}

/// What `code` names: what it uses, and paths in between.
fn named(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut rest_of_code = String::new();
    for statement in code.split_inclusive(';') {
        let start = statement.lines().rev().find_map(|line| {
            let line = line.trim_start();
            let words = line.strip_prefix("pub").map_or(line, |line| {
                let line = line.trim_start();
                line.strip_prefix('(')
                    .and_then(|it| it.split_once(')'))
                    .map_or(line, |it| it.1)
            });
            words.trim_start().starts_with("use ").then_some(line)
        });
        let Some(at) = start.and_then(|line| statement.rfind(line)) else {
            rest_of_code.push_str(statement);
            continue;
        };
        let (before, used) = statement.split_at(at);
        rest_of_code.push_str(before);
        let is_given_on = used.starts_with("pub");
        let (_, tree) = used.split_once("use ").unwrap();
        let tree = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        let tree: String = without_other_names(&tree).replace([' ', ';'], "");
        for path in expanded(&tree) {
            let path = path.split("::").map(String::from).collect();
            found.push(Named { path, is_given_on });
        }
    }
    let letters = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    for word in rest_of_code.split(|letter: char| !letters(letter)) {
        if word.starts_with("crate::") || word.starts_with("super::") {
            let path = word
                .split("::")
                .filter(|part| !part.is_empty())
                .map(String::from)
                .collect();
            found.push(Named {
                path,
                is_given_on: false,
            });
        }
    }
    found
}

/// `a as b` is about `a`.
fn without_other_names(tree: &str) -> String {
    let mut parts = tree.split(" as ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(
            part.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_'),
        );
    }
    out
}

/// Who imports whom, by number of the file.
fn imports(files: &[Source]) -> Vec<BTreeSet<usize>> {
    let modules: BTreeMap<&[String], usize> = files
        .iter()
        .enumerate()
        .map(|(number, file)| (file.place.as_slice(), number))
        .collect();
    let mut direct = vec![BTreeSet::new(); files.len()];
    let mut given_on = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        for Named { path, is_given_on } in named(&file.code) {
            let mut base = file.place.clone();
            let mut parts = path.as_slice();
            match parts.first().map(String::as_str) {
                Some("crate") => {
                    base.clear();
                    parts = &parts[1..];
                }
                Some("self") => parts = &parts[1..],
                Some("super") => {
                    while parts.first().is_some_and(|part| part == "super") {
                        base.pop();
                        parts = &parts[1..];
                    }
                }
                Some(first) => {
                    base.push(first.to_owned());
                    if !modules.contains_key(base.as_slice()) {
                        continue;
                    }
                    base.pop();
                }
                None => continue,
            }
            base.extend(parts.iter().cloned());
            let found = (0..=base.len()).rev().find_map(|length| {
                let module = modules.get(&base[..length])?;
                Some((*module, base.get(length).cloned()))
            });
            let Some((to, name)) = found else { continue };
            if is_given_on && let Some(name) = name.as_ref().or(base.last()) {
                given_on.insert((number, name.clone()), to);
            }
            direct[number].insert((to, name));
        }
    }
    let mut plain = vec![BTreeSet::new(); files.len()];
    for (number, tos) in direct.into_iter().enumerate() {
        for (mut to, name) in tos {
            // A name may have come by several hands.
            for _ in 0..5 {
                match name
                    .as_ref()
                    .and_then(|name| given_on.get(&(to, name.clone())))
                {
                    Some(further) => to = *further,
                    None => break,
                }
            }
            if to != number {
                plain[number].insert(to);
            }
        }
    }
    plain
}

/// All that can be reached from a file.
fn reached(from: usize, imports: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(number) = open.pop() {
        open.extend(imports[number].iter().filter(|to| seen.insert(**to)));
    }
    seen
}

/// The circles, each as its files.
fn circles(files: &[Source]) -> Vec<Vec<&str>> {
    let imports = imports(files);
    let reached: Vec<_> = (0..files.len())
        .map(|number| reached(number, &imports))
        .collect();
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for number in 0..files.len() {
        let mut circle = reached[number].clone();
        circle.retain(|other| reached[*other].contains(&number));
        if circle.len() > 1 && circle.iter().all(|other| told.insert(*other)) {
            circles.push(circle.iter().map(|it| files[*it].path.as_str()).collect());
        }
    }
    circles
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[test]
fn circles_are_small_and_within_a_folder() {
    let mut names: Vec<_> = std::fs::read_dir(crates())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    for name in names {
        let files = files(&crates().join(&name).join("src"));
        assert!(!files.is_empty(), "{name} has no sources");
        for circle in circles(&files) {
            let folders: BTreeSet<&str> = circle.iter().map(|path| folder(path)).collect();
            assert!(
                circle.len() <= FILES_MAX && folders.len() == 1,
                "{name}: {} files in {} folders import each other: {circle:?}",
                circle.len(),
                folders.len()
            );
        }
    }
}

#[test]
fn imports_are_seen_in_every_form() {
    let file = |path: &str, place: &[&str], code: &str| Source {
        path: path.to_owned(),
        place: place.iter().map(|part| (*part).to_owned()).collect(),
        code: code.to_owned(),
    };
    let files = [
        file(
            "lib.rs",
            &[],
            "mod a;\nmod b;\npub use b::c::{\n    C as D,\n    E,\n};\n",
        ),
        file("a.rs", &["a"], "use crate::{E, other};\n"),
        file(
            "b/mod.rs",
            &["b"],
            "pub(crate) mod c;\nfn f() { super::a::f(); }\n",
        ),
        file(
            "b/c.rs",
            &["b", "c"],
            "pub(super) use super::{\n    f,\n};\nfn g() {}\n",
        ),
    ];
    assert_eq!(
        imports(&files),
        [[3].into(), [3, 0].into(), [1].into(), [2].into()]
    );
    assert_eq!(circles(&files), [["lib.rs", "a.rs", "b/mod.rs", "b/c.rs"]]);
}
