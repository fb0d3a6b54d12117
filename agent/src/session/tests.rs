// SPDX-License-Identifier: Apache-2.0
//! Against a coordinator that does what the test says, on a real connection.

use super::*;
use crate::clock::SystemClock;
use crate::status::{LastCheckpoint, Phase};
use bytes::Bytes;
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::RootId;
use holdfast_core::time::Timestamp;
use holdfast_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use holdfast_proto::v1::{SessionRequest, SessionResponse};
use holdfast_store::key::{Identity, Secret};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status as Answer, Streaming};

type Said = mpsc::Sender<Result<SessionResponse, Answer>>;

/// Hands each session over to the test.
struct Desk(mpsc::Sender<Client>);

struct Client {
    requests: Streaming<SessionRequest>,
    say: Said,
}

#[tonic::async_trait]
impl AgentService for Desk {
    type SessionStream = ReceiverStream<Result<SessionResponse, Answer>>;

    async fn grant_delivery(&self, _: Request<v1::GrantDeliveryRequest>) -> Result<Response<v1::GrantDeliveryResponse>, Answer> {
        Err(Answer::unimplemented("not here"))
    }

    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Answer> {
        let (say, said) = mpsc::channel(8);
        let client = Client { requests: request.into_inner(), say };
        self.0.send(client).await.map_err(|_| Answer::permission_denied("no more agents"))?;
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

impl Client {
    async fn hear(&mut self) -> Option<session_request::Event> {
        self.requests.message().await.ok().flatten().and_then(|request| request.event)
    }

    async fn hello(&mut self) -> v1::Hello {
        match self.hear().await {
            Some(session_request::Event::Hello(hello)) => hello,
            other => panic!("{other:?} instead of hello"),
        }
    }

    async fn report(&mut self) -> v1::StatusReport {
        match self.hear().await {
            Some(session_request::Event::Status(report)) => report,
            other => panic!("{other:?} instead of a report"),
        }
    }

    /// A command of a later version, as it arrives here.
    async fn unknown(&self) {
        self.say.send(Ok(SessionResponse { command: None })).await.expect("heard");
    }

    async fn command(&self, command: session_response::Command) {
        self.say.send(Ok(SessionResponse { command: Some(command) })).await.expect("heard");
    }

    async fn welcome(&self, token: &'static [u8]) {
        let lineage = v1::LineageRef { domain: "default".to_owned(), lineage: "web-0".to_owned() };
        let keys = v1::DomainKeys {
            repository: vec![1; 16].into(),
            domain: vec![2; 16].into(),
            identity: vec![4; 32].into(),
            epochs: vec![v1::KeyEpoch { epoch: 1, secret: vec![5; 32].into() }],
        };
        let grant = v1::Grant {
            token: Bytes::from_static(token),
            expires: None,
            keys: Some(keys),
            lineage: Some(lineage),
            lineage_id: Identity::new(Secret::new([4; 32])).lineage_id("web-0").to_string(),
            write: true,
        };
        let welcome = v1::Welcome {
            session: "1".to_owned(),
            grant: Some(grant),
            owner: vec![9; 16].into(),
            report_every_ms: 60_000,
            ..v1::Welcome::default()
        };
        self.command(session_response::Command::Welcome(welcome)).await;
    }
}

/// A coordinator, and where it is.
async fn coordinator(tasks: &mut JoinSet<()>) -> (mpsc::Receiver<Client>, Connection) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (desk, clients) = mpsc::channel(4);
    let service = AgentServiceServer::new(Desk(desk));
    tasks.spawn(async move {
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.expect("served");
    });
    (clients, Connection::new(&url, None).expect("an address"))
}

fn who() -> Who {
    Who::of("default", "web-0", "a test")
}

fn checkpoint(sequence: u64) -> LastCheckpoint {
    LastCheckpoint { sequence, last_close: Timestamp::default(), quality: Quality::Clean, root: RootId::new([0; 32]) }
}

#[tokio::test]
async fn a_session_from_hello_to_the_last_word() {
    let mut tasks = JoinSet::new();
    let (mut clients, connection) = coordinator(&mut tasks).await;
    let opening = tokio::join!(Session::open(connection, who()), async {
        let mut client = clients.recv().await.expect("an agent");
        let hello = client.hello().await;
        assert_eq!((hello.protocol, hello.holder.as_str(), hello.instance.len()), (holdfast_proto::AGENT_PROTOCOL, "a test", 16));
        client.unknown().await;
        client.welcome(b"first").await;
        (client, hello)
    });
    let (session, (mut client, hello)) = (opening.0.expect("a session"), opening.1);
    assert_eq!(session.owner(), OwnerId::new([9; 16]));
    let token = session.token.clone();
    let (status, seen) = watch::channel(Status::default());
    let (commands, mut asked) = mpsc::channel(4);
    let (stop, stopped) = oneshot::channel::<()>();
    tasks.spawn(async move {
        session.serve(seen, commands, async move { drop(stopped.await) }).await;
    });

    let first = tokio::time::timeout(Duration::from_secs(30), client.report()).await.expect("it says at once how it is");
    assert_eq!(first.live.expect("live").phase(), v1::Phase::Waiting);
    status.send_modify(|status| {
        status.phase = Phase::Protecting;
        status.checkpoint = Some(checkpoint(7));
        // it became durable after 800 ms
        status.peak.with(SystemClock.monotonic(), Duration::from_millis(800));
        let (path, what) = ("/data/key".into(), "Permission denied".to_owned());
        status.problems = Some(crate::Problems { count: 3, path, what });
    });
    let report = client.report().await;
    let live = report.live.expect("live");
    assert_eq!((report.sequence, live.phase(), live.lag_ms, live.lag_lately_ms), (7, v1::Phase::Streaming, 0, 800));
    let problem = live.problem.expect("the first");
    assert_eq!((live.problems, &problem.path[..], problem.what.as_str()), (3, &b"/data/key"[..], "Permission denied"));

    client.unknown().await;
    client.command(session_response::Command::Flush(v1::Flush { id: 3, within_ms: 60_000 })).await;
    let Some(Command::Flush(answer)) = asked.recv().await else { panic!("no flush") };
    answer.send(Ok(checkpoint(8))).expect("awaited");
    let done = client.hear().await.expect("an answer");
    assert_eq!(done, session_request::Event::Flushed(v1::FlushDone { id: 3, sequence: 8, error: String::new() }));

    // the coordinator goes, and another one comes
    drop(client);
    let mut client = clients.recv().await.expect("the agent again");
    assert_eq!(client.hello().await.instance, hello.instance, "the same agent");
    client.welcome(b"second").await;
    assert_eq!(client.report().await.sequence, 7);
    assert_eq!(token.header().to_bytes().expect("bytes"), Bytes::from_static(b"second"));

    status.send_modify(|status| status.phase = Phase::Ended);
    stop.send(()).expect("served");
    let mut last = client.report().await;
    while let Some(session_request::Event::Status(report)) = client.hear().await {
        last = report;
    }
    assert_eq!(last.live.expect("live").phase(), v1::Phase::Ended);
}

#[tokio::test]
async fn refusals_are_final_only_if_they_are() {
    let mut tasks = JoinSet::new();
    let (mut clients, connection) = coordinator(&mut tasks).await;
    let (opened, ()) = tokio::join!(Session::open(connection, who()), async {
        for refusal in [Answer::unavailable("starting"), Answer::aborted("replaced"), Answer::permission_denied("no")] {
            let client = clients.recv().await.expect("an agent");
            client.say.send(Err(refusal)).await.expect("heard");
        }
    });
    let error = opened.expect_err("refused for good").to_string();
    assert!(error.ends_with(": no"), "{error}");
}

#[tokio::test]
async fn whoever_is_patient_waits_for_a_coordinator_of_a_nearer_version() {
    let mut tasks = JoinSet::new();
    let (mut clients, connection) = coordinator(&mut tasks).await;
    let (told, mut heard) = mpsc::channel(8);
    let notices = Notices::new(move |notice| told.try_send(format!("{notice:?}")).expect("room"));
    let caller = Caller::new(who()).expect("random numbers");
    let (opened, ()) = tokio::join!(Session::open_patiently(connection, caller, notices), async {
        let client = clients.recv().await.expect("an agent");
        client.say.send(Err(Answer::failed_precondition("use versions that are nearer"))).await.expect("heard");
        let mut client = clients.recv().await.expect("the agent again");
        client.hello().await;
        client.welcome(b"first").await;
    });
    opened.expect("a session");
    let said = heard.recv().await.expect("it was told");
    assert!(said.contains("nearer"), "{said}");
}

#[tokio::test]
async fn a_flush_that_takes_too_long_is_answered_in_time() {
    let (commands, mut asked) = mpsc::channel(1);
    let (result, command) = tokio::join!(flush(commands, Duration::from_millis(20)), asked.recv());
    assert!(result.expect_err("too long").contains("20ms"));
    let Some(Command::Flush(answer)) = command else { panic!("no flush") };
    assert!(answer.is_closed(), "and the agent knows that nobody waits");
}
