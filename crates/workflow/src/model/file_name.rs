//! Names of workflow files, as `uses` of a job writes them.

use std::fmt;

/// The name of a workflow file: in the repository of the run, or in another one at a ref.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The other repository.
    pub repository: Option<RepositoryRef>,
    /// Path below the root of its repository, without `./`.
    pub path: String,
}

/// A repository at a ref.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryRef {
    /// `owner/name`.
    pub name: String,
    /// Branch, tag or commit.
    pub git_ref: String,
}

impl FileName {
    /// A file of the run's repository.
    #[must_use]
    pub fn local(path: impl Into<String>) -> Self {
        Self { repository: None, path: path.into() }
    }

    /// Reads `./path/to/file.yml` or `owner/repo/path/to/file.yml@ref`.
    ///
    /// # Errors
    /// What is wrong with the text, as a sentence without a subject.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (repository, path) = if let Some(path) = text.strip_prefix("./") {
            (None, path)
        } else {
            let (before, git_ref) = text.split_once('@').ok_or("has neither `./` in front nor `@ref` at its end")?;
            let mut parts = before.splitn(3, '/');
            let (Some(owner), Some(repo), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                return Err("names no file of the repository");
            };
            if owner.is_empty() || repo.is_empty() || git_ref.trim().is_empty() {
                return Err("is not `owner/repo/path/to/file.yml@ref`");
            }
            (Some(RepositoryRef { name: format!("{owner}/{repo}"), git_ref: git_ref.to_owned() }), path)
        };
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !path.split('/').all(is_plain) {
            return Err("is not a plain path");
        }
        let extension = path.rsplit_once('.').map(|(_, extension)| extension);
        if !matches!(extension, Some("yml" | "yaml")) {
            return Err("names no `.yml` or `.yaml` file");
        }
        Ok(Self { repository, path: path.to_owned() })
    }

    /// The file that this name means where it stands in `caller`: local names are those of the caller's repository.
    #[must_use]
    pub fn seen_from(&self, caller: &Self) -> Self {
        match self.repository {
            Some(_) => self.clone(),
            None => Self { repository: caller.repository.clone(), path: self.path.clone() },
        }
    }
}

impl std::str::FromStr for FileName {
    type Err = &'static str;

    /// Reads what `Display` writes: as [`FileName::parse`], but a path of the run's repository stands without `./`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('@') { Self::parse(text) } else { Self::parse(&format!("./{text}")) }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repository {
            Some(repository) => write!(formatter, "{}/{}@{}", repository.name, self.path, repository.git_ref),
            None => formatter.write_str(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        let local = FileName::parse("./.github/workflows/build.yml").unwrap();
        assert_eq!(local, FileName::local(".github/workflows/build.yml"));
        let other = FileName::parse("acme/ci/.github/workflows/build.yaml@v1").unwrap();
        assert_eq!(other.to_string(), "acme/ci/.github/workflows/build.yaml@v1");
        assert_eq!(local.seen_from(&other).to_string(), "acme/ci/.github/workflows/build.yml@v1");
        assert_eq!(other.seen_from(&local), other);
        for name in [local, other] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_file_of_a_repository_is_refused() {
        for text in [
            "build.yml",
            "./",
            "./../x.yml",
            "./a//b.yml",
            "./x",
            "acme/ci@v1",
            "acme/ci/x.yml",
            "acme/ci/x.yml@",
            "/x/y.yml@v",
        ] {
            assert!(FileName::parse(text).is_err(), "{text}");
        }
    }
}
