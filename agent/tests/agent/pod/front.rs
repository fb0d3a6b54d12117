// SPDX-License-Identifier: Apache-2.0
//! A coordinator as pods see it: it knows by the token whose state is kept, has agents wait, and passes the rest on to a real one.

use crate::pod::kit::{LINEAGE, World};
use holdfast_coordinator::{Access, Config, Coordinator, InProcess};
use holdfast_core::id::OwnerId;
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use holdfast_proto::v1::restore_service_client::RestoreServiceClient;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{self, SessionRequest, SessionResponse};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

/// An authority, and what it signs.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).expect("a leaf");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

/// What the front does, and what it has heard.
#[derive(Default)]
pub(crate) struct Rules {
    /// Who is let in.
    pub(crate) tokens: BTreeSet<String>,
    /// Sessions that are gone on with need no token.
    pub(crate) resume: BTreeSet<String>,
    /// Everybody has to wait for this reason.
    pub(crate) wait: Option<&'static str>,
    pub(crate) take_over: bool,
    pub(crate) start: v1::Start,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Vec<v1::Hello>,
    /// The tokens that they came with.
    pub(crate) bearers: Vec<String>,
    pub(crate) report: v1::StatusReport,
    pub(crate) reports: u64,
    pub(crate) stopping: Option<v1::Stopping>,
    pub(crate) session: String,
}

pub(crate) struct Shared {
    pub(crate) rules: watch::Sender<Rules>,
    pub(crate) heard: watch::Sender<Heard>,
    tls: Mutex<Arc<ServerConfig>>,
}

impl Shared {
    pub(crate) fn new(authority: &Authority) -> Arc<Self> {
        let rules = Rules { take_over: true, ..Rules::default() };
        let tls = Mutex::new(authority.server());
        Arc::new(Self { rules: watch::Sender::new(rules), heard: watch::Sender::new(Heard::default()), tls })
    }

    /// New connections are made with a leaf of this authority.
    pub(crate) fn show(&self, authority: &Authority) {
        *self.tls.lock().expect("whole") = authority.server();
    }
}

/// A coordinator that serves; dropped, all its connections are gone.
pub(crate) struct Front {
    _tasks: JoinSet<()>,
    _pipe: InProcess,
}

impl Front {
    /// Serves on a listener.
    pub(crate) async fn start(world: &World, listener: TcpListener) -> Self {
        let owner = OwnerId::new([1; 16]);
        let coordinator =
            Coordinator::new(Config { repository: world.repository.clone(), owner, access: Access::Open, domain: None });
        let (channel, pipe) = coordinator.in_process().await.expect("a pipe");
        let desk = AgentServiceServer::new(Desk { shared: Arc::clone(&world.shared), channel, tasks: Mutex::default() });
        let rest = coordinator.routes().into_axum_router();
        let routes: Routes = Routes::new(desk).into_axum_router().fallback_service(rest).into();
        let mut tasks = JoinSet::new();
        let (connections, accepted) = mpsc::channel::<std::io::Result<TlsStream<TcpStream>>>(8);
        let shared = Arc::clone(&world.shared);
        // whatever serves a connection outlives its server; what carries it does not outlive this
        let inner = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = inner.local_addr().expect("bound");
        tasks.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((mut outer, _)) = listener.accept().await {
                pipes.spawn(async move {
                    let mut inner = TcpStream::connect(address).await.expect("served");
                    tokio::io::copy_bidirectional(&mut outer, &mut inner).await.ok();
                });
            }
        });
        tasks.spawn(async move {
            let mut handshakes = JoinSet::new();
            while let Ok((stream, _)) = inner.accept().await {
                let (tls, connections) = (Arc::clone(&shared.tls.lock().expect("whole")), connections.clone());
                handshakes.spawn(async move {
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        connections.send(Ok(stream)).await.ok();
                    }
                });
            }
        });
        tasks.spawn(async move {
            let serving = Server::builder().add_routes(routes).serve_with_incoming(ReceiverStream::new(accepted));
            serving.await.expect("served");
        });
        Self { _tasks: tasks, _pipe: pipe }
    }
}

struct Desk {
    shared: Arc<Shared>,
    channel: Channel,
    tasks: Mutex<JoinSet<()>>,
}

type Said = mpsc::Sender<Result<SessionResponse, Status>>;

#[tonic::async_trait]
impl AgentService for Desk {
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    /// Whoever has the token may read the lineage.
    async fn grant_delivery(
        &self,
        request: Request<v1::GrantDeliveryRequest>,
    ) -> Result<Response<v1::GrantDeliveryResponse>, Status> {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.shared.rules.borrow().tokens.contains(bearer.trim_start_matches("Bearer ")) {
            return Err(Status::unauthenticated("this token is void"));
        }
        let lineage = v1::LineageRef { domain: "default".to_owned(), lineage: LINEAGE.to_owned() };
        let point = v1::PointRef { lineage: Some(lineage), point: None, accept_fuzzy: true };
        let asked = v1::CreateRestoreRequest { point: Some(point), ..v1::CreateRestoreRequest::default() };
        let created = RestoreServiceClient::new(self.channel.clone()).create_restore(asked).await?.into_inner();
        Ok(Response::new(v1::GrantDeliveryResponse { grant: created.grant }))
    }

    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let bearer = bearer.trim_start_matches("Bearer ").to_owned();
        let mut events = request.into_inner();
        let Some(SessionRequest { event: Some(Event::Hello(hello)) }) = events.message().await? else {
            return Err(Status::invalid_argument("no hello"));
        };
        {
            let rules = self.shared.rules.borrow();
            if !rules.tokens.contains(&bearer) && !rules.resume.contains(&hello.resume) {
                return Err(Status::unauthenticated("this token is void"));
            }
        }
        self.shared.heard.send_modify(|heard| {
            heard.hellos.push(hello.clone());
            heard.bearers.push(bearer);
        });
        let (say, said) = mpsc::channel(8);
        let (shared, channel) = (Arc::clone(&self.shared), self.channel.clone());
        self.tasks.lock().expect("whole").spawn(async move {
            if let Err(status) = attend(&shared, channel, hello, events, &say).await {
                say.send(Err(status)).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

/// Has the agent wait as long as the rules say, then passes everything on to the coordinator.
async fn attend(
    shared: &Shared,
    channel: Channel,
    hello: v1::Hello,
    mut events: Streaming<SessionRequest>,
    say: &Said,
) -> Result<(), Status> {
    let mut rules = shared.rules.subscribe();
    loop {
        let wait = rules.borrow_and_update().wait;
        let Some(reason) = wait else { break };
        let waiting = v1::Waiting { reason: reason.to_owned(), message: "the test says so".to_owned() };
        say.send(Ok(SessionResponse { command: Some(Command::Waiting(waiting)) })).await.map_err(gone)?;
        tokio::select! {
            changed = rules.changed() => changed.map_err(gone)?,
            () = say.closed() => return Ok(()),
        }
    }
    let named = v1::LineageRef { domain: "default".to_owned(), lineage: LINEAGE.to_owned() };
    let (out, forwarded) = mpsc::channel(8);
    let hello = v1::Hello { lineage: Some(named), resume: String::new(), ..hello };
    out.send(SessionRequest { event: Some(Event::Hello(hello)) }).await.map_err(gone)?;
    let mut commands = AgentServiceClient::new(channel).session(ReceiverStream::new(forwarded)).await?.into_inner();
    loop {
        tokio::select! {
            command = commands.message() => {
                let Some(mut response) = command? else { return Ok(()) };
                if let Some(Command::Welcome(welcome)) = &mut response.command {
                    let rules = shared.rules.borrow();
                    welcome.take_over = rules.take_over;
                    welcome.set_start(rules.start);
                    shared.heard.send_modify(|heard| heard.session.clone_from(&welcome.session));
                }
                say.send(Ok(response)).await.map_err(gone)?;
            }
            event = events.message() => {
                let Some(request) = event? else { return Ok(()) };
                shared.heard.send_modify(|heard| match &request.event {
                    Some(Event::Status(report)) => {
                        heard.report = report.clone();
                        heard.reports += 1;
                    }
                    Some(Event::Stopping(stopping)) => heard.stopping = Some(*stopping),
                    _ => {}
                });
                out.send(request).await.map_err(gone)?;
            }
        }
    }
}

fn gone<E>(_: E) -> Status {
    Status::cancelled("gone")
}
