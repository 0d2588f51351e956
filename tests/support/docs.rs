//! The tables of `src/docs/observability.md`.

/// The rows of the table whose first column is called `title`, without the marks of code.
pub(crate) fn table(title: &str) -> Vec<Vec<String>> {
    let page = include_str!("../../src/docs/observability.md");
    let rows = page.lines().skip_while(|line| cells(line).first().is_none_or(|cell| cell != title));
    let rows: Vec<_> = rows.skip(2).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(rows.len() > 2, "no table of {title}");
    rows
}

fn cells(line: &str) -> Vec<String> {
    let Some(line) = line.strip_prefix("| ") else { return Vec::new() };
    line.trim_end_matches('|').split(" |").map(|cell| cell.trim().replace('`', "")).collect()
}
