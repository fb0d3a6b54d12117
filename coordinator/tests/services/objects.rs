// SPDX-License-Identifier: Apache-2.0
//! The relay: what a grant covers goes through, unchanged and checked; nothing else does.

use crate::kit::{Agent, World, collect, reason};
use bytes::Bytes;
use holdfast_proto::GRANT_HEADER;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::object_service_client::ObjectServiceClient;
use holdfast_proto::v1::{CreateObjectRequest, GetObjectRequest, HeadObjectRequest, ListObjectsRequest};
use holdfast_store::name::Name;
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A client with a grant's token.
struct Relay {
    channel: Channel,
    token: Option<Bytes>,
}

impl Relay {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert_bin(GRANT_HEADER, MetadataValue::from_bytes(token));
        }
        request
    }

    fn client(&self) -> ObjectServiceClient<Channel> {
        ObjectServiceClient::new(self.channel.clone())
    }

    async fn create(&self, name: &str, body: &[u8], hashed: &[u8]) -> Result<(), Status> {
        let sha256 = Bytes::copy_from_slice(&Sha256::digest(hashed));
        let message = CreateObjectRequest { name: name.to_owned(), body: Bytes::copy_from_slice(body), sha256 };
        self.client().create_object(self.request(message)).await.map(|_| ())
    }

    async fn get(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>, Status> {
        let message = GetObjectRequest { name: name.to_owned(), offset, length };
        let pieces = collect(self.client().get_object(self.request(message)).await?.into_inner()).await?;
        assert!(pieces.iter().all(|piece| piece.data.len() <= 256 << 10));
        Ok(pieces.iter().flat_map(|piece| piece.data.to_vec()).collect())
    }

    async fn head(&self, name: &str) -> Result<u64, Status> {
        let message = HeadObjectRequest { name: name.to_owned() };
        Ok(self.client().head_object(self.request(message)).await?.into_inner().length)
    }

    async fn list(&self, prefix: &str, limit: u32) -> Result<Vec<String>, Status> {
        let mut message = ListObjectsRequest { prefix: prefix.to_owned(), limit, ..ListObjectsRequest::default() };
        let mut names = Vec::new();
        loop {
            let page = self.client().list_objects(self.request(message.clone())).await?.into_inner();
            names.extend(page.objects.into_iter().map(|object| object.name));
            message.after = page.next;
            if message.after.is_empty() {
                return Ok(names);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_lineage_go_through_and_others_do_not() {
    let world = World::new().await;
    let mut foreign = world.writer("other").await;
    foreign.checkpoint().await;
    let served = world.serve().await;
    let agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let token = agent.welcome.grant.clone().expect("a grant").token;
    let relay = Relay { channel: served.channel.clone(), token: Some(token) };
    let (domain, own) = (world.domain.keys.id, world.domain.keys.identity.lineage_id("web-0"));
    let pack = format!("domains/{domain}/lineages/{own}/packs/0000000000000001/{}", "0a".repeat(16));
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    assert_eq!(reason(relay.head(&pack).await), Reason::NotFound);
    assert_eq!(reason(relay.get(&pack, 0, 0).await), Reason::NotFound);
    assert_eq!(reason(relay.create(&pack, &body, b"other bytes").await), Reason::InvalidField);
    relay.create(&pack, &body, &body).await.expect("created");
    assert_eq!(reason(relay.create(&pack, b"x", b"x").await), Reason::ObjectExists);
    assert_eq!(relay.head(&pack).await.expect("it exists"), 3_000_000);
    assert!(relay.get(&pack, 0, 0).await.expect("bytes") == body);
    assert_eq!(relay.get(&pack, 1000, 5).await.expect("bytes"), body[1000..1005]);
    assert_eq!(relay.get(&pack, 2_999_999, 500).await.expect("bytes"), body[2_999_999..]);
    assert_eq!(reason(relay.get(&pack, 3_000_000, 1).await), Reason::BeyondEnd);
    assert_eq!(reason(relay.get(&pack, 5, 0).await), Reason::InvalidField);
    assert_eq!(reason(relay.create(&pack.replace("0a0a", "0b0b"), b"", b"").await), Reason::InvalidField);
    let too_long = vec![0; (16 << 20) + 1];
    assert_eq!(reason(relay.create(&pack.replace("0a0a", "0c0c"), &too_long, &too_long).await), Reason::InvalidField);
    let folder = format!("domains/{domain}/lineages/{own}/packs/");
    for number in 2..7 {
        relay.create(&format!("{folder}{number:016x}/{}", "0a".repeat(16)), b"x", b"x").await.expect("created");
    }
    assert_eq!(relay.list(&folder, 2).await.expect("names").len(), 6);

    let log = |lineage: &str| {
        let id = world.domain.keys.identity.lineage_id(lineage);
        Name::record(domain, id, 1).to_string()
    };
    let boundary = format!("domains/{domain}/lineages/{own}/boundaries/0000000000000001");
    let forward = pack.replace("packs", "forwards");
    let keys = Name::domain_keys(domain, 1).to_string();
    for name in [&log("other"), &keys, "repository", "snapshots/0000000000000001", "collections/0000000000000001", "", "../x"] {
        assert_eq!(reason(relay.get(name, 0, 0).await), Reason::GrantExceeded, "{name}");
        assert_eq!(reason(relay.head(name).await), Reason::GrantExceeded, "{name}");
        assert_eq!(reason(relay.create(name, b"x", b"x").await), Reason::GrantExceeded, "{name}");
        assert_eq!(reason(relay.list(name, 10).await), Reason::GrantExceeded, "{name}");
    }
    for name in [&boundary, &forward] {
        assert_eq!(reason(relay.create(name, b"x", b"x").await), Reason::GrantExceeded, "{name}");
        assert_eq!(reason(relay.head(name).await), Reason::NotFound, "{name} may be read");
    }
    assert!(!world.memory.objects().keys().any(|name| [boundary.as_str(), forward.as_str()].contains(&name.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_nothing_goes_through() {
    let world = World::new().await;
    let served = world.serve().await;
    let name = Name::record(world.domain.keys.id, world.domain.keys.identity.lineage_id("web-0"), 1).to_string();
    for token in [None, Some(Bytes::new()), Some(vec![7; 32].into())] {
        let relay = Relay { channel: served.channel.clone(), token };
        assert_eq!(reason(relay.head(&name).await), Reason::GrantUnknown);
        assert_eq!(reason(relay.get(&name, 0, 0).await), Reason::GrantUnknown);
        assert_eq!(reason(relay.create(&name, b"x", b"x").await), Reason::GrantUnknown);
        assert_eq!(reason(relay.list("", 1).await), Reason::GrantUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_leaves_a_creation_open() {
    let world = World::new().await;
    let served = world.serve().await;
    let agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let relay = Relay { channel: served.channel.clone(), token: Some(agent.welcome.grant.clone().expect("a grant").token) };
    let name = Name::record(world.domain.keys.id, world.domain.keys.identity.lineage_id("web-0"), 1).to_string();
    world.memory.set_failing(true);
    assert_eq!(reason(relay.create(&name, b"x", b"x").await), Reason::OutcomeUnknown);
    assert_eq!(reason(relay.get(&name, 0, 0).await), Reason::StoreUnavailable);
    world.memory.set_failing(false);
    relay.create(&name, b"x", b"x").await.expect("created");
}

/// Whoever asks says itself what for: `put X: put X: no answer` would be read twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_store_is_told_in_its_own_words() {
    let world = World::new().await;
    let served = world.serve().await;
    let agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let relay = Relay { channel: served.channel.clone(), token: Some(agent.welcome.grant.clone().expect("a grant").token) };
    let name = Name::record(world.domain.keys.id, world.domain.keys.identity.lineage_id("web-0"), 1).to_string();
    let folder = name.rsplit_once('/').expect("it is in a folder").0.to_owned() + "/";
    world.memory.set_failing(true);
    let said = [
        relay.create(&name, b"x", b"x").await.expect_err("refused"),
        relay.get(&name, 0, 0).await.expect_err("refused"),
        relay.head(&name).await.expect_err("refused"),
        relay.list(&folder, 1).await.expect_err("refused"),
    ];
    for status in said {
        assert!(!status.message().is_empty() && !status.message().contains(&folder), "{}", status.message());
    }
}
