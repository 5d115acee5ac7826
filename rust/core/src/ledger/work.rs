//! The plans that a handle works on, read once: what is recorded of a plan never changes, nor does a finished batch.

use std::collections::HashMap;
use std::sync::Arc;

use super::layout::Plan;

/// By iteration and purpose, the plan and the batch before which all are recorded.
#[derive(Debug, Default)]
pub(super) struct Work(HashMap<(i64, String), (Arc<Plan>, i64)>);

impl Work {
    pub(super) fn plan(&self, iteration: i64, purpose: &str) -> Option<Arc<Plan>> {
        let found = self.0.get(&(iteration, purpose.to_owned()));
        found.map(|(plan, _)| Arc::clone(plan))
    }

    pub(super) fn add(&mut self, plan: &Arc<Plan>) {
        let request = plan.request();
        let key = (request.iteration, request.purpose.clone());
        self.0.insert(key, (Arc::clone(plan), 0));
    }

    /// A batch of the plan before which all are recorded.
    pub(super) fn first_open(&self, iteration: i64, purpose: &str) -> i64 {
        let found = self.0.get(&(iteration, purpose.to_owned()));
        found.map_or(0, |(_, first_open)| *first_open)
    }

    pub(super) fn set_first_open(&mut self, iteration: i64, purpose: &str, batch: i64) {
        if let Some((_, first_open)) = self.0.get_mut(&(iteration, purpose.to_owned())) {
            *first_open = batch;
        }
    }
}
