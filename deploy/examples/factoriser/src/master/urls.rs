// SPDX-License-Identifier: Apache-2.0
//! The workers' addresses.

use http::Uri;

use crate::Error;
use crate::space::MAX_WORKERS;

/// What stands for the worker's index in an address.
const INDEX: &str = "{index}";

/// The addresses of the workers, by index, from addresses and patterns.
///
/// A pattern has `{index}` in it and stands for an address per worker: in Kubernetes, the pods of the StatefulSet
/// `factoriser` behind the headless Service of that name are `http://factoriser-{index}.factoriser:7100`. It needs the
/// number of workers; without a pattern that number is the number of addresses.
pub fn worker_urls(urls: &[String], workers: Option<u32>) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for url in urls {
        let url = url.trim().trim_end_matches('/');
        if url.contains(INDEX) {
            let count = workers.ok_or_else(|| Error::Pattern { url: url.to_owned() })?;
            if count > MAX_WORKERS {
                return Err(Error::Workers(count as usize));
            }
            all.extend((0..count).map(|index| url.replace(INDEX, &index.to_string())));
        } else {
            all.push(url.to_owned());
        }
    }
    if let Some(bad) = all.iter().find(|url| !is_address(url)) {
        return Err(Error::Url { url: bad.clone() });
    }
    if all.is_empty() || all.len() > MAX_WORKERS as usize {
        return Err(Error::Workers(all.len()));
    }
    if let Some(workers) = workers.map(|n| n as usize).filter(|n| *n != all.len()) {
        return Err(Error::Urls { urls: all.len(), workers });
    }
    Ok(all)
}

fn is_address(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| {
        let whole = uri.path() == "/" && uri.query().is_none() && !url.contains('#');
        uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()) && whole
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str], workers: Option<u32>) -> Result<Vec<String>, Error> {
        worker_urls(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), workers)
    }

    #[test]
    fn lists_and_patterns() {
        assert_eq!(urls(&["http://a:1/", " http://b:2"], None).unwrap(), ["http://a:1", "http://b:2"]);
        assert_eq!(
            urls(&["http://factoriser-{index}.factoriser:7100"], Some(3)).unwrap(),
            [0, 1, 2].map(|index| format!("http://factoriser-{index}.factoriser:7100"))
        );
        assert_eq!(urls(&["http://[::1]:1"], Some(1)).unwrap(), ["http://[::1]:1"]);
    }

    #[test]
    fn other_texts_are_refused() {
        for url in [
            "",
            "a:1",
            "https://a:1",
            "http://",
            "http:///x",
            "http://a:1/x",
            "http://a:1?x",
            "http://a:1#x",
            "http://a b",
            "ftp://a",
        ] {
            assert!(matches!(urls(&[url], None), Err(Error::Url { .. })), "{url:?}");
        }
        for (list, workers) in [(&[] as &[&str], None), (&["http://a-{index}"], Some(0))] {
            assert!(matches!(urls(list, workers), Err(Error::Workers(0))));
        }
        assert!(matches!(urls(&["http://a-{index}"], None), Err(Error::Pattern { .. })));
        assert!(matches!(urls(&["http://a-{index}"], Some(MAX_WORKERS + 1)), Err(Error::Workers(_))));
        assert!(matches!(urls(&["http://a", "http://b"], Some(3)), Err(Error::Urls { urls: 2, workers: 3 })));
    }
}
