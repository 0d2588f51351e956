//! The documents: what they name is there, and what ought to be named is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

#[path = "support/docs.rs"]
mod observability;

/// What a document consists of, as far as it can be checked.
#[derive(Default)]
struct Document {
    /// Relative to the repository, as all paths here.
    path: PathBuf,
    headings: Vec<String>,
    links: Vec<String>,
    images: Vec<String>,
    /// Spans of code, and the lines of code blocks.
    code: Vec<String>,
}

impl Document {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let mut document = Self { path: path.to_owned(), ..Self::default() };
        let (mut in_heading, mut in_block) = (false, false);
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => {
                    in_heading = true;
                    document.headings.push(String::new());
                }
                Event::End(TagEnd::Heading(_)) => in_heading = false,
                Event::Start(Tag::CodeBlock(_)) => in_block = true,
                Event::End(TagEnd::CodeBlock) => in_block = false,
                Event::Start(Tag::Link { dest_url, .. }) => document.links.push(dest_url.into_string()),
                Event::Start(Tag::Image { dest_url, .. }) => document.images.push(dest_url.into_string()),
                Event::Text(text) if in_heading => document.headings.last_mut().unwrap().push_str(&text),
                Event::Text(text) if in_block => document.code.extend(text.lines().map(str::to_owned)),
                Event::Code(span) => {
                    if in_heading {
                        document.headings.last_mut().unwrap().push_str(&span);
                    }
                    document.code.push(span.into_string());
                }
                _ => {}
            }
        }
        document
    }

    /// The path to which a link leads, and the place in it. `None`: out of the repository.
    fn target(&self, link: &str) -> Option<(PathBuf, Option<String>)> {
        if link.contains("://") {
            return None;
        }
        let (file, place) = link.split_once('#').map_or((link, None), |(file, place)| (file, Some(place.to_owned())));
        let path = if file.is_empty() { self.path.clone() } else { self.path.parent().unwrap().join(file) };
        Some((path, place))
    }

    fn has_place(&self, place: &str) -> bool {
        self.headings.iter().any(|heading| slug(heading) == place)
    }

    /// The first heading, and those of the second level and below.
    fn outline(&self) -> (&str, Vec<&str>) {
        let (title, rest) = self.headings.split_first().expect("a document has a title");
        (title, rest.iter().map(String::as_str).collect())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files and folders below `folder`, but for what cargo and git keep there.
fn below(folder: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if ["target", ".git"].iter().any(|name| path.ends_with(name)) {
                continue;
            }
            found.insert(path.strip_prefix(root()).unwrap().to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Where docs.rs shows the files of the package.
const SOURCE: &str = "https://docs.rs/crate/tower-idempotency/latest/source/";

/// The pages that the crate's own documentation consists of.
fn crate_pages() -> Vec<Document> {
    below("src/docs").iter().filter(|path| is_page(path)).map(|path| Document::read(path)).collect()
}

/// Whether a file or folder is in the package, by what `Cargo.toml` leaves out.
fn is_packaged(path: &Path) -> bool {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("exclude = [").expect("what is left out");
    let (list, _) = rest.split_once(']').unwrap();
    let left_out: Vec<_> = list.split('"').skip(1).step_by(2).collect();
    assert!(left_out.len() > 10, "only {left_out:?} are left out");
    root().join(path).exists() && !left_out.iter().any(|left_out| path.starts_with(left_out))
}

fn documents() -> Vec<Document> {
    let top = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"].map(PathBuf::from);
    let deeper = below("docs").into_iter().filter(|path| is_page(path));
    top.into_iter().chain(deeper).map(|path| Document::read(&path)).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// What a host of repositories makes of a heading, to link to it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Whether a word of code is the path of a file or folder, whole or its end: `src/flow.rs`, `store.rs`, `walk/`.
fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '/' | '.' | '-' | '_'));
    let in_a_folder = ["src/", "tests/", "docs/", "examples/", "benches/", "fuzz/", ".ci/"];
    let is_file = [".rs", ".md", ".toml"].iter().any(|extension| word.ends_with(extension));
    plain && !word.starts_with(['/', '.']) && (is_file || word.ends_with('/'))
        || plain && in_a_folder.iter().any(|folder| word.starts_with(folder))
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents() {
        for link in document.links.iter().chain(&document.images) {
            let Some((path, place)) = document.target(link) else { continue };
            let leads =
                root().join(&path).exists() && place.is_none_or(|place| Document::read(&path).has_place(&place));
            followed += 1;
            if !leads {
                broken.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    assert!(followed > 50, "only {followed} links were found");
}

/// docs.rs shows the package, not the repository. It takes what does not end in a slash for a file.
#[test]
fn every_link_into_the_package_names_something_that_is_in_it() {
    let leads = |link: &str| {
        let path = link.strip_prefix(SOURCE).map(Path::new);
        path.is_some_and(|path| is_packaged(path) && root().join(path).is_dir() == link.ends_with('/'))
    };
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents().into_iter().chain(crate_pages()) {
        let into_the_package = |link: &&String| link.starts_with("https://docs.rs/crate/tower-idempotency");
        for link in document.links.iter().filter(into_the_package) {
            followed += 1;
            if !leads(link) {
                broken.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links to what is not in the package: {broken:#?}");
    assert!(followed > 30, "only {followed} links were found");
}

/// On crates.io a relative link leads nowhere while `Cargo.toml` names no repository. Images, and what is not in the
/// package, have no other address.
#[test]
fn the_readme_links_to_published_places() {
    let readme = Document::read(Path::new("README.md"));
    let relative = readme.links.iter().filter(|link| !link.contains("://") && !link.starts_with('#'));
    let avoidable: Vec<_> = relative.filter(|link| is_packaged(Path::new(link))).collect();
    assert!(avoidable.is_empty(), "links that could begin with {SOURCE}: {avoidable:#?}");
}

/// Of the pages that docs.rs will have, by the list of what is public and the headings of the crate's documentation.
#[test]
fn every_link_into_the_api_names_something_that_exists() {
    let api = fs::read_to_string(root().join("tests/public-api/api.txt")).unwrap();
    let prose = crate_pages();
    // Behind the name there may be parameters.
    let names = |line: &str, start: String, end: &str| {
        let rest = line
            .split_once(&start)
            .map(|(_, rest)| rest)
            .filter(|rest| rest.is_empty() || rest.starts_with([':', '<', ' ', '(']));
        rest.is_some_and(|rest| {
            end.is_empty() || rest.contains(&format!("::{end}(")) || rest.contains(&format!("::{end}<"))
        })
    };
    let exists = |page: &str| {
        let (page, place) = page.split_once('#').unwrap_or((page, ""));
        let Some((kind, item)) = page.strip_suffix(".html").and_then(|page| page.split_once('.')) else {
            return page.is_empty() && prose.iter().any(|document| document.has_place(place));
        };
        let item = format!("tower_idempotency::{item}");
        api.lines().any(|line| names(line, format!("{kind} {item}"), ""))
            && match place.split_once('.') {
                Some(("method" | "tymethod", method)) => {
                    api.lines().any(|line| names(line, format!("fn {item}"), method))
                }
                _ => place.is_empty(),
            }
    };
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let into_the_api = |link: &&String| link.starts_with("https://docs.rs/tower-idempotency/");
        for link in document.links.iter().filter(into_the_api) {
            followed += 1;
            let page = link.strip_prefix("https://docs.rs/tower-idempotency/latest/tower_idempotency/");
            if !page.is_some_and(exists) {
                broken.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links to what is not in the API: {broken:#?}");
    assert!(followed > 20, "only {followed} links were found");
}

#[test]
fn every_path_in_code_exists() {
    let there = below("");
    let mut missing = Vec::new();
    let mut looked_at = 0;
    for document in documents() {
        for word in document.code.iter().flat_map(|code| code.split_whitespace()).filter(|word| is_path(word)) {
            looked_at += 1;
            // Of a path in components, so that `run.rs` is not the end of `rerun.rs`.
            if !there.iter().any(|path| path.ends_with(word)) {
                missing.push(format!("{}: {word}", document.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "paths that do not exist: {missing:#?}");
    assert!(looked_at > 20, "only {looked_at} paths were found");
}

#[test]
fn every_command_names_targets_and_features_that_exist() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let is_target = |folder: &str, name: &str| {
        let path = root().join(folder).join(name);
        path.with_extension("rs").exists() || path.join("main.rs").exists()
    };
    let exists = |option: &str, name: &str| match option {
        "--example" => Some(is_target("examples", name)),
        "--test" => Some(is_target("tests", name)),
        "--bench" => Some(is_target("benches", name)),
        "--features" => Some(name.split(',').all(|name| manifest.contains(&format!("\n{name} = [")))),
        _ => None,
    };
    let mut missing = Vec::new();
    let mut looked_at = 0;
    for document in documents() {
        // What `cargo add` names belongs to other crates.
        for code in document.code.iter().filter(|code| !code.starts_with("cargo add ")) {
            let words: Vec<_> = code.split_whitespace().collect();
            let verdicts: Vec<_> = words.windows(2).filter_map(|pair| exists(pair[0], pair[1])).collect();
            looked_at += verdicts.len();
            if verdicts.contains(&false) {
                missing.push(format!("{}: {code}", document.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "commands that cannot work: {missing:#?}");
    assert!(looked_at > 5, "only {looked_at} names were found");
}

/// Pages whose code is too long for one block, and the tests that compare it with a file that is compiled.
const COMPARED: [(&str, &str); 3] = [
    ("docs/guide/backend.md", "tests/custom_backend.rs"),
    ("docs/guide/client.md", "tests/guides/client.rs"),
    ("docs/guide/encryption.md", "tests/encryption.rs"),
];

/// What a page shows and nothing compiles is wrong some day.
#[test]
fn every_block_of_rust_is_compiled() {
    let read = |path: &Path| fs::read_to_string(root().join(path)).unwrap();
    let includes = |file: &str, page: &Path| {
        read(Path::new(file)).contains(&format!("include_str!(\"{}\")", upwards(file).join(page).display()))
    };
    let mut seen = 0;
    for Document { path, .. } in documents() {
        let text = read(&path);
        let fences: Vec<_> = text.lines().filter(|line| line.starts_with("```rust")).collect();
        let skipped: Vec<_> = fences.iter().filter(|fence| !["```rust", "```rust,no_run"].contains(fence)).collect();
        assert!(skipped.is_empty(), "{}: {skipped:?}", path.display());
        let compared = COMPARED.iter().find(|(page, _)| Path::new(page) == path);
        let compiler = compared.map_or("src/lib.rs", |(_, test)| test);
        assert!(fences.is_empty() || includes(compiler, &path), "{compiler} does not include {}", path.display());
        seen += fences.len();
    }
    assert!(seen > 30, "only {seen} blocks were found");
}

#[test]
fn every_guide_is_in_the_index_and_begins_with_code() {
    let index = Document::read(Path::new("docs/guide/README.md"));
    let linked: BTreeSet<_> = index.links.iter().filter_map(|link| index.target(link)).map(|(path, _)| path).collect();
    let guides: Vec<_> = below("docs/guide").into_iter().filter(|path| !path.ends_with("README.md")).collect();
    let unnamed: Vec<_> = guides.iter().filter(|path| !linked.contains(*path)).collect();
    assert!(unnamed.is_empty(), "the index does not name {unnamed:#?}");
    for guide in &guides {
        let text = fs::read_to_string(root().join(guide)).unwrap();
        let screen: Vec<_> = text.lines().take(30).collect();
        assert!(
            screen.iter().any(|line| line.starts_with("```")),
            "no code on the first screen of {}",
            guide.display()
        );
    }
    assert!(guides.len() > 10, "only {} guides were found", guides.len());
}

#[test]
fn the_crate_s_documentation_names_every_guide() {
    let page = Document::read(Path::new("src/docs/guides.md"));
    let linked: BTreeSet<_> =
        page.links.iter().filter_map(|link| link.strip_prefix(SOURCE)).map(PathBuf::from).collect();
    let guides = below("docs/guide").into_iter().filter(|path| !path.ends_with("README.md"));
    let unnamed: Vec<_> = guides.filter(|path| !linked.contains(path)).collect();
    assert!(unnamed.is_empty(), "the crate's documentation does not name {unnamed:#?}");
}

/// The way from the folder of `file` to the root of the repository.
fn upwards(file: &str) -> PathBuf {
    Path::new(file).components().skip(1).map(|_| "..").collect()
}

/// A reader of the page finds every file, and who adds one is reminded to say what it is for.
#[test]
fn the_architecture_names_every_source_file_and_suite() {
    let architecture = Document::read(Path::new("ARCHITECTURE.md"));
    let linked: BTreeSet<_> = architecture.links.iter().filter_map(|link| architecture.target(link)).collect();
    let is_linked = |path: &PathBuf| linked.contains(&(path.clone(), None));
    let is_role = |path: &PathBuf| path.components().count() == 2 && (path.extension().is_some_and(|end| end == "rs"));
    let is_suite = |path: &PathBuf| path.components().count() == 2 && root().join(path).join("main.rs").exists();
    let sources = below("src").into_iter().filter(is_role);
    let tests = below("tests").into_iter().filter(|path| is_role(path) || is_suite(path));
    let unnamed: Vec<_> = sources.chain(tests).filter(|path| !is_linked(path)).collect();
    assert!(unnamed.is_empty(), "ARCHITECTURE.md does not link to {unnamed:#?}");
}

/// The names of functions that `line` links to, such as [`a_run`](../tests/runs.rs), and their files.
fn linked_functions(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split("[`").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("`](")?;
        let (file, _) = rest.split_once(')')?;
        file.ends_with(".rs").then_some((name, file))
    })
}

/// A control that nothing tests may be gone tomorrow.
#[test]
fn every_row_of_the_security_page_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let rows: Vec<_> =
        page.lines().filter(|line| line.starts_with("| ") && *line != "| threat | control | test |").collect();
    let untested: Vec<_> = rows.iter().filter(|row| linked_functions(row).next().is_none()).collect();
    assert!(untested.is_empty(), "rows without a test: {untested:#?}");
    assert!(rows.len() > 50, "only {} rows were found", rows.len());
    assert_eq!(missing_functions(&page), [""; 0], "tests that do not exist");
}

#[test]
fn every_promise_of_the_reliability_page_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let (_, promises) = page.split_once("| promise | shown by |\n").expect("the table of promises");
    let rows: Vec<_> = promises.lines().skip(1).take_while(|line| line.starts_with("| ")).collect();
    let untested: Vec<_> = rows.iter().filter(|row| linked_functions(row).next().is_none()).collect();
    assert!(untested.is_empty(), "promises without a test: {untested:#?}");
    assert!(rows.len() > 10, "only {} promises were found", rows.len());
    assert_eq!(missing_functions(&page), [""; 0], "tests that do not exist");
}

/// Functions that a page in `docs/` links to, and that are not in the file which it names.
fn missing_functions(page: &str) -> Vec<&str> {
    let defines = |name: &str, file: &str| {
        let text = fs::read_to_string(root().join("docs").join(file)).unwrap_or_default();
        text.contains(&format!("fn {name}("))
    };
    let linked = page.lines().flat_map(linked_functions);
    linked.filter(|(name, file)| !defines(name, file)).map(|(name, _)| name).collect()
}

#[test]
fn the_security_page_names_every_test_of_its_own_suite() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let named: BTreeSet<_> = page.lines().flat_map(linked_functions).map(|(name, _)| name).collect();
    let suite: Vec<_> =
        below("tests/security").iter().map(|path| fs::read_to_string(root().join(path)).unwrap()).collect();
    let lines: Vec<_> = suite.iter().flat_map(|text| text.lines()).collect();
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    let tests: Vec<_> = lines
        .windows(2)
        .filter(|pair| is_test(pair[0]))
        .map(|pair| pair[1].split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).expect("a function").0)
        .collect();
    let unnamed: Vec<_> = tests.iter().filter(|name| !named.contains(**name)).collect();
    assert!(unnamed.is_empty(), "docs/security.md does not name {unnamed:#?}");
    assert!(tests.len() > 20, "only {} tests were found", tests.len());
}

/// A rule over a figure that does not exist never fires.
#[test]
fn the_guide_for_operators_names_figures_outcomes_and_warnings_that_exist() {
    let guide = fs::read_to_string(root().join("docs/guide/operating.md")).unwrap();
    let column = |title: &str| {
        let cells: Vec<_> = observability::table(title).into_iter().map(|row| row[0].clone()).collect();
        cells.iter().flat_map(|cell| cell.split(", ").map(str::to_owned)).collect::<BTreeSet<_>>()
    };
    let figures = column("name");
    let words = guide.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let named: BTreeSet<_> = words.filter(|word| word.starts_with("idempotency_")).collect();
    let is_series = |word: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().filter_map(|end| word.strip_suffix(end));
        figures.contains(word) || of_histogram.into_iter().any(|name| figures.contains(name))
    };
    let unknown: Vec<_> = named.iter().filter(|word| !is_series(word)).collect();
    assert!(unknown.is_empty(), "figures that do not exist: {unknown:?}");
    let unnamed: Vec<_> = figures.iter().filter(|name| !named.iter().any(|word| word.starts_with(&***name))).collect();
    assert!(unnamed.is_empty(), "figures of which the guide says nothing: {unnamed:?}");

    let labels = guide.split("outcome=").skip(1).filter_map(|rest| rest.trim_start_matches('~').split('"').nth(1));
    let outcomes: Vec<_> = labels.flat_map(|label| label.split('|')).collect();
    let unknown: Vec<_> = outcomes.iter().filter(|outcome| !column("outcome").contains(**outcome)).collect();
    assert!(unknown.is_empty() && outcomes.len() > 5, "outcomes that do not exist: {unknown:?} of {outcomes:?}");

    let (_, rows) = guide.split_once("| warning |").expect("the table of warnings");
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with("| "));
    let warnings: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let events = observability::table("event").into_iter().filter(|row| row[1] == "WARN");
    let untold: Vec<_> = events.map(|row| row[0].clone()).filter(|event| !warnings.contains(&**event)).collect();
    assert!(untold.is_empty(), "warnings of which the guide says nothing: {untold:?}");
    let sources: Vec<_> = below("src").iter().filter_map(|path| fs::read_to_string(root().join(path)).ok()).collect();
    let said = |warning: &str| sources.iter().any(|source| source.contains(warning));
    let unsaid: Vec<_> = warnings.iter().filter(|warning| !said(warning)).collect();
    assert!(unsaid.is_empty(), "warnings that nothing says: {unsaid:?}");
}

/// `benches/run instructions` writes both.
#[test]
fn the_performance_page_has_the_figures_of_the_guard() {
    let [page, figures] = ["docs/performance.md", "benches/instructions/figures.txt"]
        .map(|path| fs::read_to_string(root().join(path)).unwrap());
    let figures: Vec<_> = figures.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(figures.len() > 5, "only {} lines of figures were found", figures.len());
    assert!(page.contains(&figures.join("\n")), "docs/performance.md has other figures: run benches/run instructions");
}

#[test]
fn decisions_are_numbered_one_by_one_and_built_alike() {
    for (number, path) in (1..).zip(below("docs/decisions")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("{number:04}-")), "{name} is number {number}");
        let document = Document::read(&path);
        let (title, parts) = document.outline();
        assert!(title.starts_with(&format!("{number}. ")), "{name} has the title {title:?}");
        assert_eq!(parts, ["Context", "Decision", "Consequences"], "the headings of {name}");
    }
}

/// <https://keepachangelog.com>: what is not released comes first, and there are six kinds of changes.
#[test]
fn the_changelog_keeps_its_form() {
    let changelog = Document::read(Path::new("CHANGELOG.md"));
    let (title, parts) = changelog.outline();
    assert_eq!((title, parts.first().copied()), ("Changelog", Some("[Unreleased]")));
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for part in &parts[1..] {
        assert!(kinds.contains(part) || part.starts_with('['), "{part:?} is neither a release nor a kind of change");
    }
}
