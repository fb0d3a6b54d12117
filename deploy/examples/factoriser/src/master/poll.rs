// SPDX-License-Identifier: Apache-2.0
//! A round of questions to all workers, and of what is to be told to them.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::Client;
use crate::report::Report;

use super::board::{Board, Order};
use super::lock;

pub(super) struct Poll {
    client: Client,
    board: Arc<Mutex<Board>>,
}

impl Poll {
    pub(super) fn new(board: Arc<Mutex<Board>>) -> Self {
        Self { client: Client::new(), board }
    }

    /// Asks every worker at once, and tells those that don't know what they should. A worker that doesn't answer costs the
    /// round the client's patience; one that misses what it is told is told again next round.
    pub(super) async fn round(&self) {
        let mut questions = JoinSet::new();
        for (index, url) in lock(&self.board).urls().enumerate() {
            let (client, url) = (self.client.clone(), format!("{url}/progress?master=true"));
            questions.spawn(async move { (index, client.get::<Report>(&url).await) });
        }
        while let Some(answer) = questions.join_next().await {
            if let Ok((index, answer)) = answer {
                lock(&self.board).take(index, answer.map_err(|error| error.to_string()), Instant::now());
            }
        }
        let mut orders = JoinSet::new();
        for (url, order) in lock(&self.board).orders(Instant::now()) {
            let client = self.client.clone();
            orders.spawn(async move {
                match order {
                    Order::Know(known) => client.post(&format!("{url}/known"), &known).await,
                    Order::Stop(stop) => client.post(&format!("{url}/stop"), &stop).await,
                }
            });
        }
        while orders.join_next().await.is_some() {}
    }
}
