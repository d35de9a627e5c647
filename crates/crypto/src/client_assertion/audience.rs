//! Whether two addresses are the same to .NET's `Uri`, which rewrites the one that it was given.

/// Whether the audience `claimed` is the address `ours`.
pub(super) fn same(claimed: &str, ours: &str) -> bool {
    claimed == ours || normal(claimed) == normal(ours)
}

/// `address` as `Uri.AbsoluteUri` writes it: scheme and host in lower case, no default port, `/` after a bare
/// authority, and percent-encoding with upper case digits and only where it is needed.
fn normal(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let at = if user.is_empty() { "" } else { "@" };
    let host = host.to_ascii_lowercase();
    let default = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => ":",
    };
    let host = host.strip_suffix(default).or_else(|| host.strip_suffix(':')).unwrap_or(&host);
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{user}{at}{host}{slash}{}", normal_escapes(path))
}

fn normal_escapes(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        rest = after;
        let escaped = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // `from_str_radix` takes a sign for a digit; the second byte must be one in any case.
        match escaped.filter(|_| after.as_bytes()[0].is_ascii_hexdigit()) {
            Some(byte) => {
                rest = &after[2..];
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    text.push(char::from(byte));
                } else {
                    text.push_str(&format!("%{byte:02X}"));
                }
            }
            None => text.push('%'),
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_dotnet_rewrites_makes_no_difference() {
        for (claimed, ours) in [
            ("https://ci.example.test/oauth2/token", "https://ci.example.test/oauth2/token"),
            ("https://ci.example.test/oauth2/token", "HTTPS://CI.example.TEST:443/oauth2/token"),
            ("http://ci.example.test/t", "http://ci.example.test:80/t"),
            ("http://ci.example.test/t", "http://ci.example.test:/t"),
            ("https://ci.example.test/", "https://ci.example.test"),
            ("https://ci.example.test/?a=b", "https://ci.example.test?a=b"),
            ("https://ci.example.test/a%2Fb~", "https://ci.example.test/%61%2fb%7e"),
            ("https://[::1]:8443/t", "https://[::1]:8443/t"),
            ("https://[fe80::a]/t", "https://[FE80::A]:443/t"),
            ("not an address", "not an address"),
        ] {
            assert!(same(claimed, ours) && same(ours, claimed), "{claimed} and {ours}");
        }
    }

    #[test]
    fn everything_else_does() {
        for (claimed, ours) in [
            ("https://ci.example.test/t", "http://ci.example.test/t"),
            ("https://ci.example.test/t", "https://ci.example.test/T"),
            ("https://ci.example.test/t", "https://ci.example.test/t/"),
            ("https://ci.example.test/t", "https://ci.example.test:8443/t"),
            ("http://ci.example.test/t", "http://ci.example.test:443/t"),
            ("https://ci.example.test/t", "https://ci.example.test.attacker.example/t"),
            ("https://ci.example.test/t", "https://user@ci.example.test/t"),
            ("https://ci.example.test/a/b", "https://ci.example.test/a%2Fb"),
            ("https://[::1]/t", "https://[::]/t"),
            ("https://ci.example.test/%+1", "https://ci.example.test/%01"),
            ("", "https://ci.example.test/"),
        ] {
            assert!(!same(claimed, ours) && !same(ours, claimed), "{claimed} and {ours}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(text in "(https?://)?[a-zA-Z:@/%0-9~?é.\\[\\]+-]{0,40}") {
            // Decoding may reveal a percent sign only if `%25` were decoded, which it is not.
            let once = normal(&text);
            let without_port = |text: &str| !text.contains(":443") && !text.contains(":80") && !text.contains("::");
            prop_assume!(without_port(&text));
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn any_text_is_compared_without_a_panic(one: String, two: String) {
            let _ = same(&one, &two);
            prop_assert!(same(&one, &one));
        }
    }
}
