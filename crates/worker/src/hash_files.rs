//! `hashFiles`: one digest of all files of the workspace that match patterns.
//!
//! Result and order are those of the official runner's script (actions/runner `src/Misc/expressionFunc/hashFiles` over
//! @actions/glob): SHA-256 over the SHA-256 digests of the files, directories walked in order of their names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use globset::{GlobBuilder, GlobMatcher};
use tokio::time::Instant;

/// How long one call may take (actions/runner `Runner.Worker/Expressions/HashFilesFunction.cs`).
const LONGEST: Duration = Duration::from_secs(120);

/// Deepest directory visited; cycles of links end here.
const MAX_DEPTH: usize = 128;

struct Pattern {
    exclude: bool,
    /// Without a wildcard, where the search begins.
    root: PathBuf,
    matchers: Vec<GlobMatcher>,
}

/// The digest as hexadecimal text, or an empty text when no file matches. `patterns` may hold several lines; a first
/// `--follow-symbolic-links` has linked directories walked too.
pub(crate) fn hash_files(workspace: &Path, patterns: &[String]) -> Result<String, String> {
    let mut follow = false;
    let mut parsed = Vec::new();
    for (index, line) in patterns.iter().flat_map(|pattern| pattern.lines()).map(str::trim).enumerate() {
        if index == 0 && line.eq_ignore_ascii_case("--follow-symbolic-links") {
            follow = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            parsed.push(pattern(workspace, line)?);
        }
    }
    let mut roots: Vec<&Path> = Vec::new();
    for pattern in parsed.iter().filter(|pattern| !pattern.exclude) {
        let covered = parsed
            .iter()
            .any(|other| !other.exclude && other.root != pattern.root && pattern.root.starts_with(&other.root));
        if !covered && !roots.contains(&pattern.root.as_path()) {
            roots.push(&pattern.root);
        }
    }
    let mut walk = Walk {
        workspace,
        patterns: &parsed,
        follow,
        digest: Context::new(&SHA256),
        files: 0,
        deadline: Instant::now() + LONGEST,
    };
    for root in roots {
        walk.visit(root, 0)?;
    }
    if walk.files == 0 {
        return Ok(String::new());
    }
    Ok(walk.digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn pattern(workspace: &Path, line: &str) -> Result<Pattern, String> {
    let bangs = line.chars().take_while(|c| *c == '!').count();
    let text = line[bangs..].trim();
    let absolute = workspace.join(text.trim_end_matches('/'));
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    let text = clean.to_string_lossy();
    let wild = |part: &str| part.contains(['*', '?', '[']);
    let mut root = PathBuf::new();
    for part in clean.components() {
        if wild(&part.as_os_str().to_string_lossy()) {
            break;
        }
        root.push(part);
    }
    // Braces have no meaning there; a directory stands for all it contains.
    let escaped = text.replace('{', "[{]").replace('}', "[}]");
    let matchers = [escaped.clone(), format!("{escaped}/**")]
        .iter()
        .map(|glob| {
            let built = GlobBuilder::new(glob).literal_separator(true).build();
            built.map(|glob| glob.compile_matcher()).map_err(|error| format!("pattern `{line}`: {}", error.kind()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Pattern { exclude: bangs % 2 == 1, root, matchers })
}

struct Walk<'a> {
    workspace: &'a Path,
    patterns: &'a [Pattern],
    follow: bool,
    digest: Context,
    files: usize,
    deadline: Instant,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        if Instant::now() > self.deadline {
            return Err(format!("more than {} s have passed; name fewer files", LONGEST.as_secs()));
        }
        let Ok(data) = std::fs::symlink_metadata(path) else { return Ok(()) };
        let linked = data.file_type().is_symlink();
        let Ok(data) = std::fs::metadata(path) else { return Ok(()) };
        if data.is_dir() {
            if (linked && !self.follow) || depth > MAX_DEPTH {
                return Ok(());
            }
            let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort_unstable();
            names.iter().try_for_each(|name| self.visit(&path.join(name), depth + 1))
        } else if data.is_file() && path.starts_with(self.workspace) && self.matches(path) {
            self.file(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
        } else {
            Ok(())
        }
    }

    fn matches(&self, path: &Path) -> bool {
        let mut matched = false;
        for pattern in self.patterns {
            if matched == pattern.exclude && pattern.matchers.iter().any(|matcher| matcher.is_match(path)) {
                matched = !pattern.exclude;
            }
        }
        matched
    }

    fn file(&mut self, path: &Path) -> std::io::Result<()> {
        let mut file = File::open(path)?;
        let mut digest = Context::new(&SHA256);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            digest.update(&buffer[..length]);
        }
        self.digest.update(digest.finish().as_ref());
        self.files += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in
            [("a.lock", "a"), ("sub/b.lock", "b"), ("sub/deep/c.lock", "c"), ("sub/x.txt", "x"), ("br{a}ce", "y")]
        {
            let file = directory.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        directory
    }

    /// The digest of files with these contents, in this order.
    fn expected(contents: &[&str]) -> String {
        let mut all = Context::new(&SHA256);
        for text in contents {
            all.update(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()).as_ref());
        }
        all.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn files_are_chosen_and_ordered_as_by_the_official_script() {
        let workspace = workspace();
        for (patterns, contents) in [
            (&["**/*.lock"][..], &["a", "b", "c"][..]),
            (&["*.lock"], &["a"]),
            (&["sub"], &["b", "c", "x"]),
            (&["sub/**", "!**/deep/**"], &["b", "x"]),
            (&["**/*.lock", "!sub", "sub/deep/c.lock"], &["a", "c"]),
            (&["sub/deep\na.lock"], &["c", "a"]),
            (&["./a.lock", "# note"], &["a"]),
            (&["br{a}ce"], &["y"]),
        ] {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            assert_eq!(hash_files(workspace.path(), &patterns).unwrap(), expected(contents), "{patterns:?}");
        }
    }

    #[test]
    fn nothing_found_is_an_empty_text_and_the_workspace_is_not_left() {
        let workspace = workspace();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("z"), "z").unwrap();
        for pattern in ["*.none".to_owned(), format!("{}/z", outside.path().display()), "../**".to_owned()] {
            let hash = hash_files(&workspace.path().join("sub/deep"), std::slice::from_ref(&pattern)).unwrap();
            assert_eq!(hash == String::new(), pattern != "../**", "{pattern}");
        }
        assert!(hash_files(workspace.path(), &["[".to_owned()]).unwrap_err().contains("pattern `[`"));
    }

    #[test]
    fn linked_directories_are_walked_on_request_only() {
        let workspace = workspace();
        std::os::unix::fs::symlink("sub/deep", workspace.path().join("link")).unwrap();
        assert_eq!(hash_files(workspace.path(), &["link/**".to_owned()]).unwrap(), "");
        let followed = hash_files(workspace.path(), &["--follow-symbolic-links".to_owned(), "link/**".to_owned()]);
        assert_eq!(followed.unwrap(), expected(&["c"]));
    }
}
