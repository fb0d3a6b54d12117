// SPDX-License-Identifier: Apache-2.0
use super::*;

fn user(name: &str, pod: &[&str], uid: &[&str]) -> User {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    let extra = BTreeMap::from([(POD_NAME.to_owned(), texts(pod)), (POD_UID.to_owned(), texts(uid))]);
    User { name: name.to_owned(), extra, ..User::default() }
}

#[test]
fn a_pod_is_known_by_what_its_token_is_bound_to() {
    let found = bound_to(&user("system:serviceaccount:shop:default", &["web-0"], &["u1"])).expect("a pod");
    assert_eq!((found.namespace.as_str(), found.name.as_str(), found.uid.as_str()), ("shop", "web-0", "u1"));
    let table = [
        user("system:serviceaccount:shop:default", &[], &["u1"]),
        user("system:serviceaccount:shop:default", &["web-0"], &[]),
        user("system:serviceaccount:shop:default", &["web-0", "web-1"], &["u1"]),
        user("system:serviceaccount:shop:default", &["web-0"], &[""]),
        user("system:node:node-1", &["web-0"], &["u1"]),
        user("system:serviceaccount:shop", &["web-0"], &["u1"]),
        User { name: "system:serviceaccount:shop:default".to_owned(), ..User::default() },
    ];
    for user in table {
        assert_eq!(bound_to(&user), None, "{user:?}");
    }
}

#[test]
fn tokens_are_read_from_headers_and_never_printed() {
    let of = |value: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", value.parse().expect("a header"));
        Token::of(&headers)
    };
    assert_eq!(of("Bearer abc"), Some(Token("abc".to_owned())));
    assert_eq!(of("bearer  abc "), Some(Token("abc".to_owned())));
    for nothing in ["", "Bearer", "Bearer  ", "Basic abc", &format!("Bearer {}", "x".repeat(TOKEN_MAX + 1))] {
        assert_eq!(of(nothing), None, "{nothing:.20}");
    }
    assert!(!format!("{:?}", of("Bearer hunter2")).contains("hunter2"));
}
