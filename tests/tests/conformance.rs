// SPDX-License-Identifier: Apache-2.0
//! What every store must do, as one suite over the seam: for the model in memory, for the server of the demo, and for a real one where
//! `HOLDFAST_TEST_S3_ENDPOINT`, `HOLDFAST_TEST_S3_ACCESS_KEY` and `HOLDFAST_TEST_S3_SECRET_KEY` name it. There it makes a bucket, and
//! writes under a prefix of its own.

use anyhow::{Context, Result, bail, ensure};
use holdfast_s3_server::{Config, Server};
use holdfast_store::name::Name;
use holdfast_store::transport::memory::Memory;
use holdfast_store::transport::s3::{Options, S3};
use holdfast_store::transport::{Body, Created, Failure, Page, Range, Transport, TransportError};
use std::env;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const BUCKET: &str = "holdfast-conformance";
const RACERS: usize = 40;
const ROUNDS: u64 = 5;
/// The largest object.
const LARGEST: usize = 16 << 20;
/// Names in the order of their bytes, in which `-` comes before `/`: a server that sorts directories as files would tell others.
const NAMES: &[&str] = &["0", "a-1/x", "a/x", "a/y", "a/z/w", "b", "b-withdrawn", "c/1", "z"];
/// The same by level.
const OBJECTS: &[&str] = &["0", "b", "b-withdrawn", "z"];
const LEVELS: &[&str] = &["a-1/", "a/", "c/"];

/// A store to be tried, and the folder in it.
#[derive(Debug)]
struct Subject {
    transport: Arc<dyn Transport>,
    /// Whether it compares a body with its hash: the model has nothing on the way that could damage one.
    checks: bool,
    /// Whether a page by level may begin with the prefix that the page before ended with. S3's documents leave it open what it means to begin
    /// after a prefix; MinIO and the model go on behind all that is below it, the server of the demo does not.
    repeats: bool,
}

fn name(text: &str) -> Result<Name> {
    Name::listed(text).with_context(|| format!("{text:?} is not a name"))
}

/// Bytes that don't compress and differ by seed: xorshift64*, Vigna 2014.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn body(seed: u64, len: usize) -> Body {
    Body::new(bytes(seed, len).into())
}

fn expect_failure<T: Debug>(answer: Result<T, TransportError>, failure: Failure) -> Result<()> {
    match answer {
        Err(error) if error.failure == failure => Ok(()),
        Err(error) => bail!("{failure:?} was expected, not {:?}: {error}", error.failure),
        Ok(value) => bail!("{failure:?} was expected, not success: {value:?}"),
    }
}

impl Subject {
    async fn create(&self, text: &str, body: &Body) -> Result<()> {
        let created = self.transport.create(&name(text)?, body).await?;
        ensure!(created == Created::Yes, "{text} existed already");
        Ok(())
    }

    /// Everything, so that one failure doesn't hide the next.
    async fn conforms(&self) -> Result<()> {
        let mut broken = Vec::new();
        let mut note = |what: &str, result: Result<()>| broken.extend(result.err().map(|error| format!("{what}: {error:#}")));
        note("one winner", self.of_many_one_wins().await);
        note("created once", self.what_exists_stays().await);
        note("checksums", self.a_wrong_hash_leaves_nothing().await);
        note("ranges", self.ranges_are_parts().await);
        note("sizes", self.sizes_are_told().await);
        note("listings", self.listings_are_complete_and_in_order().await);
        note("levels", self.levels_are_complete_and_in_order().await);
        note("after", self.a_listing_begins_after_a_name().await);
        note("prefixes", self.a_prefix_is_a_beginning().await);
        note("deletions", self.what_is_deleted_is_gone().await);
        note("names", self.every_character_of_a_name_counts().await);
        note("largest", self.the_largest_object_comes_back().await);
        note("many readers", self.many_read_at_once().await);
        ensure!(broken.is_empty(), "{} does not conform: {broken:#?}", self.transport.location());
        Ok(())
    }

    /// The fence: whoever is told that the name is taken reads the winner's bytes from that moment on.
    async fn of_many_one_wins(&self) -> Result<()> {
        for round in 0..ROUNDS {
            let name = name(&format!("race/{round}"))?;
            let start = Arc::new(Barrier::new(RACERS));
            let mut race = JoinSet::new();
            for racer in 0..RACERS as u64 {
                let (transport, name, start) = (Arc::clone(&self.transport), name.clone(), Arc::clone(&start));
                let body = body(round * 1000 + racer, 8 << 10);
                race.spawn(async move {
                    start.wait().await;
                    let answer = transport.create(&name, &body).await;
                    // an answer that leaves the outcome open (409) is allowed; then nothing need be there yet
                    let found = match &answer {
                        Ok(_) => Some(transport.get(&name, Range::All).await),
                        Err(_) => None,
                    };
                    (body, answer, found)
                });
            }
            let (mut winners, mut open, mut seen) = (Vec::new(), Vec::new(), Vec::new());
            for (body, answer, found) in race.join_all().await {
                match answer {
                    Ok(Created::Yes) => winners.push(body.bytes),
                    Ok(Created::Exists) => {}
                    Err(error) if error.is_retryable() => open.push(body.bytes),
                    Err(error) => return Err(error.into()),
                }
                seen.extend(found.transpose()?);
            }
            ensure!(winners.len() == 1 || (winners.is_empty() && !open.is_empty()), "{} of {RACERS} won", winners.len());
            let last = self.transport.get(&name, Range::All).await?;
            ensure!(winners.iter().chain(&open).any(|body| *body == last), "what is there is not what the winner wrote");
            ensure!(seen.iter().all(|found| *found == last), "somebody read other bytes than the winner's");
        }
        Ok(())
    }

    async fn what_exists_stays(&self) -> Result<()> {
        let (name, first) = (name("once/x")?, body(1, 100));
        self.create(name.as_str(), &first).await?;
        for again in [first.clone(), body(2, 100), body(3, 0)] {
            ensure!(self.transport.create(&name, &again).await? == Created::Exists, "it was created twice");
        }
        ensure!(self.transport.get(&name, Range::All).await? == first.bytes, "it was replaced");
        Ok(())
    }

    async fn a_wrong_hash_leaves_nothing(&self) -> Result<()> {
        if !self.checks {
            return Ok(());
        }
        let (name, right) = (name("wrong/x")?, body(4, 50_000));
        let mut wrong = right.clone();
        wrong.sha256[7] ^= 1;
        expect_failure(self.transport.create(&name, &wrong).await, Failure::Refused)?;
        ensure!(self.transport.size(&name).await?.is_none(), "the refused object is there");
        self.create(name.as_str(), &right).await
    }

    async fn ranges_are_parts(&self) -> Result<()> {
        let (name, whole) = (name("range/x")?, body(5, 1000));
        self.create(name.as_str(), &whole).await?;
        ensure!(self.transport.get(&name, Range::All).await? == whole.bytes, "all of it is something else");
        for (offset, len) in [(0, 1), (0, 1000), (0, 5000), (1, 998), (500, 250), (999, 1), (999, 10), (500, 1 << 40)] {
            let found = self.transport.get(&name, Range::From { offset, len }).await?;
            let end = offset.saturating_add(len).min(1000);
            let expected = whole.bytes.slice(usize::try_from(offset)?..usize::try_from(end)?);
            ensure!(found == expected, "{} bytes from {offset}, asked for {len}", found.len());
        }
        for offset in [1000, 1001, 1 << 40] {
            expect_failure(self.transport.get(&name, Range::From { offset, len: 10 }).await, Failure::BeyondEnd)?;
        }
        Ok(())
    }

    async fn sizes_are_told(&self) -> Result<()> {
        for len in [0, 1, 4096, 70_000] {
            let text = format!("size/{len}");
            self.create(&text, &body(6, len)).await?;
            ensure!(self.transport.size(&name(&text)?).await? == Some(len as u64), "of {len} bytes");
            ensure!(self.transport.get(&name(&text)?, Range::All).await?.len() == len, "{len} bytes came back");
        }
        let nothing = name("size/none")?;
        ensure!(self.transport.size(&nothing).await?.is_none(), "of what does not exist");
        expect_failure(self.transport.get(&nothing, Range::All).await, Failure::NotFound)?;
        expect_failure(self.transport.get(&nothing, Range::From { offset: 0, len: 1 }).await, Failure::NotFound)
    }

    async fn fill(&self, folder: &str) -> Result<()> {
        // not in their order
        for (index, text) in NAMES.iter().enumerate().rev() {
            self.create(&format!("{folder}/{text}"), &body(7, index + 1)).await?;
        }
        Ok(())
    }

    /// All pages; no page may be larger than asked for, and there must be an end.
    async fn pages(&self, prefix: &str, by_level: bool, limit: u16) -> Result<Page> {
        let mut all = Page::default();
        for _ in 0..NAMES.len() + 2 {
            let page = self.transport.list(prefix, all.next.as_deref(), by_level, limit).await?;
            ensure!(page.objects.len() + page.prefixes.len() <= usize::from(limit), "a page of {limit} holds {page:?}");
            all.objects.extend(page.objects);
            all.prefixes.extend(page.prefixes);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
        bail!("pages of {limit} never end: {all:?}")
    }

    async fn listings_are_complete_and_in_order(&self) -> Result<()> {
        self.fill("list").await?;
        let mut expected = Vec::new();
        for (index, text) in NAMES.iter().enumerate() {
            expected.push((name(&format!("list/{text}"))?, index as u64 + 1));
        }
        for limit in [1, 2, 3, 9, 10, 1000] {
            let page = self.pages("list/", false, limit).await?;
            ensure!(page.objects == expected && page.prefixes.is_empty(), "pages of {limit}: {page:?}");
        }
        Ok(())
    }

    async fn levels_are_complete_and_in_order(&self) -> Result<()> {
        self.fill("level").await?;
        let below = |names: &[&str]| names.iter().map(|text| format!("level/{text}")).collect::<Vec<_>>();
        for limit in [1, 2, 3, 7, 1000] {
            if self.repeats && limit == 1 {
                continue; // there is no page that gets any further
            }
            let mut page = self.pages("level/", true, limit).await?;
            if self.repeats {
                page.prefixes.dedup();
            }
            let objects: Vec<_> = page.objects.iter().map(|(name, _)| name.to_string()).collect();
            ensure!(objects == below(OBJECTS) && page.prefixes == below(LEVELS), "pages of {limit}: {page:?}");
        }
        Ok(())
    }

    async fn a_listing_begins_after_a_name(&self) -> Result<()> {
        self.fill("after").await?;
        // names that exist, and one that doesn't
        for after in NAMES.iter().chain(&["a/y0"]) {
            let page = self.transport.list("after/", Some(&format!("after/{after}")), false, 1000).await?;
            let found: Vec<_> = page.objects.iter().map(|(name, _)| name.as_str()).collect();
            let expected: Vec<_> = NAMES.iter().filter(|text| *text > after).map(|text| format!("after/{text}")).collect();
            ensure!(found == expected && page.next.is_none(), "after {after}: {page:?}");
        }
        Ok(())
    }

    async fn a_prefix_is_a_beginning(&self) -> Result<()> {
        self.fill("prefix").await?;
        for (prefix, expected) in [("b", vec!["b", "b-withdrawn"]), ("a/", vec!["a/x", "a/y", "a/z/w"]), ("q", vec![])] {
            let page = self.transport.list(&format!("prefix/{prefix}"), None, false, 1000).await?;
            let found: Vec<_> = page.objects.iter().map(|(name, _)| name.as_str()).collect();
            let expected: Vec<_> = expected.iter().map(|text| format!("prefix/{text}")).collect();
            ensure!(found == expected, "{prefix:?}: {page:?}");
        }
        Ok(())
    }

    async fn what_is_deleted_is_gone(&self) -> Result<()> {
        let (name, other) = (name("delete/x")?, name("delete/x-withdrawn")?);
        self.create(name.as_str(), &body(8, 10)).await?;
        self.create(other.as_str(), &body(9, 10)).await?;
        for _ in 0..2 {
            self.transport.delete(&name).await?;
            ensure!(self.transport.size(&name).await?.is_none(), "it is still there");
        }
        let page = self.transport.list("delete/", None, false, 10).await?;
        ensure!(page.objects == [(other, 10)], "{page:?}");
        // why nothing but the collector deletes: a store forgets that there ever was one
        self.create(name.as_str(), &body(10, 10)).await
    }

    async fn every_character_of_a_name_counts(&self) -> Result<()> {
        let longest = format!("names/{}", "0123456789abcdef-".repeat(20));
        let texts =
            ["names/0123456789/abcdefghijklmnopqrstuvwxyz-", "names/-/-", "names/a--b", "names/00", "names/0", &longest[..200]];
        for (index, text) in texts.iter().enumerate() {
            self.create(text, &body(11 + index as u64, 20)).await?;
        }
        for (index, text) in texts.iter().enumerate() {
            let found = self.transport.get(&name(text)?, Range::All).await?;
            ensure!(found == body(11 + index as u64, 20).bytes, "{text} holds another's bytes");
        }
        let mut expected = texts.to_vec();
        expected.sort_unstable();
        let page = self.transport.list("names/", None, false, 1000).await?;
        let found: Vec<_> = page.objects.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(found == expected, "{page:?}");
        Ok(())
    }

    async fn the_largest_object_comes_back(&self) -> Result<()> {
        let (name, body) = (name("large/x")?, body(20, LARGEST));
        self.create(name.as_str(), &body).await?;
        ensure!(self.transport.size(&name).await? == Some(LARGEST as u64), "its size");
        ensure!(self.transport.get(&name, Range::All).await? == body.bytes, "its bytes");
        let last = Range::From { offset: LARGEST as u64 - 3, len: 100 };
        ensure!(self.transport.get(&name, last).await? == body.bytes.slice(LARGEST - 3..), "its end");
        Ok(())
    }

    async fn many_read_at_once(&self) -> Result<()> {
        let (name, whole) = (name("readers/x")?, body(21, 1 << 20));
        self.create(name.as_str(), &whole).await?;
        let mut readers = JoinSet::new();
        for reader in 0..32_u64 {
            let (transport, name, whole) = (Arc::clone(&self.transport), name.clone(), whole.bytes.clone());
            readers.spawn(async move {
                let (offset, len) = (reader * 1000, 300_000);
                let start = usize::try_from(offset)?;
                let (range, expected) = match reader % 2 {
                    0 => (Range::All, whole),
                    _ => (Range::From { offset, len }, whole.slice(start..start + 300_000)),
                };
                ensure!(transport.get(&name, range).await? == expected, "reader {reader} got other bytes");
                Ok(())
            });
        }
        readers.join_all().await.into_iter().collect()
    }
}

/// Tries a bucket, and a prefix in it as repositories have.
async fn try_s3(endpoint: &str, access: String, secret: String, repeats: bool) -> Result<()> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let options = Options {
        bucket: BUCKET.to_owned(),
        prefix: format!("run-{}/state", hex::encode(random)),
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        credentials: Some((access, secret)),
        ..Options::default()
    };
    let s3 = S3::new(options).await;
    s3.create_bucket().await.context("make the bucket")?;
    Subject { transport: Arc::new(s3), checks: true, repeats }.conforms().await
}

/// A failure stays one if it hangs.
async fn in_time(suite: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(std::time::Duration::from_secs(300), suite).await.context("it takes for ever")?
}

#[tokio::test]
async fn the_model_conforms() -> Result<()> {
    in_time(Subject { transport: Arc::new(Memory::default()), checks: false, repeats: false }.conforms()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_of_the_demo_conforms() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Server::start(Config::new(directory.path(), "access", "secret-of-a-test")).await?;
    let endpoint = server.endpoint();
    let suite = try_s3(&endpoint, "access".to_owned(), "secret-of-a-test".to_owned(), true);
    let result = in_time(Box::pin(suite)).await;
    server.shutdown().await;
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_conforms() -> Result<()> {
    let Ok(endpoint) = env::var("HOLDFAST_TEST_S3_ENDPOINT") else {
        return skip();
    };
    let access = env::var("HOLDFAST_TEST_S3_ACCESS_KEY").context("HOLDFAST_TEST_S3_ACCESS_KEY")?;
    let secret = env::var("HOLDFAST_TEST_S3_SECRET_KEY").context("HOLDFAST_TEST_S3_SECRET_KEY")?;
    in_time(Box::pin(try_s3(&endpoint, access, secret, false))).await
}

#[allow(clippy::print_stderr, reason = "a test that didn't run must be seen not to have")]
#[allow(clippy::unnecessary_wraps, reason = "it is what the test returns")]
fn skip() -> Result<()> {
    eprintln!("SKIPPED: HOLDFAST_TEST_S3_ENDPOINT names no server");
    Ok(())
}
