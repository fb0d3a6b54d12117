// SPDX-License-Identifier: Apache-2.0
//! Passes: what a session is resumed by when its pod is being ended and its token has become void.
//!
//! A pass says which pod and repository it is for and is signed with a key of the repository, together with the 16 bytes that only this agent's
//! process knows: so any coordinator can check it, and none has to remember it. It opens nothing unless that very pod is there and being ended.

use super::PodIdentity;
use crate::cluster::RepositoryKey;
use crate::session::Instance;
use aws_lc_rs::hmac;

const TAG_LEN: usize = 32;
/// Longest pass, in hexadecimal digits: four names of 253 bytes each and a tag.
const PASS_MAX: usize = 2 * (4 * 254 + TAG_LEN);

/// What a pass says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) pod: PodIdentity,
    pub(crate) repository: RepositoryKey,
}

/// A pass as it came, not checked yet.
#[derive(Debug)]
pub(crate) struct Unchecked {
    pass: Pass,
    tag: Vec<u8>,
}

/// The key that a repository's passes are signed with.
pub(crate) fn key(secret: &[u8; 32]) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"holdfast session passes v1").as_ref())
}

impl Pass {
    pub(crate) fn new(pod: &PodIdentity, repository: &RepositoryKey) -> Self {
        Self { pod: pod.clone(), repository: repository.clone() }
    }

    /// What is signed. Kubernetes' names have no line breaks.
    fn body(&self) -> String {
        let Self { pod, repository } = self;
        [pod.namespace.as_str(), &pod.name, &pod.uid, &repository.name].join("\n")
    }

    fn signed(&self, instance: &Instance) -> Vec<u8> {
        [instance.as_slice(), self.body().as_bytes()].concat()
    }

    /// The pass as an agent gets it.
    pub(crate) fn sign(&self, key: &hmac::Key, instance: &Instance) -> String {
        let tag = hmac::sign(key, &self.signed(instance));
        hex::encode([tag.as_ref(), self.body().as_bytes()].concat())
    }

    /// Reads a pass; whether it is one is not known before it is checked.
    pub(crate) fn read(text: &str) -> Option<Unchecked> {
        let bytes = hex::decode(text).ok().filter(|_| text.len() <= PASS_MAX)?;
        let (tag, body) = bytes.split_at_checked(TAG_LEN)?;
        let parts: Vec<&str> = std::str::from_utf8(body).ok()?.split('\n').collect();
        let [namespace, name, uid, repository] = parts[..] else { return None };
        let pod = PodIdentity { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() };
        let repository = RepositoryKey::new(namespace, repository);
        Some(Unchecked { pass: Self { pod, repository }, tag: tag.to_vec() })
    }
}

impl Unchecked {
    /// The repository whose key it must be signed with.
    pub(crate) const fn repository(&self) -> &RepositoryKey {
        &self.pass.repository
    }

    /// The pass, if this process of an agent was given it.
    pub(crate) fn check(self, key: &hmac::Key, instance: &Instance) -> Option<Pass> {
        hmac::verify(key, &self.pass.signed(instance), &self.tag).ok()?;
        Some(self.pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_fits_its_process_and_its_repository() {
        let pod = PodIdentity { namespace: "shop".to_owned(), name: "web-0".to_owned(), uid: "u1".to_owned() };
        let pass = Pass::new(&pod, &RepositoryKey::new("shop", "main"));
        let text = pass.sign(&key(&[1; 32]), &[7; 16]);
        let check = |text: &str, secret: u8, instance: u8| {
            Pass::read(text).and_then(|read| read.check(&key(&[secret; 32]), &[instance; 16]))
        };
        assert_eq!(check(&text, 1, 7).as_ref(), Some(&pass));
        assert_eq!(check(&text, 1, 8), None, "another process");
        assert_eq!(check(&text, 2, 7), None, "another repository's key");
        let other = hex::encode(
            hex::decode(&text).expect("hex").iter().map(|byte| if *byte == b'0' { b'1' } else { *byte }).collect::<Vec<_>>(),
        );
        assert!(other != text && check(&other, 1, 7).is_none(), "another pod");
        for nonsense in ["", "00", "xx", &text[..60], &format!("{text}0a")] {
            assert_eq!(check(nonsense, 1, 7), None, "{nonsense}");
        }
    }
}
