// SPDX-License-Identifier: Apache-2.0
//! ListObjectsV2.

use aws_sdk_s3::types::EncodingType;

use crate::kit::{BUCKET, Kit, refusal, status};

/// Every key and common prefix, page by page, and how many pages there were.
async fn all(kit: &Kit, prefix: &str, delimiter: Option<&str>, limit: i32) -> (Vec<String>, Vec<String>, usize) {
    let (mut keys, mut prefixes, mut pages) = (Vec::new(), Vec::new(), 0);
    let mut token = None;
    loop {
        let page = kit.client.list_objects_v2().bucket(BUCKET).prefix(prefix).max_keys(limit);
        let page = page.set_delimiter(delimiter.map(str::to_owned)).set_continuation_token(token);
        let page = page.send().await.unwrap();
        pages += 1;
        let shown = page.contents().len() + page.common_prefixes().len();
        assert_eq!(page.key_count(), Some(shown as i32));
        assert!(shown <= limit as usize);
        keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        prefixes.extend(page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        token = page.next_continuation_token().map(str::to_owned);
        assert_eq!(page.is_truncated(), Some(token.is_some()));
        if token.is_none() {
            return (keys, prefixes, pages);
        }
    }
}

#[tokio::test]
async fn pages_make_up_the_whole() {
    let kit = Kit::start().await;
    for n in 0..25 {
        assert_eq!(kit.put(&format!("l/{n:03}"), "").await, 200);
        assert_eq!(kit.put(&format!("m/{}/{n}", n % 5), "").await, 200);
    }
    let (keys, prefixes, pages) = all(&kit, "l/", None, 7).await;
    assert_eq!((keys.len(), prefixes.len(), pages), (25, 0, 4));
    assert!(keys.is_sorted());
    assert_eq!(all(&kit, "l/", None, 25).await.2, 1, "a full page may be the last");

    for limit in [1, 2, 3, 1000] {
        let (keys, prefixes, _) = all(&kit, "", Some("/"), limit).await;
        assert_eq!((keys.len(), &prefixes[..]), (0, &["l/".to_owned(), "m/".to_owned()][..]), "{limit}");
        let (keys, prefixes, _) = all(&kit, "m/", Some("/"), limit).await;
        assert_eq!((keys.len(), prefixes.len()), (0, 5), "{limit}");
        let (keys, prefixes, _) = all(&kit, "m/3", None, limit).await;
        assert_eq!((keys.len(), prefixes.len()), (5, 0), "{limit}");
    }
}

#[tokio::test]
async fn a_page_begins_where_it_should() {
    let kit = Kit::start().await;
    for key in ["a", "b", "b/1", "c"] {
        assert_eq!(kit.put(key, "x").await, 200);
    }
    let list = || kit.client.list_objects_v2().bucket(BUCKET);
    let after = list().start_after("b").send().await.unwrap();
    let keys: Vec<_> = after.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(keys, ["b/1", "c"]);
    let object = &after.contents()[0];
    assert_eq!((object.size(), object.e_tag()), (Some(1), Some(kit.etag("b/1").await.as_str())));

    let none = list().max_keys(0).send().await.unwrap();
    assert_eq!((none.contents().len(), none.is_truncated()), (0, Some(false)));
    assert_eq!(refusal(list().max_keys(-1).send().await), (400, "InvalidArgument".to_owned()));
    assert_eq!(refusal(list().continuation_token("b").send().await), (400, "InvalidArgument".to_owned()));
    assert_eq!(list().max_keys(5000).send().await.unwrap().max_keys(), Some(1000));
    assert_eq!(status(&list().prefix("nothing").send().await), 200);
}

#[tokio::test]
async fn keys_that_xml_cannot_say_can_be_encoded() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("a\u{1}b c", "x").await, 200);
    let page = kit.client.list_objects_v2().bucket(BUCKET).encoding_type(EncodingType::Url).send().await.unwrap();
    assert_eq!(page.contents()[0].key(), Some("a%01b%20c"));
}
