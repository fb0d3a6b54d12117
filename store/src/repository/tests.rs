// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::transport::memory::Memory;
use bytes::Bytes;

async fn create(memory: &Arc<Memory>) -> Repository {
    let transport: Arc<dyn Transport> = memory.clone();
    Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("a fresh store")
}

async fn open(memory: &Arc<Memory>, passphrase: &[u8]) -> Result<Repository> {
    let transport: Arc<dyn Transport> = memory.clone();
    Repository::open(transport, passphrase).await
}

#[tokio::test]
async fn what_was_created_opens_with_its_passphrase_alone() {
    let memory = Arc::new(Memory::default());
    assert!(matches!(open(&memory, b"secret").await, Err(StoreError::NoRepository { .. })));
    let created = create(&memory).await;
    let opened = open(&memory, b"secret").await.expect("the passphrase");
    assert_eq!(opened.id(), created.id());
    assert_eq!(opened.master.domain_id("x"), created.master.domain_id("x"));
    assert!(matches!(open(&memory, b"Secret").await, Err(StoreError::WrongPassphrase { slots: 1 })));
    assert_eq!(create(&memory).await.id(), created.id(), "creating again opens");
}

#[tokio::test]
async fn two_that_create_at_once_share_one() {
    let memory = Arc::new(Memory::default());
    let (one, two) = tokio::join!(create(&memory), create(&memory));
    assert_eq!(one.id(), two.id());
    let (one, two) = tokio::join!(one.domain("web"), two.domain("web"));
    let (one, two) = (one.expect("keys"), two.expect("keys"));
    assert_eq!(one.keys.secret(1), two.keys.secret(1));
    assert_eq!(one.keys.identity.lineage_id("a"), two.keys.identity.lineage_id("a"));
}

#[tokio::test]
async fn passphrases_come_and_go() {
    let memory = Arc::new(Memory::default());
    let created = create(&memory).await;
    assert_eq!(created.add_passphrase(b"second", Kdf::QUICK).await.expect("a slot"), 1);
    assert_eq!(open(&memory, b"second").await.expect("the new one").id(), created.id());
    created.revoke_slot(0).await.expect("a document");
    assert!(matches!(open(&memory, b"secret").await, Err(StoreError::WrongPassphrase { slots: 2 })));
    assert!(open(&memory, b"second").await.is_ok());
    // without keys nobody can lock others out
    memory.tamper(&Name::key_slot(created.id(), 1, 1).withdrawn(), Some(Bytes::new()));
    assert!(matches!(open(&memory, b"second").await, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn a_newer_or_foreign_repository_is_refused_in_words() {
    let memory = Arc::new(Memory::default());
    create(&memory).await;
    let text = String::from_utf8(memory.objects()[&Name::repository()].to_vec()).expect("JSON");
    let tampered = |from: &str, to: &str| memory.tamper(&Name::repository(), Some(text.replace(from, to).into()));
    tampered("\"format\": 1", "\"format\": 2");
    assert!(open(&memory, b"secret").await.expect_err("newer").to_string().contains("format version 2"));
    tampered("\"features\": []", "\"features\": [\"teleport\"]");
    assert!(open(&memory, b"secret").await.expect_err("newer").to_string().contains("\"teleport\""));
    tampered("\"repository\"", "\"depository\"");
    assert!(matches!(open(&memory, b"secret").await, Err(StoreError::Damaged { .. })));
    tampered("\"created\": 0", "\"created\": 1");
    assert!(
        matches!(open(&memory, b"secret").await, Err(StoreError::WrongPassphrase { .. })),
        "slots belong to one repository object"
    );
}

#[tokio::test]
async fn what_was_sealed_before_the_master_key_was_renewed_still_opens() {
    let memory = Arc::new(Memory::default());
    let created = create(&memory).await;
    let before = created.domain("before").await.expect("keys");
    let text = memory.objects()[&Name::repository()].clone();
    // a renewal: another secret, the same identity, the next epoch
    let renewed = Master { secret: Secret::new([9; 32]), identity: created.master.identity.clone() };
    let position = slot::Position { hash: Sha256::digest(&text).into(), epoch: 2, slot: 0 };
    let slot = slot::wrap(&renewed, b"secret", Kdf::QUICK, position).expect("a slot");
    memory.tamper(&Name::key_slot(created.id(), 2, 0), Some(slot.into()));
    let opened = open(&memory, b"secret").await.expect("the passphrase of both epochs");
    assert_eq!(opened.own_domain().keys.newest_epoch(), 2);
    let found = opened.existing_domain("before").await.expect("keys of the first epoch").expect("a domain");
    assert_eq!(found.keys.secret(1), before.keys.secret(1));
    let after = opened.domain("after").await.expect("keys");
    assert_eq!(after.keys.name, "after");
    // of the old epochs only what the passphrase opens is known
    created.add_passphrase(b"old", Kdf::QUICK).await.expect("a slot of the first epoch");
    assert!(matches!(open(&memory, b"old").await, Err(StoreError::WrongPassphrase { slots: 1 })));
    // another's keys under an older epoch are no part of it
    let foreign = Master { secret: Secret::new([1; 32]), identity: Secret::new([2; 32]) };
    let position = slot::Position { epoch: 1, ..position };
    let slot = slot::wrap(&foreign, b"secret", Kdf::QUICK, position).expect("a slot");
    memory.tamper(&Name::key_slot(created.id(), 1, 0), Some(slot.into()));
    assert!(matches!(open(&memory, b"secret").await, Err(StoreError::Damaged { .. })));
}
