//! The body of `comp=blocklist`: which blocks, in which order, are the blob.

use startline_store::blobs::BlockName;

use crate::problem::{ApiError, ApiResult};

/// Names in their order. A subset of XML is enough: the one element, with elements of text.
pub(super) fn parse(body: &[u8]) -> ApiResult<Vec<BlockName>> {
    let bad = |what: &str| ApiError::invalid(format!("the block list {what}"));
    let text = std::str::from_utf8(body).map_err(|_| bad("is not UTF-8"))?;
    let mut rest = text.trim_start_matches('\u{feff}').trim();
    if let Some(declared) = rest.strip_prefix("<?xml") {
        rest = declared.split_once("?>").ok_or_else(|| bad("has a declaration without an end"))?.1.trim_start();
    }
    if matches!(rest, "<BlockList/>" | "<BlockList />") {
        return Ok(Vec::new());
    }
    rest = rest.strip_prefix("<BlockList>").ok_or_else(|| bad("does not begin with `<BlockList>`"))?;
    let mut names = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(end) = rest.strip_prefix("</BlockList>") {
            return if end.trim().is_empty() { Ok(names) } else { Err(bad("goes on behind its end")) };
        }
        let known = ["Latest", "Uncommitted", "Committed"].into_iter().find_map(|element| {
            let inner = rest.strip_prefix('<')?.strip_prefix(element)?.strip_prefix('>')?;
            inner.split_once(&format!("</{element}>"))
        });
        let (name, behind) = known.ok_or_else(|| bad("has something else than `Latest`, or does not end"))?;
        // Names are base64, in which nothing needs to be escaped.
        if name.contains(['<', '&']) {
            return Err(bad("has a name that is not base64"));
        }
        names.push(BlockName::new(name.trim()).map_err(|error| bad(&format!("has a bad name: {error}")))?);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &str) -> Option<Vec<String>> {
        parse(body.as_bytes()).ok().map(|names| names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_order_of_the_list_is_kept_and_it_may_be_empty() {
        let sent = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<BlockList><Latest>Yg==</Latest>\
                    <Uncommitted>YQ+/</Uncommitted>\n<Latest>Yg==</Latest></BlockList>\n";
        assert_eq!(names(sent).unwrap(), ["Yg==", "YQ+/", "Yg=="]);
        assert_eq!(names("<BlockList></BlockList>").unwrap(), [""; 0]);
        assert_eq!(names("<?xml version=\"1.0\"?><BlockList/>").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_block_list_is_refused() {
        for bad in [
            "",
            "<BlockList>",
            "<BlockList><Latest>YQ==</BlockList>",
            "<BlockList><Latest></Latest></BlockList>",
            "<BlockList><Other>YQ==</Other></BlockList>",
            "<BlockList><Latest>a&amp;b</Latest></BlockList>",
            "<BlockList></BlockList><BlockList></BlockList>",
            "<?xml <BlockList></BlockList>",
            "{}",
        ] {
            assert!(names(bad).is_none(), "{bad}");
        }
        assert!(parse(b"<BlockList><Latest>\xff</Latest></BlockList>").is_err());
    }
}
