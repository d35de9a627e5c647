//! Names that callers choose: they become paths, arguments of git and parts of URLs, so nothing odd may pass.

/// Longest owner, repository or ref.
const LONGEST: usize = 255;

/// `owner/name` of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RepositoryName {
    owner: String,
    repo: String,
}

impl RepositoryName {
    /// Takes `owner/name` apart.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (owner, repo) = text.split_once('/')?;
        Self::new(owner, repo)
    }

    pub(crate) fn new(owner: &str, repo: &str) -> Option<Self> {
        (part(owner) && part(repo)).then(|| Self { owner: owner.to_owned(), repo: repo.to_owned() })
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn repo(&self) -> &str {
        &self.repo
    }
}

impl std::fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.repo)
    }
}

fn part(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // A leading dot or dash is a hidden file, a way up, or an option.
    !text.is_empty() && text.len() <= LONGEST && !text.starts_with(['.', '-']) && text.chars().all(legal)
}

/// What follows the `@` of an action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GitRef(String);

impl GitRef {
    /// A branch, tag or commit; as strict as `git check-ref-format`, and no option either.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let component = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && !part.to_ascii_lowercase().ends_with(".lock")
                && !part.ends_with('.')
        };
        let legal = |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\\"'`$;&|<>".contains(c);
        let good = text.len() <= LONGEST
            && text.chars().all(legal)
            && text.split('/').all(component)
            && !text.contains("..")
            && !text.contains("@{")
            && text != "@";
        good.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The commit, where it is a whole one.
    pub(crate) fn commit(&self) -> Option<&str> {
        is_commit(&self.0).then_some(self.0.as_str())
    }

    /// Whether it looks like the beginning of a commit's id, which no source takes.
    pub(super) fn is_short_commit(&self) -> bool {
        (7..40).contains(&self.0.len()) && self.0.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// Forty hexadecimal digits in lower case.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_or_pass_for_options_are_refused() {
        for bad in
            ["a", "../b", "a/..", "a/.git", "-a/b", "a/-b", "a/b/c", "a/", "/b", "a/b c", "a/b%2f", "a\\b/c", "é/a"]
        {
            assert!(RepositoryName::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(RepositoryName::parse("acme/tools.rs").unwrap().to_string(), "acme/tools.rs");
    }

    #[test]
    fn refs_that_git_would_not_take_as_such_are_refused() {
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a..b",
            "../x",
            "a/../b",
            "/a",
            "a/",
            "a//b",
            "a b",
            "a\nb",
            "v1^{}",
            "v1~1",
            "a:b",
            "a.lock",
            "x/.y",
            "@",
            "v1@{1}",
            "$(id)",
            "a;b",
            "`a`",
        ] {
            assert!(GitRef::parse(bad).is_none(), "{bad}");
        }
        for good in ["v4", "main", "releases/v1", "feature/x@y", "1.2.3", "a+b"] {
            assert!(GitRef::parse(good).is_some(), "{good}");
        }
        assert!(GitRef::parse(&"a".repeat(40)).unwrap().commit().is_some());
        assert!(GitRef::parse("abcdef0").unwrap().is_short_commit());
    }
}
