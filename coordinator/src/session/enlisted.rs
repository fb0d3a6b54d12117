// SPDX-License-Identifier: Apache-2.0
//! The agents that take part in a barrier, as whoever runs it sees them.

use super::Desk;
use crate::catalog::Key;
use holdfast_core::barrier::{Answer, BarrierId, Order};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is heard of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It answers.
    Answer(BarrierId, Answer),
    /// It has opened its session anew.
    Back,
    /// Another process is there in its place, or one is there now that was not.
    Another,
    /// Its session has ended: it goes on, if it was at rest.
    Gone,
}

/// Members; dropped, nobody listens to them any more.
#[derive(Debug)]
pub(crate) struct Enlisted {
    desks: Vec<Arc<Desk>>,
    members: BTreeSet<Key>,
    heard: mpsc::Receiver<(Key, Told)>,
}

impl Enlisted {
    /// Takes the agents of some lineages that can take part into a barrier, wherever each has its session. Of one that has none it is told should it come.
    /// What was enlisted before hears no more.
    pub(crate) fn of(desks: Vec<Arc<Desk>>, keys: &BTreeSet<Key>) -> Self {
        let (told, heard) = mpsc::channel(queue(keys.len()));
        let members = desks.iter().flat_map(|desk| desk.enlist(keys, &told)).collect();
        Self { desks, members, heard }
    }

    pub(crate) const fn members(&self) -> &BTreeSet<Key> {
        &self.members
    }

    pub(crate) fn tell(&self, member: Key, id: BarrierId, order: Order) {
        for desk in &self.desks {
            desk.order(member, id, order);
        }
    }

    /// The next thing that is heard of a member. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> (Key, Told) {
        match self.heard.recv().await {
            Some(heard) => heard,
            // another barrier has taken over: this one ends by its clock
            None => std::future::pending().await,
        }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.desks.iter().for_each(|desk| desk.dismiss());
    }
}

/// What so many members may say before it is heard: some answers to each of the orders, and a few for sessions that come and go.
const fn queue(members: usize) -> usize {
    64 + members * 16
}
