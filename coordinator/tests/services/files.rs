// SPDX-License-Identifier: Apache-2.0
//! The files of any point in time: listed, read, compared.

use crate::kit::{World, Writer, at_checkpoint, collect, newest, reason};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::file_service_client::FileServiceClient;
use holdfast_proto::v1::{
    Change, DiffFilesRequest, DiffFilesResponse, File, FileKind, GetFileRequest, ListFilesRequest, ReadFileRequest,
};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use tonic::Status;
use tonic::transport::Channel;

async fn list(channel: &Channel, path: &str, recursive: bool, page_size: u32) -> Result<Vec<String>, Status> {
    let mut client = FileServiceClient::new(channel.clone());
    let mut request = ListFilesRequest {
        point: newest("web-0"),
        path: path.to_owned().into(),
        recursive,
        page_size,
        ..ListFilesRequest::default()
    };
    let mut paths = Vec::new();
    loop {
        let page = client.list_files(request.clone()).await?.into_inner();
        paths.extend(page.files.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()));
        if page.next_page_token.is_empty() {
            return Ok(paths);
        }
        request.page_token = page.next_page_token;
    }
}

async fn get(channel: &Channel, path: &str) -> Result<File, Status> {
    let request = GetFileRequest { point: newest("web-0"), path: path.to_owned().into() };
    Ok(FileServiceClient::new(channel.clone()).get_file(request).await?.into_inner())
}

fn populate(writer: &Writer) {
    for name in ["a/b/c", "a/d", "a-b", "z"] {
        writer.write(name, name);
    }
    for number in 0..300 {
        writer.write(&format!("many/{number:03}"), number.to_string());
    }
    symlink("a/d", writer.path().join("link")).expect("a link");
    std::fs::hard_link(writer.path().join("z"), writer.path().join("y")).expect("a name");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_the_same_whatever_the_page() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    populate(&writer);
    writer.checkpoint().await;
    let served = world.serve().await;
    let channel = &served.channel;
    assert_eq!(list(channel, "", false, 0).await.expect("labels"), ["data"]);
    let flat = list(channel, "data", false, 0).await.expect("names");
    assert_eq!(flat, ["data/a", "data/a-b", "data/link", "data/many", "data/y", "data/z"]);
    let all = list(channel, "", true, 0).await.expect("all");
    assert_eq!(&all[..6], ["data", "data/a", "data/a/b", "data/a/b/c", "data/a/d", "data/a-b"]);
    assert_eq!(all.len(), 1 + 4 + 1 + 1 + 301 + 2);
    for page_size in [1, 2, 7, 100, 310] {
        assert_eq!(list(channel, "", true, page_size).await.expect("all"), all, "{page_size}");
        assert_eq!(list(channel, "data/", false, page_size).await.expect("names"), flat, "{page_size}");
        assert_eq!(list(channel, "data/a", true, page_size).await.expect("names"), all[2..5], "{page_size}");
    }
    assert_eq!(reason(list(channel, "data/z", false, 0).await), Reason::WrongKind);
    assert_eq!(reason(list(channel, "data/nothing", false, 0).await), Reason::NotFound);
    assert_eq!(reason(list(channel, "data/../a", false, 0).await), Reason::InvalidField);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_at_the_checkpoint_it_began_with() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    populate(&writer);
    writer.checkpoint().await;
    let served = world.serve().await;
    let mut client = FileServiceClient::new(served.channel.clone());
    let first = ListFilesRequest { point: newest("web-0"), path: "data".into(), page_size: 3, ..ListFilesRequest::default() };
    let page = client.list_files(first.clone()).await.expect("a page").into_inner();
    writer.write("zz", "new");
    let second = writer.checkpoint().await;
    let next = ListFilesRequest { page_token: page.next_page_token.clone(), ..first.clone() };
    let rest = client.list_files(next.clone()).await.expect("a page").into_inner();
    assert_eq!(rest.files.last().expect("files").path, "data/z", "and not what came later");
    assert_eq!(rest.checkpoint, page.checkpoint);
    assert_ne!(rest.checkpoint.expect("a checkpoint").sequence, second.sequence);
    for other in [
        ListFilesRequest { recursive: true, ..next.clone() },
        ListFilesRequest { path: "data/a".into(), ..next.clone() },
        ListFilesRequest { page_token: "00".to_owned(), ..next },
    ] {
        assert_eq!(reason(client.list_files(other).await), Reason::InvalidField);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_described_as_they_were() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    populate(&writer);
    let file = writer.path().join("a/d");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("a mode");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        writer.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    let flags = rustix::fs::XattrFlags::empty();
    let attributes = rustix::fs::setxattr(&file, "user.colour", b"blue", flags).is_ok();
    writer.checkpoint().await;
    let served = world.serve().await;
    let found = get(&served.channel, "data/a/d").await.expect("a file");
    assert_eq!((found.kind(), found.mode, found.size), (FileKind::Regular, 0o640, 3));
    if attributes {
        assert_eq!((found.xattrs[0].name.as_ref(), found.xattrs[0].value.as_ref()), (&b"user.colour"[..], &b"blue"[..]));
    }
    let modified = std::fs::metadata(&file).expect("metadata").modified().expect("a time");
    let modified = modified.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert_eq!(found.modified.expect("a time").seconds, i64::try_from(modified.as_secs()).expect("a time"));
    let link = get(&served.channel, "data/link").await.expect("a link");
    assert_eq!((link.kind(), link.target.as_ref()), (FileKind::Symlink, &b"a/d"[..]));
    assert_eq!(get(&served.channel, "data/pipe").await.expect("a pipe").kind(), FileKind::Fifo);
    assert_eq!(get(&served.channel, "data").await.expect("a label").kind(), FileKind::Directory);
    let (y, z) = (get(&served.channel, "data/y").await.expect("a name"), get(&served.channel, "data/z").await.expect("a name"));
    assert!(!y.link_group.is_empty() && y.link_group == z.link_group && y.size == 1);
    for (path, why) in
        [("", Reason::InvalidField), ("data/x", Reason::NotFound), ("other", Reason::NotFound), ("data/z/x", Reason::NotFound)]
    {
        assert_eq!(reason(get(&served.channel, path).await), why, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_range_of_a_large_file_is_read_in_small_pieces() {
    const HOLE: std::ops::Range<usize> = 3 << 20..5 << 20;
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    let mut content: Vec<u8> = (0_u32..(6 << 20) / 4 + 3).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    content[HOLE].fill(0);
    let file = std::fs::File::create(writer.path().join("large")).expect("a file");
    for part in [0..HOLE.start, HOLE.end..content.len()] {
        file.write_all_at(&content[part.clone()], part.start as u64).expect("room");
    }
    writer.write("empty", "");
    let done = writer.checkpoint().await;
    let served = world.serve().await;
    let read = async |path: &str, offset: usize, length: usize| {
        let request = ReadFileRequest {
            point: newest("web-0"),
            path: path.to_owned().into(),
            offset: offset as u64,
            length: length as u64,
        };
        let stream = FileServiceClient::new(served.channel.clone()).read_file(request).await?.into_inner();
        let messages = collect(stream).await?;
        let first = &messages[0];
        assert_eq!(first.checkpoint.as_ref().map(|checkpoint| checkpoint.sequence), Some(done.sequence));
        assert!(first.file.is_some() && first.data.is_empty());
        assert!(messages.iter().all(|message| message.data.len() <= 256 << 10));
        Ok::<Vec<u8>, Status>(messages.iter().flat_map(|message| message.data.to_vec()).collect())
    };
    let end = content.len();
    let ranges =
        [(0, 0), (0, 1), (1, 2), (end - 1, 0), (end, 0), (1 << 20, 300_000), (HOLE.start - 5, 10), (HOLE.start + 7, 1 << 20)];
    let boundaries = (0..end).step_by(64 << 10).map(|offset| (offset, 2));
    let more = [(HOLE.end - 1, 2), (end - 10, 100), (123_457, 4 << 20)];
    for (offset, length) in ranges.into_iter().chain(more).chain(boundaries) {
        let expected = &content[offset..if length == 0 { end } else { (offset + length).min(end) }];
        let found = read("data/large", offset, length).await.expect("a range");
        assert!(found == expected, "{offset} {length}: {} bytes instead of {}", found.len(), expected.len());
    }
    assert_eq!(read("data/empty", 0, 0).await.expect("nothing"), b"");
    assert_eq!(reason(read("data/large", end + 1, 0).await), Reason::BeyondEnd);
    assert_eq!(reason(read("data", 0, 0).await), Reason::WrongKind);
}

async fn diff(channel: &Channel, one: u64, two: u64, paths: &[&str]) -> Vec<(String, Change, bool, bool)> {
    let request = DiffFilesRequest {
        one: at_checkpoint("web-0", one),
        two: at_checkpoint("web-0", two),
        paths: paths.iter().map(|path| (*path).to_owned().into()).collect(),
    };
    let stream = FileServiceClient::new(channel.clone()).diff_files(request).await.expect("a diff").into_inner();
    let line = |found: DiffFilesResponse| {
        let change = found.change();
        let sides = (found.one.is_some(), found.two.is_some());
        assert_eq!(sides, (change != Change::Added, change != Change::Removed));
        (String::from_utf8_lossy(&found.path).into_owned(), change, found.content, found.metadata)
    };
    collect(stream).await.expect("a diff").into_iter().map(line).filter(|(path, ..)| !path.ends_with("data")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_told_in_the_order_of_paths() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    populate(&writer);
    writer.write("linked/one", "shared");
    std::fs::hard_link(writer.path().join("linked/one"), writer.path().join("linked/two")).expect("a name");
    writer.write("kind", "file");
    let one = writer.checkpoint().await.sequence;
    writer.write("a/b/c", "changed");
    std::fs::set_permissions(writer.path().join("a-b"), std::fs::Permissions::from_mode(0o600)).expect("a mode");
    std::fs::remove_file(writer.path().join("link")).expect("it was there");
    writer.write("new/deep/file", "new");
    std::fs::remove_file(writer.path().join("kind")).expect("it was there");
    writer.write("kind/file", "now a directory");
    // the directory of the linked names stays as it is
    let linked = std::fs::OpenOptions::new().write(true).open(writer.path().join("linked/one")).expect("a file");
    linked.write_all_at(b"SHARED", 0).expect("room");
    writer.write("many/150", "other");
    let two = writer.checkpoint().await.sequence;
    let served = world.serve().await;
    let mut found = diff(&served.channel, one, two, &[]).await;
    found.retain(|(path, _, content, metadata)| *content || !metadata || path == "data/a-b");
    let paths: Vec<(&str, Change, bool)> =
        found.iter().map(|(path, change, content, _)| (path.as_str(), *change, *content)).collect();
    assert_eq!(
        paths,
        [
            ("data/a/b/c", Change::Modified, true),
            ("data/a-b", Change::Modified, false),
            ("data/kind", Change::Modified, true),
            ("data/kind/file", Change::Added, false),
            ("data/link", Change::Removed, false),
            ("data/linked/one", Change::Modified, true),
            ("data/linked/two", Change::Modified, true),
            ("data/many/150", Change::Modified, true),
            ("data/new", Change::Added, false),
            ("data/new/deep", Change::Added, false),
            ("data/new/deep/file", Change::Added, false),
        ]
    );
    let some = diff(&served.channel, one, two, &["data/new/deep", "data/link"]).await;
    let some: Vec<_> = some.into_iter().map(|(path, ..)| path).collect();
    assert_eq!(some, ["data/link", "data/new/deep", "data/new/deep/file"]);
    assert!(diff(&served.channel, two, two, &[]).await.is_empty());
    world.memory.take_requests();
    diff(&served.channel, two, two, &[]).await;
    let asked = world.memory.take_requests().len();
    assert!(asked <= 6, "equal states are compared by their roots: {asked} requests");
}
