// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::transport::Page;
use crate::transport::memory::Memory;
use async_trait::async_trait;
use bytes::Bytes;

/// What a store does that it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sin {
    None,
    /// Looks whether the name is taken, and writes a moment later.
    ChecksEarly,
    Replaces,
    Unchecked,
    IgnoresRanges,
    ListsLate,
    KeepsDeleted,
    LosesAnswers,
}

#[derive(Debug)]
struct Sinner {
    memory: Memory,
    sin: Sin,
}

fn refused(failure: Failure) -> TransportError {
    TransportError { operation: "put", object: "probe".to_owned(), message: "no".to_owned(), failure }
}

#[async_trait]
impl Transport for Sinner {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        if Body::new(body.bytes.clone()).sha256 != body.sha256 && self.sin != Sin::Unchecked {
            return Err(refused(Failure::Refused));
        }
        match self.sin {
            Sin::ChecksEarly => {
                let taken = self.memory.size(name).await?.is_some();
                tokio::task::yield_now().await;
                if taken {
                    return Ok(Created::Exists);
                }
                self.memory.tamper(name, Some(body.bytes.clone()));
                Ok(Created::Yes)
            }
            Sin::Replaces => {
                self.memory.tamper(name, Some(body.bytes.clone()));
                Ok(Created::Exists)
            }
            Sin::LosesAnswers => match self.memory.create(name, body).await? {
                Created::Yes => Err(refused(Failure::Unavailable)),
                Created::Exists => Ok(Created::Exists),
            },
            _ => self.memory.create(name, body).await,
        }
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.memory.get(name, if self.sin == Sin::IgnoresRanges { Range::All } else { range }).await
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.memory.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        let mut page = self.memory.list(prefix, after, by_level, limit).await?;
        if self.sin == Sin::ListsLate && page.next.is_none() {
            page.objects.pop();
        }
        Ok(page)
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        if self.sin == Sin::KeepsDeleted { Ok(()) } else { self.memory.delete(name).await }
    }

    fn location(&self) -> String {
        "a store".to_owned()
    }
}

async fn tried(sin: Sin) -> (Result<Findings, Option<Broken>>, usize) {
    let sinner = Arc::new(Sinner { memory: Memory::default(), sin });
    let transport: Arc<dyn Transport> = sinner.clone();
    let found = probe(&transport, Options { rounds: 3, racers: 8, body_bytes: 1000 }).await;
    let found = found.map_err(|error| match error {
        ProbeError::Broken { broken, .. } => Some(broken),
        ProbeError::Store(_) => None,
    });
    (found, sinner.memory.objects().len())
}

#[tokio::test]
async fn a_store_that_keeps_its_promises_is_found_good_and_left_clean() {
    assert_eq!(tried(Sin::None).await, (Ok(Findings { races: 3, open_answers: 0 }), 0));
}

#[tokio::test]
async fn each_broken_promise_is_found_and_named() {
    let broken = async |sin| tried(sin).await.0.expect_err("it is broken").expect("a broken promise");
    assert!(matches!(broken(Sin::ChecksEarly).await, Broken::SeveralWinners { racers: 8, .. }));
    assert_eq!(broken(Sin::Replaces).await, Broken::Replaced);
    assert_eq!(broken(Sin::Unchecked).await, Broken::Unchecked);
    assert_eq!(broken(Sin::IgnoresRanges).await, Broken::WrongRange);
    assert_eq!(broken(Sin::ListsLate).await, Broken::StaleListing);
    assert_eq!(broken(Sin::KeepsDeleted).await, Broken::Undeleted);
}

#[tokio::test]
async fn lost_answers_are_no_broken_promise() {
    let (found, left) = tried(Sin::LosesAnswers).await;
    // the first creation is settled by reading back, the races by what lies there
    assert_eq!(found.expect("a good store"), Findings { races: 3, open_answers: 3 });
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_a_refused_store_was_given_is_deleted_too() {
    assert_eq!(tried(Sin::ChecksEarly).await.1, 0);
}
