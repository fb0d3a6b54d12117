// SPDX-License-Identifier: Apache-2.0
//! Restores: granted here, carried out elsewhere.

use super::Api;
use crate::catalog::Found;
use crate::page::{self, Position};
use crate::restore::{Opening, Report};
use crate::status;
use crate::stream::{Answers, deadline, until};
use crate::tree::Path;
use crate::tree::diff::PATHS_MAX;
use futures::stream;
use holdfast_proto::v1::restore_service_server::RestoreService;
use holdfast_proto::v1::{
    CreateRestoreRequest, CreateRestoreResponse, GetRestoreRequest, ListRestoresRequest, ListRestoresResponse,
    ReportRestoreRequest, Restore, RestorePhase,
};
use holdfast_store::snapshot::{self, Purpose};
use std::sync::PoisonError;
use tonic::{Request, Response, Status};

/// Restores of a page, by default and at most.
const RESTORES: (usize, usize) = (100, 1000);
/// Longest text of a request.
const TEXT_MAX: usize = 4096;

#[tonic::async_trait]
impl RestoreService for Api {
    async fn create_restore(&self, request: Request<CreateRestoreRequest>) -> Result<Response<CreateRestoreResponse>, Status> {
        let request = request.into_inner();
        text(&request.target, "target")?;
        if request.paths.len() > PATHS_MAX {
            return Err(status::invalid("paths", format!("are more than {PATHS_MAX}")));
        }
        for path in &request.paths {
            Path::parse(path, "paths")?;
        }
        let found = self.shared.resolve(request.point, "point").await?;
        // the pin must be let go by somebody, so the caller's going away must not end this in the middle
        let (api, target) = (self.clone(), request.target);
        let task = self.shared.tasks.spawn(async move { api.begin(found, target).await });
        task.await.map_err(|_| status::lost())?.map(Response::new)
    }

    async fn report_restore(&self, request: Request<ReportRestoreRequest>) -> Result<Response<Restore>, Status> {
        let ReportRestoreRequest { id, progress, receipt, error } = request.into_inner();
        text(&error, "error")?;
        self.shared.ledger.report(&id, Report { progress, receipt, error }).map(Response::new)
    }

    async fn get_restore(&self, request: Request<GetRestoreRequest>) -> Result<Response<Restore>, Status> {
        let restore = self.shared.ledger.watch(&request.into_inner().id)?.borrow().clone();
        Ok(Response::new(restore))
    }

    async fn list_restores(&self, request: Request<ListRestoresRequest>) -> Result<Response<ListRestoresResponse>, Status> {
        let mut request = request.into_inner();
        let count = page::size(std::mem::take(&mut request.page_size), RESTORES.0, RESTORES.1);
        let token = std::mem::take(&mut request.page_token);
        let position = self.shared.pages.position(&request, &token)?;
        let after = position.map(|position| String::from_utf8_lossy(&position.after).into_owned());
        let restores = self.shared.ledger.page(after.as_deref(), count);
        let next = restores.last().filter(|_| restores.len() == count).map(|last| {
            self.shared.pages.token(&request, Position { after: last.id.clone().into_bytes(), ..Position::default() })
        });
        Ok(Response::new(ListRestoresResponse { restores, next_page_token: next.unwrap_or_default() }))
    }

    type WatchRestoreStream = Answers<Restore>;

    async fn watch_restore(&self, request: Request<GetRestoreRequest>) -> Result<Response<Self::WatchRestoreStream>, Status> {
        let deadline = deadline(&request);
        let mut told = self.shared.ledger.watch(&request.into_inner().id)?;
        told.mark_changed();
        let changes = stream::unfold(Some(told), |told| async {
            let mut told = told?;
            told.changed().await.ok()?;
            let restore = told.borrow_and_update().clone();
            let goes_on = restore.phase() == RestorePhase::Running;
            Some((Ok(restore), goes_on.then_some(told)))
        });
        Ok(Response::new(until(changes, self.stop.clone(), deadline)))
    }
}

impl Api {
    /// Pins the checkpoint, grants the right to read it, and writes the restore down.
    async fn begin(&self, found: Found, target: String) -> Result<CreateRestoreResponse, Status> {
        let id = self.shared.random_id()?;
        let created = self.shared.clock.now();
        let Found { place, entry, checkpoint } = found;
        let repository = self.shared.catalog.repository();
        let pinned = snapshot::pin(repository, &place.log, entry.record.sequence, Purpose::Restore, id, created).await;
        let pin = (place.log.clone(), pinned.map_err(status::store)?.number);
        let (granted, grant) = match self.shared.grant(&place, false, None).await {
            Ok(granted) => granted,
            Err(status) => {
                self.unpin(&pin).await;
                return Err(status);
            }
        };
        let opening = Box::new(Opening { id: hex::encode(id), checkpoint, target, created, grant, pin });
        match self.shared.ledger.open(opening, &self.shared.tasks, self.shared.stop.clone()) {
            Ok(restore) => Ok(CreateRestoreResponse { restore: Some(restore), grant: Some(granted) }),
            Err(opening) => {
                self.shared.grants.lock().unwrap_or_else(PoisonError::into_inner).revoke(opening.grant);
                self.unpin(&opening.pin).await;
                Err(status::busy("restores"))
            }
        }
    }

    async fn unpin(&self, (log, pin): &(holdfast_store::log::Log, u64)) {
        if let Err(error) = snapshot::unpin(log, *pin).await {
            tracing::warn!(pin, %error, "the pin of a restore that did not begin stays");
        }
    }
}

fn text(text: &str, field: &str) -> Result<(), Status> {
    if text.len() > TEXT_MAX {
        return Err(status::invalid(field, format!("has {} bytes; {TEXT_MAX} are possible", text.len())));
    }
    Ok(())
}
